//! From a failed transport or a status to an error kind.

use std::{error::Error as StdError, fmt, io};

use http::StatusCode;
use registry_core::{Error, ErrorKind};

use super::Answer;

/// Longest message of a server that is repeated.
const MAX_MESSAGE: usize = 300;

/// The causes of a failure as text: foreign types stay out of our errors.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub(crate) String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

/// How one attempt on one server failed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) cause: Option<Cause>,
    /// Whether the server may have seen the request.
    pub(crate) was_sent: bool,
    /// Whether a connection that was open broke: maybe an old one, on which nothing should be sent again.
    pub(crate) broke: bool,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, was_sent: bool, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None, was_sent, broke: false }
    }

    /// The error for the caller, which names the server.
    pub(crate) fn into_error(self, server: &str) -> Error {
        let error = Error::new(self.kind, format!("{server} failed: {}", self.message));
        match self.cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    /// The whole failure as one line.
    pub(crate) fn line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        // The URL is ours and may hold what a log shouldn't.
        let error = error.without_url();
        let (connect, body) = (error.is_connect(), error.is_body() || error.is_decode());
        let chain = chain(&error);
        let (kind, message) = if error.is_timeout() {
            (ErrorKind::Timeout, "no connection in time")
        } else if connect {
            judge_connect(&error, &chain)
        } else if body && chain.contains("gzip") {
            (ErrorKind::Protocol, "the answer's compression is broken")
        } else if body {
            (ErrorKind::Unavailable, "the connection was lost amid the answer")
        } else if error.is_builder() {
            (ErrorKind::InvalidArgument, "the request can't be made")
        } else if is_unasked(&chain) {
            (
                ErrorKind::RateLimited,
                "the server turned the connection away unasked, as one too many; or it doesn't speak HTTP",
            )
        } else if chain.contains("invalid HTTP") || chain.contains("message head") {
            (ErrorKind::Protocol, "the address does not speak HTTP; is its scheme right?")
        } else {
            (ErrorKind::Unavailable, "the connection was lost")
        };
        let was_sent = !connect && !error.is_builder() && !is_unasked(&chain);
        Self {
            kind,
            message: message.to_owned(),
            cause: Some(Cause(chain)),
            was_sent,
            broke: was_sent && kind == ErrorKind::Unavailable,
        }
    }
}

/// Whether the server spoke on a new connection before it was sent anything. Who limits connections does that, as Consul
/// with its 429; whether the answer or our request is faster is chance, and the answer can't be read in the first case.
fn is_unasked(chain: &str) -> bool {
    chain.contains("received unexpected message from connection")
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    said(&texts.join(": "))
}

/// A failed connect, told apart where the user can mend it.
fn judge_connect(error: &reqwest::Error, chain: &str) -> (ErrorKind, &'static str) {
    let says = |text: &str| chain.contains(text);
    if says("invalid peer certificate") {
        (ErrorKind::Protocol, "the server's certificate is not trusted; check the options ca and domain")
    } else if says("received fatal alert: CertificateRequired")
        || says("received fatal alert: BadCertificate")
        || says("received fatal alert: UnknownCA")
        || says("received fatal alert: CertificateUnknown")
        || says("received fatal alert: CertificateExpired")
    {
        (
            ErrorKind::Unauthenticated,
            "the server refused the client certificate; check the options cert and key",
        )
    } else if says("received corrupt message") || says("tls handshake eof") {
        (ErrorKind::Protocol, "the address does not speak TLS; is the scheme the one without +tls?")
    } else if is_refused(error) {
        (ErrorKind::Unavailable, "connection refused")
    } else {
        (ErrorKind::Unavailable, "connecting failed")
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        next = cause.source();
    }
    false
}

/// What a server said, without control characters and bounded.
pub(crate) fn said(message: &str) -> String {
    message.trim().chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

/// The error of a status that is no success, by HTTP's own meaning; a backend knows more of its own answers.
pub(crate) fn status_error(answer: &Answer) -> Error {
    let kind = match answer.status {
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
        StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => ErrorKind::Conflict,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => ErrorKind::Timeout,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => ErrorKind::RateLimited,
        status if status.is_client_error() => ErrorKind::InvalidArgument,
        status if status.is_server_error() => ErrorKind::Unavailable,
        // Redirects, which are not followed, and successes that the caller didn't expect.
        _ => ErrorKind::Protocol,
    };
    let text = said(&String::from_utf8_lossy(&answer.body[..answer.body.len().min(4 * MAX_MESSAGE)]));
    let message = match text.as_str() {
        "" => format!("{} answered {}", answer.server, answer.status),
        text => format!("{} answered {}: {text}", answer.server, answer.status),
    };
    let error = Error::new(kind, message);
    match answer.retry_after() {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}
