//! Request bodies that can be sent again.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::BoxError;

/// How many parts are kept, whatever their size, so that small ones can't pile up.
const PARTS: usize = 1024;

/// A request's body that remembers what was read of it, up to a limit of bytes and of 1024 parts, so that another attempt can send it again.
///
/// As long as nothing was read, any body can be sent again. Past the limit it can't, and nothing is kept any more.
/// Kept bytes are shared with what was sent, not copied, where the body's data is [`Bytes`].
#[must_use = "bodies do nothing unless polled"]
pub struct Replay<B> {
    source: Arc<Mutex<Source<B>>>,
    /// How many parts this attempt has sent.
    at: usize,
}

/// What all attempts of one request share. At most one of them reads on at a time, as only the latest is of use; if
/// several do, each still gets every part.
struct Source<B> {
    /// `None` once it is over.
    body: Option<Pin<Box<B>>>,
    kept: Vec<Part>,
    kept_size: usize,
    limit: usize,
    /// How many parts came out of the body.
    read: usize,
    /// Whether it can't be sent again from its beginning.
    is_lost: bool,
    /// Whether it ended with an error.
    is_broken: bool,
    waiting: Vec<Waker>,
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl<B: Body> Replay<B> {
    /// A body of which up to `limit` bytes are kept.
    pub fn new(body: B, limit: usize) -> Self {
        let source = Source {
            body: Some(Box::pin(body)),
            kept: Vec::new(),
            kept_size: 0,
            limit,
            read: 0,
            is_lost: false,
            is_broken: false,
            waiting: Vec::new(),
        };
        Self { source: Arc::new(Mutex::new(source)), at: 0 }
    }

    /// The same body from its beginning, if it can be sent again.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        self.is_replayable().then(|| Self { source: Arc::clone(&self.source), at: 0 })
    }

    /// Whether it can be sent again.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        let source = self.lock();
        !source.is_lost && !source.is_broken
    }

    /// Whether several can send it at the same time: what was read of it was kept, and what wasn't will be.
    pub(crate) fn can_be_shared(&self) -> bool {
        let source = self.lock();
        let ahead = match &source.body {
            Some(body) if !body.is_end_stream() => body.size_hint().upper(),
            _ => Some(0),
        };
        let is_kept = !source.is_lost && !source.is_broken;
        is_kept && ahead.is_some_and(|ahead| ahead <= (source.limit - source.kept_size) as u64)
    }

    /// Whether the body itself failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().is_broken
    }
}

impl<B> Replay<B> {
    fn lock(&self) -> MutexGuard<'_, Source<B>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Source<B> {
    fn keep(&mut self, part: &Part) {
        self.read += 1;
        // A reader that lags behind would miss what is thrown away; it then gets an error, see `poll_frame`.
        if self.is_lost || self.kept.len() >= PARTS || part.len() > self.limit - self.kept_size {
            self.is_lost = true;
            self.kept = Vec::new();
        } else {
            self.kept_size += part.len();
            self.kept.push(part.clone());
        }
    }

    fn wake_others(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }
}

impl Part {
    fn of<D: Buf>(frame: Frame<D>) -> Option<Self> {
        match frame.into_data() {
            Ok(mut data) => Some(Self::Data(data.copy_to_bytes(data.remaining()))),
            Err(other) => other.into_trailers().ok().map(Self::Trailers),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl<B> Body for Replay<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut source = this.source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = source.kept.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(part.clone().into_frame())));
        }
        if source.is_broken || source.read != this.at {
            return Poll::Ready(Some(Err("the request's body can't be sent again".into())));
        }
        loop {
            let Some(body) = source.body.as_mut() else { return Poll::Ready(None) };
            let frame = body.as_mut().poll_frame(cx);
            if frame.is_pending() && !source.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                source.waiting.push(cx.waker().clone());
            }
            let frame = ready!(frame);
            source.wake_others();
            match frame {
                None => source.body = None,
                Some(Err(error)) => {
                    (source.body, source.is_broken) = (None, true);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => {
                    // Neither data nor trailers: nothing that HTTP sends.
                    let Some(part) = Part::of(frame) else { continue };
                    source.keep(&part);
                    this.at += 1;
                    return Poll::Ready(Some(Ok(part.into_frame())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let source = self.lock();
        self.at == source.read && source.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.lock();
        let ahead = source.kept.iter().skip(self.at).map(|part| part.len() as u64).sum::<u64>();
        let mut hint = source.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + ahead);
        }
        hint.set_lower(hint.lower() + ahead);
        hint
    }
}

impl<B> Drop for Replay<B> {
    fn drop(&mut self) {
        // The attempt that goes may be the only one the body would wake.
        self.lock().wake_others();
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.lock();
        f.debug_struct("Replay")
            .field("sent", &self.at)
            .field("kept", &source.kept.len())
            .field("is_lost", &source.is_lost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
