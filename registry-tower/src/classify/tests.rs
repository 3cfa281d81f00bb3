use std::io;

use http::{Request, Response};
use registry_core::balance::Failure::{Connect, Server, Throttled, Timeout};

use super::*;

fn request(method: Method) -> request::Parts {
    Request::builder().method(method).body(()).unwrap().into_parts().0
}

fn marked(may_be_repeated: bool) -> request::Parts {
    let mut request = request(Method::POST);
    request.extensions.insert(Idempotent(may_be_repeated));
    request
}

fn answer(status: u16, headers: &[(HeaderName, &'static str)]) -> response::Parts {
    let mut answer = Response::builder().status(status).body(()).unwrap().into_parts().0;
    answer.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())));
    answer
}

fn judged(verdict: Verdict) -> (Option<Failure>, bool) {
    (verdict.failure(), verdict.is_retried())
}

#[test]
fn the_table_for_http_holds() {
    let refused = [(REFUSED, "draining")];
    for (status, headers, failure, get, post) in [
        (200, &[][..], None, false, false),
        (404, &[], None, false, false),
        (429, &[], Some(Throttled), false, false),
        (500, &[], Some(Server), true, false),
        (501, &[], Some(Server), false, false),
        (503, &[], Some(Server), true, false),
        (503, &refused, Some(Server), true, true),
    ] {
        let answer = answer(status, headers);
        for (method, retried) in [(Method::GET, get), (Method::POST, post)] {
            let verdict = ClassifyHttp.response(&request(method), &answer);
            assert_eq!(judged(verdict), (failure, retried), "{status}");
        }
    }
}

#[test]
fn the_table_for_errors_holds() {
    let errors: [(BoxError, Failure, bool); 4] = [
        (NotSent::new("no route").into(), Connect, true),
        (io::Error::from(io::ErrorKind::HostUnreachable).into(), Server, false),
        (io::Error::from(io::ErrorKind::TimedOut).into(), Timeout, false),
        (io::Error::from(io::ErrorKind::ConnectionReset).into(), Server, false),
    ];
    for (error, failure, always) in errors {
        let post = ClassifyHttp.error(&request(Method::POST), &error);
        assert_eq!(judged(post), (Some(failure), always), "{error}");
        let get = ClassifyHttp.error(&request(Method::GET), &error);
        assert_eq!(judged(get), (Some(failure), true), "{error}");
    }
}

#[test]
fn the_table_for_grpc_holds() {
    for (code, failure, retried) in [
        ("0", None, false),
        ("5", None, false),
        ("4", Some(Timeout), false),
        ("8", Some(Throttled), false),
        ("13", Some(Server), false),
        ("14", Some(Server), false),
        ("nonsense", Some(Server), false),
    ] {
        let answer = answer(200, &[(GRPC_STATUS, code)]);
        let verdict = ClassifyGrpc.response(&request(Method::POST), &answer);
        assert_eq!(judged(verdict), (failure, retried), "{code}");
        assert_eq!(ClassifyGrpc.trailers(&answer.headers), failure, "{code}");
    }
    let unavailable = answer(200, &[(GRPC_STATUS, "14")]);
    assert_eq!(judged(ClassifyGrpc.response(&marked(true), &unavailable)), (Some(Server), true));
    let refused = answer(200, &[(GRPC_STATUS, "14"), (REFUSED, "1")]);
    assert_eq!(judged(ClassifyGrpc.response(&marked(false), &refused)), (Some(Server), true));
    let stranger = answer(502, &[]);
    assert_eq!(judged(ClassifyGrpc.response(&marked(true), &stranger)), (Some(Server), true));
    assert_eq!(judged(ClassifyGrpc.response(&marked(false), &stranger)), (Some(Server), false));
    assert_eq!(judged(ClassifyGrpc.response(&marked(false), &answer(200, &[]))), (None, false));
}

#[test]
fn what_may_be_repeated_is_said_by_a_mark_else_the_method_else_a_key() {
    assert!(Idempotent::is(&request(Method::DELETE)) && !Idempotent::is(&request(Method::PATCH)));
    assert!(Idempotent::is(&marked(true)) && !Idempotent::is(&marked(false)));
    let mut keyed = request(Method::POST);
    keyed.headers.insert("idempotency-key", "7".parse().unwrap());
    assert!(Idempotent::is(&keyed));
    keyed.extensions.insert(Idempotent(false));
    assert!(!Idempotent::is(&keyed));
}

#[cfg(feature = "hyper")]
#[tokio::test]
async fn an_upload_that_its_own_caller_breaks_off_blames_nobody() {
    use futures_util::stream;
    let (near, _far) = tokio::io::duplex(1024);
    let io = hyper_util::rt::TokioIo::new(near);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let broken = stream::iter([Err::<http_body::Frame<bytes::Bytes>, _>(io::Error::other("cut"))]);
    let upload = Request::put("/").body(http_body_util::StreamBody::new(broken)).unwrap();
    let error = BoxError::from(sender.send_request(upload).await.unwrap_err());
    assert_eq!(judged(ClassifyHttp.error(&request(Method::PUT), &error)), (None, false), "{error:?}");
    drop(connection.await);
}
