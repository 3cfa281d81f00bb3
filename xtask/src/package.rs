//! Assembling the published crates.

use std::path::Path;

use crate::failure::Result;
use crate::process::{cargo, run};

/// Assembles every published crate without compiling it: manifests, included files and versions.
///
/// # Errors
///
/// If cargo refuses one.
pub(crate) fn assemble(root: &Path) -> Result<()> {
    // A working copy may be dirty between two commits; what is published goes through `verify`.
    run(cargo(root).args(["package", "--workspace", "--exclude", "xtask", "--allow-dirty", "--no-verify"]))
}

/// Assembles every published crate and compiles each from its package, as crates.io's users will.
///
/// # Errors
///
/// If cargo refuses one, or the working copy is not what is committed.
pub(crate) fn verify(root: &Path) -> Result<()> {
    run(cargo(root).args(["package", "--workspace", "--exclude", "xtask"]))
}
