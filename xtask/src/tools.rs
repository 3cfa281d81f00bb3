//! The programs that have to be there: `protoc` and Go, and how they get there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::process::{capture, find_program, run};
use crate::version::Version;

/// The oldest Go that builds the servers' wrapper modules.
pub(crate) const GO_FLOOR: Version = Version::new(1, 26, 0);

/// Makes sure that there is a working `protoc`, which `etcd-client` needs to compile, and returns its version.
///
/// # Errors
///
/// If there is none and it cannot be installed from here; the message names the package.
pub(crate) fn protoc() -> Result<Version> {
    if let Some(program) = protoc_program() {
        return probe_protoc(&program);
    }
    // Two packages: Debian keeps the proto files that etcd's own import apart from the compiler.
    apt_install(&["protobuf-compiler", "libprotobuf-dev"]).map_err(|why| {
        Failure::new(format!(
            "protoc is missing and {why}; install it (Debian, Ubuntu: protobuf-compiler libprotobuf-dev; Fedora: \
             protobuf-compiler protobuf-devel; Alpine: protoc protobuf-dev; Homebrew: protobuf; winget: \
             Google.Protobuf) or point PROTOC at it"
        ))
    })?;
    let program = protoc_program()
        .ok_or_else(|| Failure::new("protobuf-compiler was installed, yet there is no protoc"))?;
    probe_protoc(&program)
}

fn protoc_program() -> Option<PathBuf> {
    env::var_os("PROTOC").map(PathBuf::from).or_else(|| find_program("protoc"))
}

/// Compiles one file that imports a well-known type: a `protoc` without its include files would only be noticed deep
/// in the build of a dependency.
fn probe_protoc(program: &Path) -> Result<Version> {
    let directory = env::temp_dir().join(format!("service-registry-protoc-{}", std::process::id()));
    let probe = || {
        fs::create_dir_all(&directory).map_err(|error| Failure::file("create", &directory, &error))?;
        let file = directory.join("probe.proto");
        fs::write(&file, "syntax = \"proto3\";\nimport \"google/protobuf/descriptor.proto\";\n")
            .map_err(|error| Failure::file("write", &file, &error))?;
        let mut command = Command::new(program);
        command
            .arg("-I")
            .arg(&directory)
            .arg("--descriptor_set_out")
            .arg(directory.join("probe.bin"))
            .arg(&file);
        capture(&mut command).map_err(|failure| {
            Failure::new(format!(
                "protoc lacks its include files (Debian, Ubuntu: libprotobuf-dev): {failure}"
            ))
        })
    };
    let probed = probe();
    // Left-overs in the temporary directory do no harm.
    let _ = fs::remove_dir_all(&directory);
    probed?;

    let text = capture(Command::new(program).arg("--version"))?;
    Version::find(&text).ok_or_else(|| Failure::new(format!("no version in what protoc says: {text:?}")))
}

/// Go, if it is recent enough to build the servers.
///
/// # Errors
///
/// If there is none or it is too old.
pub(crate) fn go() -> Result<PathBuf> {
    let program = find_program("go")
        .ok_or_else(|| Failure::new(format!("there is no Go (>= {GO_FLOOR} is needed)")))?;
    // `local`: the version that is installed, not one that Go would download to please a go.mod.
    let text = capture(Command::new(&program).env("GOTOOLCHAIN", "local").args(["env", "GOVERSION"]))?;
    judge_go(&text)?;
    Ok(program)
}

fn judge_go(text: &str) -> Result<Version> {
    match Version::find(text) {
        Some(version) if version >= GO_FLOOR => Ok(version),
        Some(version) => Err(Failure::new(format!("Go is {version} (>= {GO_FLOOR} is needed)"))),
        None => Err(Failure::new(format!("Go says {:?} (>= {GO_FLOOR} is needed)", text.trim()))),
    }
}

/// Installs distribution packages, where that is possible without asking anybody.
///
/// # Errors
///
/// If this is not a Debian-like system, we are not root, or the installation fails.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    if find_program("apt-get").is_none() {
        return Err(Failure::new("there is no apt-get to install it with"));
    }
    if capture(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(Failure::new("only root may install it"));
    }
    println!("installing {}", packages.join(" "));
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages))
}

#[cfg(test)]
mod tests {
    use super::judge_go;

    #[test]
    fn a_go_that_is_too_old_is_refused_with_its_version() {
        assert!(judge_go("go1.26.8\n").is_ok());
        assert!(judge_go("go1.27rc1\n").is_ok());
        let failure = judge_go("go1.19.8\n").expect_err("1.19 cannot build the servers");
        assert!(failure.to_string().contains("1.19.8"), "{failure}");
        assert!(judge_go("devel +abcdef\n").is_err());
    }
}
