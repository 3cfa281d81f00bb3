//! What an answer says about the instance, and whether to ask another one.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use http::{HeaderMap, HeaderName, Method, StatusCode, request, response};
use registry_core::balance::Failure;

use crate::{BoxError, connect::NotSent};

/// A response header by which a server of this crate says that it refused the request unseen, because it is leaving:
/// it may be sent to another instance, whatever it is. See [`DrainLayer`](crate::DrainLayer).
pub(crate) const REFUSED: HeaderName = HeaderName::from_static("service-registry-refused");

/// gRPC's status of a call, in the trailers or, if there is no message, in the headers.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What one attempt's result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    failure: Option<Failure>,
    retry: bool,
}

impl Verdict {
    /// The instance did its work; whatever it answered is for the caller.
    pub const GOOD: Self = Self { failure: None, retry: false };

    /// The instance failed, and the answer is for the caller.
    pub const fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), retry: false }
    }

    /// Ask another instance, if `safe`.
    pub const fn and_retry(mut self, safe: bool) -> Self {
        self.retry = safe;
        self
    }

    /// What failed on the instance's side, if anything did.
    #[must_use]
    pub const fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Whether to ask another instance.
    #[must_use]
    pub const fn is_retried(&self) -> bool {
        self.retry
    }
}

/// Judges the results of attempts.
///
/// A retry goes to another instance, within the upstream's budget, and only if the request's body can be sent again.
pub trait Classify: fmt::Debug + Send + Sync + 'static {
    /// Judges the head of a response.
    fn response(&self, request: &request::Parts, response: &response::Parts) -> Verdict;

    /// Judges an attempt without a response. See [`NotSent::is_in`] for those that are always safe to retry.
    fn error(&self, request: &request::Parts, error: &BoxError) -> Verdict;

    /// Judges the trailers of a response whose head was good; it is too late to retry then.
    fn trailers(&self, trailers: &HeaderMap) -> Option<Failure> {
        let _ = trailers;
        None
    }
}

impl<C: Classify + ?Sized> Classify for Arc<C> {
    fn response(&self, request: &request::Parts, response: &response::Parts) -> Verdict {
        (**self).response(request, response)
    }

    fn error(&self, request: &request::Parts, error: &BoxError) -> Verdict {
        (**self).error(request, error)
    }

    fn trailers(&self, trailers: &HeaderMap) -> Option<Failure> {
        (**self).trailers(trailers)
    }
}

/// Marks a request, in its extensions, as one that may be processed twice, whatever its method says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Idempotent(
    /// Whether it may.
    pub bool,
);

impl Idempotent {
    /// Whether a request may be processed twice: as marked in its extensions, else by its method (RFC 9110, section
    /// 9.2.2), else if it names an `idempotency-key`.
    #[must_use]
    pub fn is(request: &request::Parts) -> bool {
        if let Some(Self(marked)) = request.extensions.get() {
            return *marked;
        }
        matches!(
            request.method,
            Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
        ) || request.headers.contains_key("idempotency-key")
    }
}

/// The rules for HTTP.
///
/// | result | counts as | retried |
/// |---|---|---|
/// | 500, 502, 503, 504 | [`Failure::Server`] | if the request is [idempotent](Idempotent::is) |
/// | a refusal by a server that leaves | [`Failure::Server`] | always |
/// | any other 5xx | [`Failure::Server`] | never: another instance says the same |
/// | 429 | [`Failure::Throttled`] | never: it would be one more request |
/// | any other status | success | |
/// | not sent: no connection | [`Failure::Connect`] | always |
/// | time ran out | [`Failure::Timeout`] | if the request is idempotent |
/// | the request's own body failed | success: the caller's doing | never |
/// | any other error | [`Failure::Server`] | if the request is idempotent |
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyHttp;

impl Classify for ClassifyHttp {
    fn response(&self, request: &request::Parts, response: &response::Parts) -> Verdict {
        match response.status {
            _ if response.headers.contains_key(REFUSED) => Verdict::failed(Failure::Server).and_retry(true),
            StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Verdict::failed(Failure::Server).and_retry(Idempotent::is(request))
            }
            StatusCode::TOO_MANY_REQUESTS => Verdict::failed(Failure::Throttled),
            status if status.is_server_error() => Verdict::failed(Failure::Server),
            _ => Verdict::GOOD,
        }
    }

    fn error(&self, request: &request::Parts, error: &BoxError) -> Verdict {
        without_response(request, error)
    }
}

/// The rules for gRPC, after the codes in <https://grpc.io/docs/guides/status-codes/>.
///
/// | result | counts as | retried |
/// |---|---|---|
/// | `UNAVAILABLE` before any message | [`Failure::Server`] | if marked [`Idempotent`]: a proxy may have sent the call on |
/// | a refusal by a server that leaves | [`Failure::Server`] | always |
/// | `UNKNOWN`, `INTERNAL`, `DATA_LOSS`, `UNAVAILABLE` later | [`Failure::Server`] | never |
/// | `DEADLINE_EXCEEDED` | [`Failure::Timeout`] | never: the deadline is the caller's |
/// | `RESOURCE_EXHAUSTED` | [`Failure::Throttled`] | never |
/// | any other code | success | |
/// | no gRPC at all: a status of HTTP | as for [HTTP](ClassifyHttp) | |
/// | not sent: no connection | [`Failure::Connect`] | always |
/// | the request's own body failed | success: the caller's doing | never |
/// | any other error | [`Failure::Timeout`] or [`Failure::Server`] | if marked [`Idempotent`] |
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyGrpc;

impl Classify for ClassifyGrpc {
    fn response(&self, request: &request::Parts, response: &response::Parts) -> Verdict {
        if !response.headers.contains_key(GRPC_STATUS) {
            return ClassifyHttp.response(request, response);
        }
        match self.trailers(&response.headers) {
            None => Verdict::GOOD,
            Some(failure) => {
                let refused = response.headers.contains_key(REFUSED);
                let unavailable = grpc_status(&response.headers) == Some(UNAVAILABLE);
                Verdict::failed(failure).and_retry(refused || unavailable && Idempotent::is(request))
            }
        }
    }

    fn error(&self, request: &request::Parts, error: &BoxError) -> Verdict {
        without_response(request, error)
    }

    fn trailers(&self, trailers: &HeaderMap) -> Option<Failure> {
        match grpc_status(trailers)? {
            DEADLINE_EXCEEDED => Some(Failure::Timeout),
            RESOURCE_EXHAUSTED => Some(Failure::Throttled),
            UNKNOWN | INTERNAL | UNAVAILABLE | DATA_LOSS => Some(Failure::Server),
            _ => None,
        }
    }
}

const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const INTERNAL: u8 = 13;
pub(crate) const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;

/// The code; one that can't be read is `UNKNOWN`, as the specification wants.
fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    let status = headers.get(GRPC_STATUS)?;
    Some(status.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN))
}

fn without_response(request: &request::Parts, error: &BoxError) -> Verdict {
    #[cfg(feature = "tonic")]
    if crate::connect::Blameless::is_in(&**error) {
        return Verdict::GOOD;
    }
    if NotSent::is_in(&**error) {
        return Verdict::failed(Failure::Connect).and_retry(true);
    }
    if is_callers(&**error) {
        return Verdict::GOOD;
    }
    let failure = if is_timeout(&**error) { Failure::Timeout } else { Failure::Server };
    Verdict::failed(failure).and_retry(Idempotent::is(request))
}

/// Whether it was the caller that failed, such as by a body that broke off.
#[cfg(any(feature = "hyper", feature = "tonic"))]
fn is_callers(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_user)
}

#[cfg(not(any(feature = "hyper", feature = "tonic")))]
fn is_callers(_: &(dyn StdError + 'static)) -> bool {
    false
}

/// Whether this error, or what caused it, is that time ran out.
fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let timed_out =
            error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut);
        if timed_out || error.is::<tokio::time::error::Elapsed>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
