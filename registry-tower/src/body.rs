//! A body that holds something until its end.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use registry_core::balance::Failure;

/// What a body holds until its end, and tells how it went. Dropped without [`ended`](Self::ended) if whoever reads the
/// body stops before.
pub trait Guard {
    /// The trailers, if there are any; just before the end.
    fn trailers(&mut self, trailers: &HeaderMap) {
        let _ = trailers;
    }

    /// The body is over.
    fn ended(self, how: End);
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// With its last byte or its trailers.
    Complete,
    /// With an error.
    Failed,
}

/// Says why a response's body failed, where that is known to who made the body alone: a clone of this is in the
/// extensions of the response's head, as a [`Connect`](crate::Connect)'s service returns it.
///
/// Without, or untold, a body that fails is a [`Failure::Server`].
#[derive(Clone, Debug, Default)]
pub struct BodyFault(Arc<OnceLock<Option<Failure>>>);

impl BodyFault {
    /// Says what failed on the instance's side; `None` if it was the reader that did, such as by being too slow for a
    /// time limit of its own. To be told before the body returns its error; the first word counts.
    pub fn tell(&self, failure: Option<Failure>) {
        self.0.get_or_init(|| failure);
    }

    /// What failed on the instance's side, if anything did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        *self.0.get().unwrap_or(&Some(Failure::Server))
    }
}

pin_project! {
    /// A body that holds a [`Guard`] until its end, whether it is read, fails or is dropped.
    ///
    /// Read to its end means: until it says that it is over. Bodies of known length say so with their last frame,
    /// so nobody has to ask for one more.
    #[derive(Debug)]
    #[must_use = "bodies do nothing unless polled"]
    pub struct Until<B, G> {
        #[pin]
        body: B,
        guard: Option<G>,
    }
}

impl<B: Body, G: Guard> Until<B, G> {
    /// A body that holds `guard`; an empty one is over at once.
    pub fn new(body: B, guard: G) -> Self {
        let mut guard = Some(guard);
        if body.is_end_stream() {
            end(&mut guard, End::Complete);
        }
        Self { body, guard }
    }

    /// A body that holds nothing.
    pub fn unguarded(body: B) -> Self {
        Self { body, guard: None }
    }

    /// The body alone; the guard is dropped.
    pub fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body, G: Guard> Body for Until<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        match &frame {
            None => end(this.guard, End::Complete),
            Some(Err(_)) => end(this.guard, End::Failed),
            Some(Ok(frame)) => {
                if let (Some(guard), Some(trailers)) = (this.guard.as_mut(), frame.trailers_ref()) {
                    guard.trailers(trailers);
                    end(this.guard, End::Complete);
                } else if this.body.is_end_stream() {
                    end(this.guard, End::Complete);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Default, G> Default for Until<B, G> {
    fn default() -> Self {
        Self { body: B::default(), guard: None }
    }
}

fn end<G: Guard>(guard: &mut Option<G>, how: End) {
    if let Some(guard) = guard.take() {
        guard.ended(how);
    }
}

#[cfg(test)]
mod tests;
