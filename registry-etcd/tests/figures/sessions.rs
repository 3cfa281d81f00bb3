//! A discovery that notes each watch session: when it was opened and from where, what it opened with, and its end.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use registry_core::{
    Discovery, Error, Target,
    backend::{Change, Cursor, Listing, Read, WatchStream},
};
use tokio::time::Instant;

/// One watch session so far.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) opened: Instant,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) began: Option<(Instant, Began)>,
    pub(crate) failed: Option<Instant>,
}

/// What a session opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Began {
    Listing,
    Resuming,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    all: Arc<Mutex<Vec<Session>>>,
    lookups: Arc<Mutex<usize>>,
}

impl Sessions {
    /// Notes what is asked of `inner`.
    pub(crate) fn noting(&self, inner: Arc<dyn Discovery>) -> Arc<dyn Discovery> {
        Arc::new(Noted { inner, sessions: self.clone() })
    }

    pub(crate) fn all(&self) -> Vec<Session> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn lookups(&self) -> usize {
        *self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that opened with a list.
    pub(crate) fn listings(&self) -> usize {
        self.all().iter().filter(|session| matches!(session.began, Some((_, Began::Listing)))).count()
    }

    fn edit<R>(&self, edit: impl FnOnce(&mut Vec<Session>) -> R) -> R {
        edit(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Noted {
    inner: Arc<dyn Discovery>,
    sessions: Sessions,
}

#[async_trait]
impl Discovery for Noted {
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error> {
        *self.sessions.lookups.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.inner.lookup(target, read).await
    }

    fn watch(&self, target: &Target, cursor: Option<Cursor>) -> WatchStream {
        let sessions = self.sessions.clone();
        let number = sessions.edit(|all| {
            all.push(Session { opened: Instant::now(), cursor: cursor.clone(), began: None, failed: None });
            all.len() - 1
        });
        let stream = self.inner.watch(target, cursor).inspect(move |item| {
            let now = Instant::now();
            sessions.edit(|all| match item {
                Ok(event) => match event.changes.first() {
                    Some(Change::Reset(_)) => all[number].began = Some((now, Began::Listing)),
                    Some(Change::Resumed) => all[number].began = Some((now, Began::Resuming)),
                    _ => {}
                },
                Err(_) => all[number].failed = Some(now),
            });
        });
        Box::pin(stream)
    }
}
