//! A network of its own, in which there is nothing but the loopback: for servers that insist on listening everywhere.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::process::{capture, find_program};
use crate::tools::apt_install;

/// The script that makes such a network and runs a command in it.
#[derive(Debug, Clone)]
pub(crate) struct Apart {
    script: PathBuf,
}

impl Apart {
    /// Tries it.
    ///
    /// # Errors
    ///
    /// If this system does not let us; the message names the reason and the packages.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        if find_program("ip").is_none() {
            // What fails here fails below too, where there is more to say.
            let _ = apt_install(&["iproute2"]);
        }
        let apart = Self { script: root.join("tests").join("servers").join("apart") };
        capture(&mut apart.command(OsStr::new("true"))).map_err(|failure| {
            Failure::new(format!(
                "there is no way to a network of its own, which Nacos needs as it listens on every address: it takes \
                 Linux, util-linux and iproute2 (Debian, Ubuntu, Alpine: iproute2; Fedora: iproute), and a system that \
                 allows user namespaces (in a container: --privileged; Ubuntu: sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0): {failure}"
            ))
        })?;
        Ok(apart)
    }

    /// Runs a program there.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.script);
        command.arg(program);
        command
    }

    /// Lets cargo run every test program there.
    pub(crate) fn runner(&self) -> String {
        // A literal string of TOML: nothing in it is special.
        format!("target.'cfg(unix)'.runner='{}'", self.script.display())
    }
}
