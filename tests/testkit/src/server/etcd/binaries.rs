//! Where the etcd binaries are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::server::ServerError;

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
    if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(path);
        }
        return Err(ServerError::new(format!("{variable} names no file: {}", path.display())));
    }
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let places: Vec<PathBuf> =
        sibling.map(Path::to_owned).into_iter().chain::<Vec<PathBuf>>(on_path).chain(built()).collect();
    places.iter().map(|place| place.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        ServerError::new(format!(
            "no {name} found: build it with `cargo xtask servers`, or set {variable}, or put it on PATH"
        ))
    })
}

/// The directories `cargo xtask servers` leaves behind, the newest first: one per state of the lock files.
fn built() -> Vec<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let Some(servers) = cache.map(|cache| cache.join("service-registry").join("servers")) else {
        return Vec::new();
    };
    let mut found: Vec<_> = fs::read_dir(servers)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("etcd36-"))
        .collect();
    found.sort_by_key(|entry| std::cmp::Reverse(entry.metadata().and_then(|data| data.modified()).ok()));
    found.into_iter().map(|entry| entry.path()).collect()
}
