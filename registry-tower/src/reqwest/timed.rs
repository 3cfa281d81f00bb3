//! Whose time it was that ran out while a response's body was read.
//!
//! A timeout of reqwest's goes on while nobody reads. The instance is to blame only if at least half of the time went
//! into waiting for it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use registry_core::balance::Failure;
use reqwest::Body as Source;
use tokio::time::Instant;

use crate::body::BodyFault;

/// A response's body that knows how long it was waited for.
#[derive(Debug)]
struct Timed {
    body: Source,
    began: Instant,
    waited: Duration,
    /// Since when somebody waits for the next part.
    since: Option<Instant>,
    fault: BodyFault,
}

/// The response to a request that was sent at `began`, which tells why its body fails.
pub(super) fn timed(response: Response<Source>, began: Instant) -> Response<Source> {
    let fault = BodyFault::default();
    let (mut head, body) = response.into_parts();
    head.extensions.insert(fault.clone());
    let body = Timed { body, began, waited: began.elapsed(), since: None, fault };
    Response::from_parts(head, Source::wrap(body))
}

impl Body for Timed {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        let this = self.get_mut();
        let since = *this.since.get_or_insert_with(Instant::now);
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        this.waited += since.elapsed();
        this.since = None;
        if let Some(Err(error)) = &frame
            && error.is_timeout()
        {
            let had_its_chance = this.waited >= this.began.elapsed() / 2;
            this.fault.tell(had_its_chance.then_some(Failure::Timeout));
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
