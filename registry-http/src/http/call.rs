//! One request, and what may be done about its failure.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use tokio::time::Instant;

use super::Answer;

/// Longest list that is read.
const LIST_LIMIT: usize = 128 * 1024 * 1024;
/// Longest other body that is read.
const LIMIT: usize = 8 * 1024 * 1024;

/// A request to whichever server is to be asked.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    /// Path and query, from [`Path`](super::Path).
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) deadline: Option<Instant>,
    /// Most bytes of the answer.
    pub(crate) limit: usize,
    /// Whether the answer may be long, so that it may take all the time as long as its bytes flow.
    pub(crate) is_list: bool,
    /// Whether it may be repeated after the server may have seen it.
    pub(crate) is_repeatable: bool,
    /// Whether the first server gets all the time there is.
    pub(crate) is_patient: bool,
    pub(crate) who: Who,
    /// Answers, beside those that are any server's fault, after which another server is asked.
    pub(crate) passed_on: Option<fn(&Answer) -> bool>,
}

/// Which server is to answer.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Any,
    /// This one last.
    Avoid(Arc<str>),
    /// This one and no other.
    Only(Arc<str>),
}

impl Who {
    /// Whether no other server may answer instead.
    pub(crate) fn is_pinned(&self) -> bool {
        match self {
            Self::Any | Self::Avoid(_) => false,
            Self::Only(_) => true,
        }
    }
}

impl Call {
    pub(crate) fn new(operation: &'static str, method: Method, target: impl Into<String>) -> Self {
        Self {
            operation,
            // Of the methods that HTTP calls idempotent; a backend may know better.
            is_repeatable: method.is_idempotent(),
            method,
            target: target.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            deadline: None,
            limit: LIMIT,
            is_list: false,
            is_patient: false,
            who: Who::Any,
            passed_on: None,
        }
    }

    pub(crate) fn get(operation: &'static str, target: impl Into<String>) -> Self {
        Self::new(operation, Method::GET, target)
    }

    #[cfg(any(test, feature = "consul", feature = "eureka"))]
    pub(crate) fn put(operation: &'static str, target: impl Into<String>) -> Self {
        Self::new(operation, Method::PUT, target)
    }

    pub(crate) fn post(operation: &'static str, target: impl Into<String>) -> Self {
        Self::new(operation, Method::POST, target)
    }

    #[cfg(any(feature = "eureka", feature = "nacos"))]
    pub(crate) fn delete(operation: &'static str, target: impl Into<String>) -> Self {
        Self::new(operation, Method::DELETE, target)
    }

    /// When the whole call ends, attempts on other servers included; by default after the configured limit.
    pub(crate) fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The answer is a list, which may be long.
    pub(crate) fn list(mut self) -> Self {
        self.limit = LIST_LIMIT;
        self.is_list = true;
        self
    }

    /// The server holds its answer back, so the first one gets all the time.
    #[cfg(feature = "consul")]
    pub(crate) fn patient(mut self) -> Self {
        self.is_patient = true;
        self
    }

    /// It may be repeated after the server may have seen it.
    pub(crate) fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    /// Another server than this one, if there is another.
    pub(crate) fn avoiding(mut self, server: Option<Arc<str>>) -> Self {
        if let Some(server) = server {
            self.who = Who::Avoid(server);
        }
        self
    }

    /// Another server is asked after such an answer, too, and this one left alone for a while.
    #[cfg(feature = "eureka")]
    pub(crate) fn passed_on(mut self, which: fn(&Answer) -> bool) -> Self {
        self.passed_on = Some(which);
        self
    }

    /// This server and no other.
    pub(crate) fn only(mut self, server: Arc<str>) -> Self {
        self.who = Who::Only(server);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    #[cfg(any(test, feature = "consul", feature = "eureka"))]
    pub(crate) fn json(self, body: impl Into<Bytes>) -> Self {
        self.with_body("application/json", body)
    }

    #[cfg(feature = "nacos")]
    pub(crate) fn form(self, body: impl Into<Bytes>) -> Self {
        self.with_body("application/x-www-form-urlencoded", body)
    }

    fn with_body(mut self, kind: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE, HeaderValue::from_static(kind))
    }
}

/// A login's body holds the password: only its length is shown.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .field("method", &self.method)
            .field("target", &self.target)
            .field("headers", &self.headers)
            .field("body", &self.body.len())
            .field("deadline", &self.deadline)
            .field("limit", &self.limit)
            .field("is_list", &self.is_list)
            .field("is_repeatable", &self.is_repeatable)
            .field("is_patient", &self.is_patient)
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "nacos"))]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_not_shown_as_it_may_hold_a_password() {
        let call = Call::post("login", "/").form("username=nacos&password=hunter2");
        let shown = format!("{call:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("body: 31"), "its length is: {shown}");
    }
}
