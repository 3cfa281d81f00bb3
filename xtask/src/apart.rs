//! Published crates with a workspace and a lock file of their own, because of what their dependencies bring.

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::process::{cargo, find_program, run, stream};
use crate::tally::Tally;

/// Their directories.
const APART: [&str; 1] = ["registry-pingora"];

/// Why they can't be built here, if they can't.
pub(crate) fn obstacle() -> Option<&'static str> {
    find_program("cmake")
        .is_none()
        .then_some("cmake is missing, which a dependency of pingora needs (Debian: cmake)")
}

/// Formatting, lints and tests of each, as the workspace's own steps do it.
///
/// # Errors
///
/// If cargo can't be started; the second result says what doesn't hold.
pub(crate) fn check(root: &Path) -> Result<(Tally, Result<()>)> {
    let mut tally = Tally::default();
    for name in APART {
        let at = |arguments: &[&str]| {
            let mut command = cargo(root);
            command.args(arguments).arg("--manifest-path").arg(root.join(name).join("Cargo.toml"));
            command
        };
        run(at(&["fmt"]).args(["--", "--check"]))?;
        run(at(&["clippy", "--locked", "--all-targets"]).args(["--", "-D", "warnings"]))?;
        if !stream(&mut at(&["test", "--locked", "--no-fail-fast"]), |line| tally.read(line))? {
            return Ok((tally, Err(Failure::new(format!("the tests of {name} failed")))));
        }
    }
    Ok((tally, Ok(())))
}
