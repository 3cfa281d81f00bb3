use super::*;

/// Every kind with its class, whether it is throttled, and whether a write may have happened.
const TABLE: [(ErrorKind, ErrorClass, bool, bool); 14] = [
    (ErrorKind::Unavailable, ErrorClass::Transient, false, true),
    (ErrorKind::Protocol, ErrorClass::Transient, false, true),
    (ErrorKind::Timeout, ErrorClass::Transient, false, true),
    (ErrorKind::NotReady, ErrorClass::Transient, false, false),
    (ErrorKind::RateLimited, ErrorClass::Transient, true, false),
    (ErrorKind::Unauthenticated, ErrorClass::Auth, false, false),
    (ErrorKind::LeaseLost, ErrorClass::Data, false, false),
    (ErrorKind::NotFound, ErrorClass::Data, false, false),
    (ErrorKind::Conflict, ErrorClass::Data, false, false),
    (ErrorKind::Compacted, ErrorClass::Data, false, false),
    (ErrorKind::NoInstance, ErrorClass::Data, false, false),
    (ErrorKind::PermissionDenied, ErrorClass::Fatal, false, false),
    (ErrorKind::InvalidArgument, ErrorClass::Fatal, false, false),
    (ErrorKind::Closed, ErrorClass::Fatal, false, false),
];

#[test]
fn each_kind_has_the_class_and_flags_of_the_table() {
    for (kind, class, throttled, ambiguous) in TABLE {
        assert_eq!(kind.class(), class, "{kind:?}");
        assert_eq!(kind.is_throttled(), throttled, "{kind:?}");
        assert_eq!(kind.is_ambiguous(), ambiguous, "{kind:?}");
        assert_eq!(Error::new(kind, "x").is_retryable(), class == ErrorClass::Transient, "{kind:?}");
    }
}

#[test]
fn the_cause_is_in_the_source_and_in_the_alternate_form_only() {
    let inner = Error::new(ErrorKind::Protocol, "bad frame").with_source(fmt::Error);
    let error = Error::new(ErrorKind::Unavailable, "can't reach 10.0.0.1:2379").with_source(inner);
    assert_eq!(error.to_string(), "can't reach 10.0.0.1:2379");
    let cause = fmt::Error.to_string();
    assert_eq!(format!("{error:#}"), format!("can't reach 10.0.0.1:2379: bad frame: {cause}"));
    assert_eq!(
        format!("{error:?}"),
        format!("Error(Unavailable: can't reach 10.0.0.1:2379: bad frame: {cause})")
    );
    assert_eq!(error.source().unwrap().to_string(), "bad frame");
    assert!(Error::new(ErrorKind::Closed, "x").source().is_none());
}

#[test]
fn context_says_which_backend_failed_in_what() {
    let plain = Error::new(ErrorKind::RateLimited, "slow down");
    assert_eq!((plain.backend(), plain.operation(), plain.retry_after()), (None, None, None));
    let error = plain.clone().with_context("etcd", "grant").with_retry_after(Duration::from_secs(3));
    assert_eq!(error.to_string(), "etcd grant: slow down");
    assert_eq!((error.backend(), error.operation()), (Some("etcd"), Some("grant")));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(plain.to_string(), "slow down", "the error it was made of is unchanged");
}

#[test]
fn an_error_is_small_and_can_cross_threads() {
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<Error>();
    assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
}
