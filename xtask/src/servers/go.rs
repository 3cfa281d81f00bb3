//! Servers written in Go: wrapper modules without source of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cache;
use super::programs;
use super::recipe::Binary;
use crate::failure::{Failure, Result};
use crate::process::{capture, run};
use crate::version::Version;

/// Compiles each package.
pub(super) fn build(binaries: &[Binary], module: &Path, into: &Path) -> Result<()> {
    let go = programs::go()?;
    binaries.iter().try_for_each(|binary| {
        run(&mut compile(&go, module, &binary.path(into), binary.package))
            .map_err(|failure| Failure::new(format!("{failure} (is the Go module proxy reachable?)")))
    })
}

fn compile(go: &Path, module: &Path, output: &Path, package: &str) -> Command {
    let mut command = Command::new(go);
    command
        .current_dir(module)
        // Exactly what the lock files say, with the compiler that is installed, linked to nothing of this system.
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
        .arg(output)
        .arg(package);
    command
}

/// The two files that fix everything that goes into a server.
pub(super) fn key(module: &Path) -> Result<u64> {
    let files = ["go.mod", "go.sum"].map(|name| read(module, name));
    let [module, sums] = files;
    Ok(cache::key([module?.as_bytes(), sums?.as_bytes()]))
}

/// The version that the lock file asks for.
pub(super) fn locked(module: &Path, package: &str) -> Result<Version> {
    required(&read(module, "go.mod")?, package)
}

fn required(module: &str, package: &str) -> Result<Version> {
    let wanted = |line: &&str| line.trim_start().split(' ').next() == Some(package) && line.contains(" v");
    module
        .lines()
        .find(wanted)
        .and_then(|line| line.rsplit_once(" v"))
        .and_then(|(_, version)| Version::find(version))
        .ok_or_else(|| Failure::new(format!("go.mod requires no version of {package}")))
}

/// What a program says it is.
pub(super) fn version_of(program: &Path, argument: &str) -> Result<Version> {
    let text = capture(Command::new(program).arg(argument))?;
    Version::find(&text)
        .ok_or_else(|| Failure::new(format!("no version in what {} says: {text:?}", program.display())))
}

fn read(module: &Path, name: &str) -> Result<String> {
    let path = module.join(name);
    fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))
}

#[cfg(test)]
mod tests {
    use super::required;
    use crate::version::Version;

    const MODULE: &str = "go 1.26.0\n\ntool go.etcd.io/etcd/server/v3\n\nrequire (\n\tgo.etcd.io/etcd/api/v3 v3.6.1\n\tgo.etcd.io/etcd/server/v3 v3.6.16\n)\n";

    #[test]
    fn the_locked_version_is_read_from_the_requirement() {
        let version = required(MODULE, "go.etcd.io/etcd/server/v3").expect("it is required");
        assert_eq!(version, Version::new(3, 6, 16));
        assert!(required(MODULE, "go.etcd.io/etcd/raft/v3").is_err());
    }
}
