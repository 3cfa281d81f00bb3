//! From what etcd and the wire say to an error kind, and to what the session does about it within the call.
//!
//! One table, after the error lists of etcd's `rpctypes` and tonic's mapping of transport failures. etcd tells many
//! cases apart by text only, as gRPC codes are few.

use std::{error::Error as StdError, fmt};

use registry_core::{Error, ErrorKind};
use tonic::{Code, Status};

/// Longest server message that is repeated.
const MAX_MESSAGE: usize = 300;

/// What the session does about a failure before the caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The endpoint answered: hand the error out.
    Answer,
    /// The endpoint is at fault: try the next one, and connect this one anew when its turn comes.
    NextEndpoint,
    /// The token was refused: get a new one, then repeat once.
    RefreshToken,
}

/// A failed attempt on one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) reaction: Reaction,
    /// The server's words, or ours; lower case, bounded.
    pub(crate) message: String,
    cause: Option<Cause>,
}

/// The causes of a failure as text: foreign types stay out of our errors.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub(crate) String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, reaction: Reaction, message: impl Into<String>) -> Self {
        Self { kind, reaction, message: message.into(), cause: None }
    }

    /// An answer that makes no sense.
    pub(crate) fn protocol(message: &str) -> Self {
        Self::new(ErrorKind::Protocol, Reaction::NextEndpoint, message)
    }

    /// A stream that ended or a call that was not answered.
    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(ErrorKind::Unavailable, Reaction::NextEndpoint, message)
    }

    pub(crate) fn timeout(message: String) -> Self {
        Self::new(ErrorKind::Timeout, Reaction::NextEndpoint, message)
    }

    /// The error for the caller.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let error = Error::new(self.kind, self.message).with_context(crate::NAME, operation);
        match self.cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    /// The same failure, naming the endpoint it happened at.
    pub(crate) fn at(mut self, endpoint: &str) -> Self {
        self.message = format!("{endpoint} failed: {}", self.message);
        self
    }

    /// Whether the connection failed, rather than somebody on it answered.
    pub(crate) fn is_transport(&self) -> bool {
        self.cause.is_some()
    }

    /// Adds advice if the server closed the connection without a word, which is how a refused client certificate
    /// looks from here.
    pub(crate) fn advise_if_closed(mut self, advice: &str) -> Self {
        // Which of these we see is a race between the server's close and our first write.
        const CLOSED: [&str; 3] = ["connection closed", "broken pipe", "connection reset"];
        let closed = |cause: &str| CLOSED.iter().any(|text| cause.to_ascii_lowercase().contains(text));
        if self.cause.as_ref().is_some_and(|cause| closed(&cause.0)) {
            self.message = format!("{}; {advice}", self.message);
        }
        self
    }

    /// The whole failure as one line.
    pub(crate) fn line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }

    /// The refusal of a watch, which carries no status, only text.
    pub(crate) fn from_cancel_reason(reason: &str) -> Self {
        let code = match reason {
            r if r.contains("permission denied") => Code::PermissionDenied,
            r if r.contains("invalid auth token") => Code::Unauthenticated,
            r if r.contains("compacted") || r.contains("future revision") => Code::OutOfRange,
            r if r.contains("auth") || r.contains("user name is empty") => Code::InvalidArgument,
            _ => Code::Unavailable,
        };
        let (kind, reaction) = classify(code, reason);
        Self::new(kind, reaction, said(reason))
    }
}

impl From<Error> for Fault {
    /// An error that is already classified and not the endpoint's fault.
    fn from(error: Error) -> Self {
        let message = format!("{error:#}");
        Self { kind: error.kind(), reaction: Reaction::Answer, message, cause: None }
    }
}

impl From<etcd_client::Error> for Fault {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error as Wire;
        match error {
            Wire::GRpcStatus(status) => Self::from(status),
            Wire::LeaseKeepAliveError(message) if message.contains("lease not found") => {
                Self::new(ErrorKind::LeaseLost, Reaction::Answer, "requested lease not found")
            }
            // Its streams report an end and a closed queue this way.
            Wire::LeaseKeepAliveError(_) | Wire::WatchError(_) => {
                Self::unavailable("the stream was closed by the server")
            }
            Wire::TransportError(error) => transport(&error, "connecting failed"),
            Wire::IoError(error) => transport(&error, "connecting failed"),
            error @ (Wire::InvalidArgs(_)
            | Wire::InvalidUri(_)
            | Wire::InvalidMetadataValue(_)
            | Wire::EndpointError(_)
            | Wire::EndpointsNotManaged) => {
                Self::new(ErrorKind::InvalidArgument, Reaction::Answer, error.to_string())
            }
            error @ (Wire::Utf8Error(_) | Wire::ElectError(_) | Wire::Internal(_)) => {
                Self::protocol(&error.to_string())
            }
        }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        // Only a status that was made on this side has a source.
        if let Some(source) = status.source() {
            if source.downcast_ref::<tonic::TimeoutExpired>().is_some() {
                return Self::timeout("the deadline passed".to_owned());
            }
            return transport(source, "the connection failed");
        }
        let (kind, reaction) = classify(status.code(), status.message());
        Self::new(kind, reaction, said(status.message()))
    }
}

/// Whether the server refused a request for its size: too many operations, or too many bytes.
pub(crate) fn is_too_large(error: &Error) -> bool {
    let message = error.to_string();
    ["too many operations in txn request", "request is too large", "message larger than max"]
        .iter()
        .any(|refusal| message.contains(refusal))
}

fn said(message: &str) -> String {
    let message = message.trim_start_matches("etcdserver: ");
    message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

/// The table of the protocol reference: code and text to kind and reaction.
fn classify(code: Code, message: &str) -> (ErrorKind, Reaction) {
    use ErrorKind as Kind;
    use Reaction::{Answer, NextEndpoint, RefreshToken};
    let says = |text: &str| message.contains(text);
    match code {
        Code::Unauthenticated => (Kind::Unauthenticated, RefreshToken),
        _ if says("invalid auth token") => (Kind::Unauthenticated, RefreshToken),
        Code::InvalidArgument if says("revision of auth store is old") => {
            (Kind::Unauthenticated, RefreshToken)
        }
        Code::InvalidArgument if says("user name is empty") || says("authentication failed") => {
            (Kind::Unauthenticated, Answer)
        }
        Code::InvalidArgument | Code::Unimplemented => (Kind::InvalidArgument, Answer),
        Code::PermissionDenied => (Kind::PermissionDenied, Answer),
        // gRPC's own limit on the server's side: no wait makes the request smaller.
        Code::ResourceExhausted if says("larger than max") => (Kind::InvalidArgument, Answer),
        Code::ResourceExhausted => (Kind::RateLimited, Answer),
        Code::NotFound if says("requested lease not found") => (Kind::LeaseLost, Answer),
        Code::NotFound => (Kind::NotFound, Answer),
        Code::AlreadyExists => (Kind::Conflict, Answer),
        Code::OutOfRange if says("compacted") || says("future revision") => (Kind::Compacted, Answer),
        // tonic's own limit on the size of a message.
        Code::OutOfRange if says("message length too large") => (Kind::Protocol, Answer),
        Code::OutOfRange => (Kind::InvalidArgument, Answer),
        Code::FailedPrecondition if says("lease already exists") => (Kind::Conflict, Answer),
        Code::FailedPrecondition if says("authentication is not enabled") => (Kind::InvalidArgument, Answer),
        Code::FailedPrecondition if says("cluster ID mismatch") => (Kind::Protocol, NextEndpoint),
        Code::FailedPrecondition => (Kind::Unavailable, NextEndpoint),
        Code::DataLoss => (Kind::Protocol, NextEndpoint),
        Code::DeadlineExceeded => (Kind::Timeout, NextEndpoint),
        Code::Cancelled if says("Timeout expired") => (Kind::Timeout, NextEndpoint),
        Code::Internal | Code::Unknown
            if says("decode") || says("compression") || says("cluster ID mismatch") =>
        {
            (Kind::Protocol, NextEndpoint)
        }
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Aborted | Code::Internal | Code::Unavailable => {
            (Kind::Unavailable, NextEndpoint)
        }
    }
}

/// A failure of the connection, told apart where the user can mend it.
fn transport(error: &(dyn StdError + 'static), what: &str) -> Fault {
    let mut chain: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if chain.last() != Some(&text) {
            chain.push(text);
        }
        next = cause.source();
    }
    let chain: String = chain.join(": ").chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    let (kind, message) = judge_chain(&chain, what);
    Fault { kind, reaction: Reaction::NextEndpoint, message: message.to_owned(), cause: Some(Cause(chain)) }
}

fn judge_chain<'a>(chain: &str, what: &'a str) -> (ErrorKind, &'a str) {
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
        (ErrorKind::Protocol, "the address does not speak TLS; is the scheme etcd instead of etcd+tls?")
    } else if says("frame with invalid size") {
        (ErrorKind::Protocol, "the address does not speak HTTP/2; is it etcd's client port?")
    } else if says("Timeout expired") || says("deadline has elapsed") {
        (ErrorKind::Timeout, what)
    } else {
        (ErrorKind::Unavailable, what)
    }
}

#[cfg(test)]
mod tests;
