//! Whether a request's body was read.
//!
//! Who sends a request asks its body for the first frame, or at least whether there is one. That is as far as an empty
//! body's traces go: nobody reads it.

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

/// Whether somebody has begun to read the body, or has found it empty.
#[derive(Clone, Debug)]
pub(super) struct Read(Arc<AtomicBool>);

/// A body that notes when it is looked at.
#[derive(Debug)]
pub(super) struct Watched {
    body: Replay<Source>,
    read: Read,
}

impl Read {
    pub(super) fn watch(body: Replay<Source>) -> (Self, Watched) {
        let read = Self(Arc::default());
        (read.clone(), Watched { body, read })
    }

    /// Whether nobody has begun to send the request: then no answer can have come, and no redirect.
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
        // Who asks in vain, before there is a connection, costs a retry and nothing else.
        self.read.0.store(true, Ordering::SeqCst);
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
