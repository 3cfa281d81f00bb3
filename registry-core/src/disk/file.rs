//! Reading and replacing one file that others may have tampered with.
//!
//! A write goes to a temporary file in the same directory, is synced, renamed over the old one, and the directory is
//! synced: after a crash the file is the old one or the new one, never a mixture. On Unix the first process that
//! saves a target holds a lock (`flock`) until it ends and is the only one that writes; others only read, and take
//! over when the lock is free. Elsewhere there is no lock, each process writes atomically, and owner and link checks
//! are left to the file system's own permissions.

use std::{
    fmt, fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use super::format::MAX_BYTES;

/// Why a file isn't used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(String);

impl Refusal {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a file that is plain, ours and small enough; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
    let file = match platform::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if platform::is_refused(&e) => return Err(Refusal::new(format!("it can't be opened: {e}"))),
        // Out of descriptors or memory: nothing is known about the file.
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "can't open a saved view");
            return Ok(None);
        }
    };
    let metadata = file.metadata().map_err(|e| Refusal::new(format!("it can't be examined: {e}")))?;
    if !metadata.is_file() {
        return Err(Refusal::new("it isn't a plain file"));
    }
    platform::check_owner(&metadata)?;
    let mut bytes = Vec::new();
    // The length above may lie by now; what is read is bounded all the same.
    let limit = MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|e| Refusal::new(format!("it can't be read: {e}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(Refusal::new("it is larger than 16 MiB"));
    }
    Ok(Some(bytes))
}

/// Moves a file out of the way, over the one that was moved before it.
pub(super) fn set_aside(path: &Path) {
    let aside = beside(path, "bad");
    if let Err(e) = fs::rename(path, &aside) {
        tracing::debug!(path = %path.display(), error = %e, "can't set a saved view aside");
    }
}

/// Makes sure that the directory is there and nobody else's.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    platform::create_directory(directory)?;
    platform::check_directory(directory)
}

/// Replaces the file, whole or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path, &platform::temporary_suffix());
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(e) = written {
        // The temporary may be what filled the disk.
        if let Err(e) = fs::remove_file(&temporary) {
            tracing::trace!(error = %e, "no temporary file to remove");
        }
        return Err(e);
    }
    path.parent().map_or(Ok(()), platform::sync_directory)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A crash may have left one; as the path is ours alone, it is replaced rather than followed.
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut file = platform::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The right to write one file, given up when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    #[cfg(unix)]
    _file: fs::File,
}

impl Lock {
    /// Takes the lock beside `path`; `None` if somebody else holds it.
    #[cfg(unix)]
    pub(super) fn acquire(path: &Path) -> io::Result<Option<Self>> {
        use rustix::fs::{FlockOperation, flock};

        let file = platform::open_or_create(&beside(path, "lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the same signature as where locks exist")]
    pub(super) fn acquire(_path: &Path) -> io::Result<Option<Self>> {
        Ok(Some(Self {}))
    }
}

#[cfg(unix)]
mod platform {
    use std::{
        fs, io,
        os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        path::Path,
    };

    use rustix::{fs::OFlags, io::Errno, process::geteuid};

    use super::Refusal;

    fn flags(flags: OFlags) -> i32 {
        flags.bits().cast_signed()
    }

    /// Non-blocking, as a FIFO in this place would block the open for ever.
    pub(super) fn open(path: &Path) -> io::Result<fs::File> {
        fs::OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path)
    }

    /// Whether opening failed for what stands there: a link, a socket, a file that isn't ours to read.
    pub(super) fn is_refused(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::PermissionDenied
            || matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::NXIO))
    }

    pub(super) fn create(path: &Path) -> io::Result<fs::File> {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    pub(super) fn open_or_create(path: &Path) -> io::Result<fs::File> {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(path)
    }

    pub(super) fn check_owner(metadata: &fs::Metadata) -> Result<(), Refusal> {
        if metadata.uid() != geteuid().as_raw() {
            return Err(Refusal::new("it belongs to another user"));
        }
        if metadata.nlink() > 1 {
            return Err(Refusal::new("it is linked from elsewhere"));
        }
        Ok(())
    }

    pub(super) fn create_directory(path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    pub(super) fn check_directory(path: &Path) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        if metadata.uid() != geteuid().as_raw() {
            return refused("the directory of saved views belongs to another user");
        }
        if metadata.mode() & 0o022 != 0 {
            return refused("others can write to the directory of saved views");
        }
        Ok(())
    }

    pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    /// Only the holder of the lock writes, so one name is enough, and a crash leaves at most one behind.
    pub(super) fn temporary_suffix() -> String {
        "tmp".to_owned()
    }
}

#[cfg(not(unix))]
mod platform {
    use std::{fs, io, path::Path};

    use super::Refusal;

    pub(super) fn open(path: &Path) -> io::Result<fs::File> {
        if fs::symlink_metadata(path)?.is_symlink() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a link"));
        }
        fs::File::open(path)
    }

    pub(super) fn is_refused(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::PermissionDenied
    }

    pub(super) fn create(path: &Path) -> io::Result<fs::File> {
        fs::OpenOptions::new().write(true).create_new(true).open(path)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the same signature as where owners exist")]
    pub(super) fn check_owner(_metadata: &fs::Metadata) -> Result<(), Refusal> {
        Ok(())
    }

    pub(super) fn create_directory(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the same signature as where owners exist")]
    pub(super) fn check_directory(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Directories can't be synced here; the rename is in the file system's own journal.
    #[expect(clippy::unnecessary_wraps, reason = "the same signature as where directories can be synced")]
    pub(super) fn sync_directory(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn temporary_suffix() -> String {
        format!("{}.tmp", std::process::id())
    }
}
