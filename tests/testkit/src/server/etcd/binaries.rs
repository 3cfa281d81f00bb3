//! Where the etcd binaries are.

use std::env;
use std::path::{Path, PathBuf};

use crate::server::{ServerError, installed};

/// `etcd` and `etcdctl`.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) etcd: PathBuf,
    pub(crate) etcdctl: PathBuf,
}

impl Binaries {
    /// Looks at the environment first, then on the path, then where `cargo xtask servers` builds.
    pub(crate) fn find() -> Result<Self, ServerError> {
        let etcd = find("etcd", "SERVICE_REGISTRY_ETCD", None)?;
        let etcdctl = find("etcdctl", "SERVICE_REGISTRY_ETCDCTL", etcd.parent())?;
        Ok(Self { etcd, etcdctl })
    }
}

fn find(name: &str, variable: &str, sibling: Option<&Path>) -> Result<PathBuf, ServerError> {
    if let Some(path) = installed::from_environment(variable)? {
        return Ok(path);
    }
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let places: Vec<PathBuf> = sibling
        .map(Path::to_owned)
        .into_iter()
        .chain::<Vec<PathBuf>>(on_path)
        .chain(installed::built("etcd36"))
        .collect();
    places.iter().map(|place| place.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        ServerError::new(format!(
            "no {name} found: build it with `cargo xtask servers`, or set {variable}, or put it on PATH"
        ))
    })
}
