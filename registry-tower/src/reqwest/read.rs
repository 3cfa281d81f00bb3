//! Whether a request's body was read.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::Body as Source;

use crate::{BoxError, replay::Replay};

/// Whether somebody has begun to read the body, or might have read it if it weren't empty.
#[derive(Clone, Debug)]
pub(super) struct Read(Arc<AtomicBool>);

/// A body that notes when it is read.
#[derive(Debug)]
pub(super) struct Watched {
    body: Replay<Source>,
    read: Read,
}

impl Read {
    pub(super) fn watch(body: Replay<Source>) -> (Self, Watched) {
        let read = Self(Arc::new(AtomicBool::new(body.is_end_stream())));
        (read.clone(), Watched { body, read })
    }

    /// Whether there is a body that nobody has read: then no answer can have come, and no redirect.
    pub(super) fn is_untouched(&self) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        this.read.0.store(true, Ordering::SeqCst);
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
