//! What the policy hears of a call.

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use registry_core::balance::Failure;
use registry_testkit::eventually;
use registry_tower::tonic::GrpcChannel;
use tonic::{Code, Status, body::Body};
use tower::Service;

use crate::{
    greeter::GreeterClient,
    world::{SOON, World, hello},
};

#[tokio::test]
async fn a_stream_is_in_flight_until_its_trailers_and_they_say_how_it_went() {
    for (end, code, verdict) in [
        ("you", None, Ok(())),
        ("fail NotFound", Some(Code::NotFound), Ok(())),
        ("fail Internal", Some(Code::Internal), Err(Failure::Server)),
        ("fail Unavailable", Some(Code::Unavailable), Err(Failure::Server)),
        ("fail DeadlineExceeded", Some(Code::DeadlineExceeded), Err(Failure::Timeout)),
        ("fail ResourceExhausted", Some(Code::ResourceExhausted), Err(Failure::Throttled)),
    ] {
        let world = World::of(1).await;
        let (upstream, ledger) = world.observed().await;
        let mut client = GreeterClient::new(GrpcChannel::new(upstream));
        let mut replies = client.say_hellos(hello(end)).await.unwrap().into_inner();
        assert!(replies.message().await.unwrap().is_some());
        let in_flight = world.nodes[0].client.in_flight();
        assert_eq!((ledger.open(), in_flight.requests()), (1, 1), "{end}");

        world.nodes[0].greeter.gate.add_permits(1);
        let ended = match replies.message().await {
            Ok(Some(_)) => replies.message().await.map(|end| assert!(end.is_none())),
            Ok(None) => Ok(()),
            Err(status) => Err(status),
        };
        assert_eq!(ended.err().map(|status| status.code()), code, "{end}");
        assert_eq!((ledger.open(), ledger.verdicts()), (0, vec![verdict]), "{end}");
        let over = eventually("the end", SOON, async || (in_flight.requests() == 0).then_some(()));
        over.await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_breaks_blames_the_instance() {
    let mut world = World::of(1).await;
    let (upstream, ledger) = world.observed().await;
    let mut client = GreeterClient::new(GrpcChannel::new(upstream));
    let mut replies = client.say_hellos(hello("you")).await.unwrap().into_inner();
    replies.message().await.unwrap();
    world.nodes[0].kill();
    assert!(replies.message().await.is_err());
    assert_eq!(ledger.verdicts(), [Err(Failure::Server)]);
}

#[tokio::test]
async fn a_stream_that_the_caller_drops_ends_its_pick() {
    let world = World::of(1).await;
    let (upstream, ledger) = world.observed().await;
    let mut client = GreeterClient::new(GrpcChannel::new(upstream));
    let mut replies = client.say_hellos(hello("you")).await.unwrap().into_inner();
    replies.message().await.unwrap();
    drop(replies);
    assert_eq!((ledger.open(), ledger.verdicts()), (0, vec![Ok(())]));
    let in_flight = world.nodes[0].client.in_flight();
    let over = eventually("the end", SOON, async || (in_flight.requests() == 0).then_some(()));
    over.await.unwrap();
}

#[tokio::test]
async fn a_request_that_its_own_caller_breaks_off_blames_nobody() {
    let world = World::of(1).await;
    let (upstream, ledger) = world.observed().await;
    let mut channel = GrpcChannel::builder(upstream).idempotent(true).build();
    // The beginning of a message.
    let body = stream::iter([Ok(Frame::data(Bytes::from_static(&[0, 0, 0]))), Err(Status::aborted("cut"))]);
    let request = Request::post("/greeter.Greeter/SayHello").header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(Body::new(StreamBody::new(body))).unwrap();
    channel.call(request).await.unwrap_err();
    assert_eq!((ledger.open(), ledger.failures()), (0, vec![None]));
}
