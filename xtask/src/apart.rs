//! Published crates with a workspace and a lock file of their own, because of what their dependencies bring.

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::process::{cargo, find_program, run, stream};
use crate::tally::Tally;
use crate::tools::apt_install;

/// Their directories.
const APART: [&str; 1] = ["registry-pingora"];

/// Installs cmake, which a dependency of pingora needs, unless it is there.
///
/// # Errors
///
/// If it can't be installed.
pub(crate) fn prepare() -> Result<()> {
    if find_program("cmake").is_some() {
        return Ok(());
    }
    apt_install(&["cmake", "make", "g++"])
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
        let mut tests = at(&["test", "--locked", "--no-fail-fast"]);
        if !stream(&mut tests, &mut Output::Shown, |line| tally.read(line))? {
            return Ok((tally, Err(Failure::new(format!("the tests of {name} failed")))));
        }
    }
    Ok((tally, Ok(())))
}
