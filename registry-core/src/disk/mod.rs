//! The disk view: the last good view of each target, so that a cold start works while the registry is down.
//!
//! Off unless a directory is configured. One file per target; see [`format`](mod@format) for what is in it and
//! [`file`](mod@file) for how it is written and what is refused. Everything here blocks: the public methods run it on tokio's
//! blocking threads.

mod file;
mod format;
mod name;
mod schedule;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use self::schedule::SaveSchedule;
use self::{file::Refusal, format::Title};
use crate::{
    Error, ErrorKind,
    backend::SourceId,
    model::{Instance, Target},
};

/// A file older than this isn't served: its addresses probably belong to somebody else by now.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A view as it is saved: after the guard, held instances included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) source: Option<SourceId>,
    pub(crate) revision: Option<u64>,
    /// When the registry last proved this view current, by the wall clock since the Unix epoch.
    pub(crate) written_at: Duration,
}

/// A directory of saved views. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DiskView(Arc<Directory>);

struct Directory {
    path: PathBuf,
    /// What distinguishes equal targets: the backend's name and the namespace.
    scope: String,
    set_aside: AtomicU64,
}

/// The file of one target.
#[derive(Clone, Debug)]
pub(crate) struct DiskFile(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    view: DiskView,
    title: Title,
    path: PathBuf,
    /// Kept while this process is the one that writes the file. Also serialises our own access.
    lock: Mutex<Option<file::Lock>>,
}

impl DiskView {
    /// Saves below `directory`, which should be of its own: it is created with mode 0700, and refused if it belongs
    /// to another user or others can write to it. `scope` tells apart equal targets of several registries.
    pub(crate) fn new(directory: impl Into<PathBuf>, scope: impl Into<String>) -> Self {
        let path = directory.into();
        Self(Arc::new(Directory { path, scope: scope.into(), set_aside: AtomicU64::new(0) }))
    }

    /// How many files were set aside as unusable.
    #[cfg(test)]
    pub(crate) fn set_aside(&self) -> u64 {
        self.0.set_aside.load(Ordering::Relaxed)
    }

    /// The file of one target.
    pub(crate) fn file(&self, target: &Target) -> DiskFile {
        let title = Title::new(&self.0.scope, target);
        let path = self.0.path.join(name::of(&title));
        DiskFile(Arc::new(Slot { view: self.clone(), title, path, lock: Mutex::new(None) }))
    }
}

impl fmt::Debug for DiskView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskView").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl DiskFile {
    /// Reads the view, if there is a usable one at `now` (wall clock). An unusable one is set aside.
    pub(crate) async fn load(&self, now: Duration) -> Option<Stored> {
        let slot = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || slot.load(now)).await.ok().flatten()
    }

    /// Writes the view, unless another process is the one that writes this file.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] with what kept the file from being written; the old file is intact.
    pub(crate) async fn save(&self, stored: Stored) -> Result<(), Error> {
        let slot = Arc::clone(&self.0);
        let saved = tokio::task::spawn_blocking(move || slot.save(&stored)).await;
        saved.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Unavailable, "saving the view panicked").with_source(e))
        })
    }
}

impl Slot {
    fn load(&self, now: Duration) -> Option<Stored> {
        let _serial = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = match self.read(now) {
            Ok(stored) => return stored,
            Err(refusal) => refusal,
        };
        let service = self.title.service();
        tracing::warn!(service, path = %self.path.display(), reason = %refusal, "set a saved view aside");
        self.view.0.set_aside.fetch_add(1, Ordering::Relaxed);
        file::set_aside(&self.path);
        None
    }

    fn read(&self, now: Duration) -> Result<Option<Stored>, Refusal> {
        let Some(bytes) = file::read(&self.path)? else { return Ok(None) };
        let (stored, skipped) = format::decode(&bytes, &self.title)?;
        if now.saturating_sub(stored.written_at) > MAX_AGE {
            return Err(Refusal::new("it is older than a day"));
        }
        if skipped > 0 {
            tracing::warn!(
                service = self.title.service(),
                skipped,
                "skipped unreadable records of a saved view"
            );
        }
        Ok(Some(stored))
    }

    fn save(&self, stored: &Stored) -> Result<(), Error> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e: std::io::Error| {
            let message = format!("can't save the view of {}", self.title.service());
            Error::new(ErrorKind::Unavailable, message).with_source(e)
        };
        let bytes = format::encode(stored, &self.title)?;
        file::prepare(&self.view.0.path).map_err(failed)?;
        if lock.is_none() {
            *lock = file::Lock::acquire(&self.path).map_err(failed)?;
            if lock.is_none() {
                tracing::debug!(service = self.title.service(), "another process saves this view");
                return Ok(());
            }
        }
        file::replace(&self.path, &bytes).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
