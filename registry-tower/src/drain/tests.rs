use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use registry_core::Drain;
use tower::{Layer, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};

use super::DrainLayer;
use crate::world::World;

fn request(path: &str, kind: &str) -> Request<()> {
    Request::post(path).header("content-type", kind).body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_flight_until_its_answers_body_has_ended_or_is_dropped() {
    let world = World::with(1).await;
    let in_flight = world.client.in_flight();
    let layer = DrainLayer::new(in_flight.clone());
    let answer = async || {
        let service = service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
        });
        layer.layer(service).oneshot(request("/", "text/plain")).await.unwrap()
    };
    let read = answer().await;
    let dropped = answer().await;
    assert_eq!(in_flight.requests(), 2);
    drop(dropped);
    assert_eq!(in_flight.requests(), 1);
    // Its length is known, so its only frame is its last: nobody needs to ask for another one.
    let mut body = read.into_body();
    assert!(body.frame().await.is_some());
    assert_eq!(in_flight.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn new_work_is_refused_while_draining_and_the_health_check_answered() {
    let world = World::with(1).await;
    let layer = DrainLayer::new(world.client.in_flight()).exempt("/health");
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
    }));
    let call = async |request| service.clone().oneshot(request).await.unwrap();
    assert_eq!(call(request("/", "text/plain")).await.status(), 200);

    let pending = world.client.in_flight().enter();
    let client = world.client.clone();
    let draining = tokio::spawn(async move { client.drain(Drain::default()).await });
    world.client.in_flight().refusing().await;

    let refused = call(request("/", "text/plain")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["connection"], "close");
    assert!(refused.into_body().collect().await.unwrap().to_bytes().is_empty());

    let mut over_http2 = request("/", "text/plain");
    *over_http2.version_mut() = Version::HTTP_2;
    assert!(!call(over_http2).await.headers().contains_key("connection"));

    let grpc = call(request("/orders.Orders/Get", "application/grpc+proto")).await;
    assert_eq!((grpc.status().as_u16(), &grpc.headers()["grpc-status"]), (200, &"14".parse().unwrap()));

    assert_eq!(call(request("/health", "text/plain")).await.status(), 200);
    assert_eq!(world.client.in_flight().requests(), 1);
    drop(pending);
    let report = draining.await.unwrap();
    assert!(report.is_clean() && report.elapsed < Duration::from_secs(20), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_application_is_in_flight_and_is_answered() {
    let world = World::with(1).await;
    let in_flight = world.client.in_flight();
    let one_at_a_time = ServiceBuilder::new()
        .layer(DrainLayer::new(in_flight.clone()))
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .service(service_fn(async |_: Request<()>| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
        }));
    let call = || tokio::spawn(one_at_a_time.clone().oneshot(request("/", "text/plain")));
    let (first, waiting) = (call(), call());
    tokio::task::yield_now().await;
    assert_eq!(in_flight.requests(), 2);

    let client = world.client.clone();
    let draining = tokio::spawn(async move { client.drain(Drain::new().propagate(Duration::ZERO)).await });
    in_flight.refusing().await;
    let late = call();
    tokio::task::yield_now().await;
    assert_eq!(in_flight.requests(), 2);
    for (call, status) in [(first, 200), (waiting, 200), (late, 503)] {
        assert_eq!(call.await.unwrap().unwrap().status(), status);
    }
    assert!(draining.await.unwrap().is_clean());
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_an_end_is_cut_off_at_the_end_of_the_budget() {
    let world = World::with(1).await;
    let layer = DrainLayer::new(world.client.in_flight());
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("never read")))
    }));
    let unread = service.oneshot(request("/", "text/plain")).await.unwrap();
    let report = world.client.drain(Drain::default()).await;
    assert_eq!(report.in_flight_aborted, 1);
    assert!(report.elapsed <= Duration::from_secs(25), "{report:?}");
    drop(unread);
}
