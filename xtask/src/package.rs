//! Assembling the published crates.

use std::path::Path;
use std::process::Command;

use crate::failure::Result;
use crate::metadata::Metadata;
use crate::process::{cargo, run};

/// Assembles every published crate without compiling it: manifests, included files and versions.
///
/// # Errors
///
/// If cargo refuses one.
pub(crate) fn assemble(root: &Path) -> Result<()> {
    // A working copy may be dirty between two commits; what is published goes through `verify`.
    run(package(root)?.args(["--allow-dirty", "--no-verify"]))
}

/// Assembles every published crate and compiles each from its package, as crates.io's users will.
///
/// # Errors
///
/// If cargo refuses one, or the working copy is not what is committed.
pub(crate) fn verify(root: &Path) -> Result<()> {
    run(&mut package(root)?)
}

fn package(root: &Path) -> Result<Command> {
    let mut command = cargo(root);
    command.arg("package");
    for published in Metadata::load(root)?.packages().filter(|package| package.published) {
        command.args(["--package", &published.name]);
    }
    Ok(command)
}
