//! Whether a request was sent.
//!
//! ```text
//! Waiting ── the transport reads the body's first frame ──> Sent
//!    └────── the attempt gives up ──> Abandoned: the transport gets an error instead of a body
//! ```
//!
//! A gRPC request is only processed once its message has arrived, and tonic sends the message with the body. So a body
//! that was never read is a request that nobody has processed, whatever the error says.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use ::tonic::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::{BoxError, Replay};

const WAITING: u8 = 0;
const SENT: u8 = 1;
const ABANDONED: u8 = 2;

/// How far one attempt got.
#[derive(Clone, Debug)]
pub(super) struct Sent(Arc<AtomicU8>);

/// A request's body that notes when it is read.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Replay<Body>,
    sent: Sent,
}

impl Sent {
    /// The body to send and how far it got.
    pub(super) fn watch(body: Replay<Body>) -> (Self, Outgoing) {
        // Nothing will be read of an empty one: it counts as sent, which only costs a retry.
        let sent = Self(Arc::new(AtomicU8::new(if body.is_end_stream() { SENT } else { WAITING })));
        (sent.clone(), Outgoing { body, sent })
    }

    /// Gives up if nothing was sent; whether nothing was. From then on nothing will be.
    pub(super) fn abandon(&self) -> bool {
        self.0.compare_exchange(WAITING, ABANDONED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Begins to send, unless it was abandoned.
    fn begin(&self) -> bool {
        match self.0.compare_exchange(WAITING, SENT, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(found) => found == SENT,
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if !this.sent.begin() {
            return Poll::Ready(Some(Err("the attempt was given up before it was sent".into())));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn watched(bytes: &'static [u8]) -> (Sent, Outgoing) {
        Sent::watch(Replay::new(Body::new(Full::new(Bytes::from_static(bytes))), 1_000))
    }

    #[tokio::test]
    async fn what_was_not_read_can_be_abandoned_and_is_not_read_any_more() {
        let (sent, mut body) = watched(b"a message");
        assert!(sent.abandon());
        assert!(!sent.abandon());
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_was_read_is_sent() {
        let (sent, mut body) = watched(b"a message");
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a message");
        assert!(!sent.abandon());
    }

    #[test]
    fn an_empty_body_counts_as_sent() {
        assert!(!watched(b"").0.abandon());
    }
}
