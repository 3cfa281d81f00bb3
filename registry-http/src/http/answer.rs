//! What a server answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

/// The longest wait that a server may ask for and get: 10 min.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A complete answer, whatever its status.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Decompressed, within the limit of its call.
    pub(crate) body: Bytes,
    /// `host:port` of the server that gave it.
    pub(crate) server: Arc<str>,
}

impl Answer {
    /// A header as text; one that is no text is as good as none.
    #[cfg(any(test, feature = "consul"))]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The header `Retry-After` in seconds; a date is not understood.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
    }

    /// Whether another server may do better: this one is overloaded, broken or not ready.
    pub(crate) fn is_servers_fault(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }
}
