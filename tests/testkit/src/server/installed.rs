//! Where servers are found: where the environment says, or where `cargo xtask servers` leaves them.

use std::env;
use std::fs;
use std::path::PathBuf;

use crate::server::ServerError;

/// `file` of the server `name`: the environment's `variable` names the file itself, else the cache has it.
pub(crate) fn file(name: &str, file: &str, variable: &str) -> Result<PathBuf, ServerError> {
    if let Some(path) = from_environment(variable)? {
        return Ok(path);
    }
    built(name).into_iter().map(|place| place.join(file)).find(|path| path.is_file()).ok_or_else(|| {
        ServerError::new(format!(
            "no {name} found: build it with `cargo xtask servers {name}`, or set {variable}"
        ))
    })
}

/// The file a variable names, when it is set.
pub(crate) fn from_environment(variable: &str) -> Result<Option<PathBuf>, ServerError> {
    let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(None);
    };
    if path.is_file() {
        Ok(Some(path))
    } else {
        Err(ServerError::new(format!("{variable} names no file: {}", path.display())))
    }
}

/// The directories `cargo xtask servers` leaves behind, the newest first: one per state of the lock files.
pub(crate) fn built(name: &str) -> Vec<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let Some(servers) = cache.map(|cache| cache.join("service-registry").join("servers")) else {
        return Vec::new();
    };
    let complete = |file: &str| {
        // A hash and nothing behind it: what is being built carries an extension.
        file.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|hash| !hash.contains('.'))
    };
    let mut found: Vec<_> = fs::read_dir(servers)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| complete(&entry.file_name().to_string_lossy()))
        .collect();
    found.sort_by_key(|entry| std::cmp::Reverse(entry.metadata().and_then(|data| data.modified()).ok()));
    found.into_iter().map(|entry| entry.path()).collect()
}
