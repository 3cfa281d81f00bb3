use super::*;

use ErrorKind as Kind;
use Reaction::{Answer, NextEndpoint, RefreshToken};

#[test]
fn every_answer_of_the_protocol_reference_has_its_kind_and_reaction() {
    for (code, message, kind, reaction) in [
        (Code::Unavailable, "etcdserver: no leader", Kind::Unavailable, NextEndpoint),
        (Code::Unavailable, "etcdserver: leader changed", Kind::Unavailable, NextEndpoint),
        (Code::Unavailable, "etcdserver: server stopped", Kind::Unavailable, NextEndpoint),
        (Code::Unavailable, "etcdserver: request timed out", Kind::Unavailable, NextEndpoint),
        (
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to previous leader failure",
            Kind::Unavailable,
            NextEndpoint,
        ),
        (Code::Unavailable, "etcdserver: unhealthy cluster", Kind::Unavailable, NextEndpoint),
        (Code::FailedPrecondition, "etcdserver: not leader", Kind::Unavailable, NextEndpoint),
        (Code::FailedPrecondition, "etcdserver: not capable", Kind::Unavailable, NextEndpoint),
        (
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner",
            Kind::Unavailable,
            NextEndpoint,
        ),
        (Code::Unknown, "not a primary lessor", Kind::Unavailable, NextEndpoint),
        (Code::Internal, "something broke", Kind::Unavailable, NextEndpoint),
        (Code::Cancelled, "context canceled", Kind::Unavailable, NextEndpoint),
        (Code::Aborted, "", Kind::Unavailable, NextEndpoint),
        (Code::Ok, "", Kind::Unavailable, NextEndpoint),
        (Code::DeadlineExceeded, "context deadline exceeded", Kind::Timeout, NextEndpoint),
        (Code::Cancelled, "Timeout expired", Kind::Timeout, NextEndpoint),
        (Code::ResourceExhausted, "etcdserver: too many requests", Kind::RateLimited, Answer),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Kind::RateLimited, Answer),
        (
            Code::ResourceExhausted,
            "grpc: received message larger than max (2 vs. 1)",
            Kind::InvalidArgument,
            Answer,
        ),
        (Code::NotFound, "etcdserver: requested lease not found", Kind::LeaseLost, Answer),
        (Code::NotFound, "etcdserver: member not found", Kind::NotFound, Answer),
        (Code::FailedPrecondition, "etcdserver: lease already exists", Kind::Conflict, Answer),
        (Code::AlreadyExists, "", Kind::Conflict, Answer),
        (Code::PermissionDenied, "etcdserver: permission denied", Kind::PermissionDenied, Answer),
        (Code::Unauthenticated, "etcdserver: invalid auth token", Kind::Unauthenticated, RefreshToken),
        (Code::Unknown, "etcdserver: invalid auth token", Kind::Unauthenticated, RefreshToken),
        (Code::Unavailable, "etcdserver: invalid auth token", Kind::Unauthenticated, RefreshToken),
        (
            Code::InvalidArgument,
            "etcdserver: revision of auth store is old",
            Kind::Unauthenticated,
            RefreshToken,
        ),
        (Code::InvalidArgument, "etcdserver: user name is empty", Kind::Unauthenticated, Answer),
        (
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
            Kind::Unauthenticated,
            Answer,
        ),
        (Code::InvalidArgument, "etcdserver: key is not provided", Kind::InvalidArgument, Answer),
        (Code::OutOfRange, "etcdserver: too large lease TTL", Kind::InvalidArgument, Answer),
        (
            Code::FailedPrecondition,
            "etcdserver: authentication is not enabled",
            Kind::InvalidArgument,
            Answer,
        ),
        (Code::Unimplemented, "unknown service", Kind::InvalidArgument, Answer),
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", Kind::Compacted, Answer),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
            Kind::Compacted,
            Answer,
        ),
        (Code::OutOfRange, "Error, decoded message length too large", Kind::Protocol, Answer),
        (Code::DataLoss, "etcdserver: corrupt cluster", Kind::Protocol, NextEndpoint),
        (Code::Unknown, "cluster ID mismatch", Kind::Protocol, NextEndpoint),
        (Code::Internal, "failed to decode Protobuf message", Kind::Protocol, NextEndpoint),
    ] {
        assert_eq!(classify(code, message), (kind, reaction), "{code:?} {message:?}");
    }
}

#[test]
fn a_cancelled_watch_is_judged_by_its_text() {
    for (reason, kind, reaction) in [
        (
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            Kind::PermissionDenied,
            Answer,
        ),
        (
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            Kind::Unauthenticated,
            RefreshToken,
        ),
        ("etcdserver: revision of auth store is old", Kind::Unauthenticated, RefreshToken),
        ("etcdserver: user name is empty", Kind::Unauthenticated, Answer),
        ("etcdserver: mvcc: required revision has been compacted", Kind::Compacted, Answer),
        ("etcdserver: no leader", Kind::Unavailable, NextEndpoint),
        ("", Kind::Unavailable, NextEndpoint),
    ] {
        let fault = Fault::from_cancel_reason(reason);
        assert_eq!((fault.kind, fault.reaction), (kind, reaction), "{reason:?}");
    }
}

#[test]
fn a_status_made_on_this_side_is_the_endpoints_fault() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let fault = Fault::from(Status::from_error(Box::new(refused)));
    assert_eq!((fault.kind, fault.reaction), (Kind::Unavailable, NextEndpoint));
}

#[test]
fn a_transport_failure_that_the_user_can_mend_says_how() {
    for (chain, kind, hint) in [
        ("transport error: invalid peer certificate: UnknownIssuer", Kind::Protocol, "ca"),
        ("x: received fatal alert: CertificateRequired", Kind::Unauthenticated, "cert"),
        (
            "x: received corrupt message of type InvalidContentType",
            Kind::Protocol,
            "etcd instead of etcd+tls",
        ),
        ("transport error: tls handshake eof", Kind::Protocol, "etcd instead of etcd+tls"),
        ("http2 error: frame with invalid size", Kind::Protocol, "client port"),
        ("tcp connect error: Connection refused", Kind::Unavailable, "connecting"),
    ] {
        let (got, message) = judge_chain(chain, "connecting failed");
        assert_eq!(got, kind, "{chain}");
        assert!(message.contains(hint), "{chain}: {message}");
    }
}

#[test]
fn a_servers_message_is_bounded_and_printable() {
    let fault = Fault::from(Status::new(Code::Unknown, "\u{1b}[31m".to_owned() + &"x".repeat(10_000)));
    assert!(fault.message.chars().count() <= MAX_MESSAGE);
    assert!(!fault.message.chars().any(char::is_control));
}

#[test]
fn a_connection_closed_without_a_word_advises_however_the_close_shows() {
    let fault = |cause: &str| Fault {
        cause: Some(Cause(cause.to_owned())),
        ..Fault::unavailable("connecting failed")
    };
    for cause in ["connection closed", "Broken pipe (os error 32)", "Connection reset by peer (os error 104)"]
    {
        let advised = fault(cause).advise_if_closed("it may want a client certificate");
        assert!(
            advised.message.ends_with("; it may want a client certificate"),
            "{cause}: {}",
            advised.message
        );
    }
    let refused =
        fault("Connection refused (os error 111)").advise_if_closed("it may want a client certificate");
    assert_eq!(refused.message, "connecting failed", "nobody there is another matter");
}
