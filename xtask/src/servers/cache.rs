//! Where servers are kept.
//!
//! The cache's key is the hash of everything that a server is built from, so another version is another directory and
//! `cargo clean` costs no rebuild. A build goes to a temporary name and is renamed when it is complete: an interrupted
//! one leaves nothing that could be taken for a server.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::recipe::Recipe;
use crate::failure::{Failure, Result};

/// The directory with a directory per server.
pub(super) fn directory() -> Result<PathBuf> {
    let directory = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    directory("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| directory("HOME").or_else(|| directory("USERPROFILE")).map(|home| home.join(".cache")))
        .map(|cache| cache.join("service-registry").join("servers"))
        .ok_or_else(|| Failure::new("neither XDG_CACHE_HOME nor HOME says where built servers may be kept"))
}

/// Builds into a temporary name and renames it to `home`.
pub(super) fn fill(home: &Path, recipe: &Recipe, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    println!(
        "building {} {} (once; usually {} on two cores with empty caches) into {}",
        recipe.title(),
        recipe.line,
        recipe.usual_duration,
        home.display()
    );
    // The process id keeps two builders apart that started at the same time.
    let unfinished = home.with_extension(format!("building-{}", std::process::id()));
    fs::create_dir_all(&unfinished).map_err(|error| Failure::file("create", &unfinished, &error))?;
    let built = build(&unfinished).map_err(|failure| {
        Failure::new(format!("{} {} cannot be built: {failure}", recipe.title(), recipe.line))
    });
    let finished = built.and_then(|()| {
        match fs::rename(&unfinished, home) {
            // Somebody else was faster with the same source: theirs is as good.
            Err(_) if home.is_dir() => fs::remove_dir_all(&unfinished),
            renamed => renamed,
        }
        .map_err(|error| Failure::file("move the finished build to", home, &error))
    });
    if finished.is_err() {
        // Best effort: the failure to report is the build's.
        let _ = fs::remove_dir_all(&unfinished);
    }
    finished
}

/// FNV-1a over `parts`, each ended by a zero: the key must be the same in every release of the compiler, which the
/// standard hasher does not promise.
pub(super) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    parts.into_iter().enumerate().fold(START, |hash, (number, part)| {
        let hash = if number == 0 { hash } else { add(hash, &0) };
        part.iter().fold(hash, add)
    })
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn any_change_of_a_part_is_another_key() {
        let of = |parts: [&str; 2]| key(parts.map(str::as_bytes));
        assert_eq!(of(["a", "b"]), of(["a", "b"]));
        assert_ne!(of(["a", "b"]), of(["a", "c"]));
        assert_ne!(of(["a", "b"]), of(["x", "b"]));
        assert_ne!(of(["ab", ""]), of(["a", "b"]));
    }
}
