//! The distribution's etcd, where no Go could build one.

use std::path::Path;

use super::{ETCD_NEWEST, Missing, Server, ensure, go};
use crate::failure::{Failure, Result};
use crate::process::find_program;
use crate::tools::{GO_FLOOR, apt_install};

/// The server of the newest line; the distribution's where no Go could build it.
///
/// # Errors
///
/// If there is neither.
pub(crate) fn newest_or_distribution(root: &Path) -> Result<Server> {
    match ensure(root, &ETCD_NEWEST) {
        Ok(server) => Ok(server),
        Err(Missing::Builder(why)) => {
            println!("{why}: the distribution's etcd instead");
            distribution()
        }
        Err(Missing::Build(why)) => Err(why),
    }
}

/// The distribution's server, installed first if it is not there and we may.
///
/// # Errors
///
/// If there is none; the message names the packages.
pub(crate) fn distribution() -> Result<Server> {
    if find_program("etcd").is_none() || find_program("etcdctl").is_none() {
        apt_install(&["etcd-server", "etcd-client"]).map_err(|why| {
            Failure::new(format!(
                "there is no etcd and {why}; install Go >= {GO_FLOOR} to build it, or etcd (Debian, Ubuntu: \
                 etcd-server etcd-client; Fedora, Homebrew: etcd)"
            ))
        })?;
    }
    let program = |name: &str| {
        find_program(name).ok_or_else(|| Failure::new(format!("there is still no {name} on the PATH")))
    };
    let etcd = program("etcd")?;
    let version = go::version_of(&etcd, "--version")?;
    let programs = vec![("SERVICE_REGISTRY_ETCD", etcd), ("SERVICE_REGISTRY_ETCDCTL", program("etcdctl")?)];
    Ok(Server { version, programs })
}
