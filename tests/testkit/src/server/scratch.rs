//! Temporary directories of servers, swept when their process could not remove them.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const LOCK: &str = "lock";

/// A directory that is removed at drop.
///
/// A process that dies leaves its directories behind; the next one to make some removes those. An open lock file
/// in each tells the living from the dead, whatever happens to process ids.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// A fresh directory whose name starts with `name`.
    ///
    /// # Errors
    ///
    /// When the temporary directory can't be written.
    pub fn new(name: &str) -> io::Result<Self> {
        let base = base()?;
        // Held from the making of a directory to its locking, so that no sweep sees it in between.
        let gate = File::create(base.join(LOCK))?;
        flock(&gate, FlockOperation::LockExclusive)?;
        sweep(&base);
        let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&base)?;
        let lock = File::create(directory.path().join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// One base per user: directories of others can't be removed anyway.
fn base() -> io::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let base = std::env::temp_dir().join(format!("registry-testkit-{user}"));
    DirBuilder::new().recursive(true).mode(0o700).create(&base)?;
    Ok(base)
}

/// Removes what nobody has locked. What can't be removed now is the next sweep's.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        let alive = File::open(path.join(LOCK))
            .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err());
        if !alive {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_spares_the_living_and_removes_the_dead() {
        let living = Scratch::new("living").unwrap();
        let dead = base().unwrap().join("dead-for-the-sweep");
        fs::create_dir_all(&dead).unwrap();
        fs::write(dead.join("data"), "left over").unwrap();
        let next = Scratch::new("next").unwrap();
        assert!(living.path().exists());
        assert!(!dead.exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }
}
