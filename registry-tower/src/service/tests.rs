use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody};
use registry_core::{CallError, CallOptions, Endpoint, ErrorKind, Instance, balance::Failure};
use registry_testkit::eventually;
use tower::{ServiceExt, service_fn, util::BoxCloneService};

use super::{Balanced, Cause};
use crate::{BoxError, Connect, Idempotent, NotSent, Replay, world::World};

type Sent = Request<Replay<Full<Bytes>>>;
type Pool = BoxCloneService<Sent, Response<Full<Bytes>>, BoxError>;

/// What an instance does, by its port.
fn answering<F, Fut>(answer: F) -> impl Connect<Service = Pool>
where
    F: Fn(u16, Sent) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send + 'static,
{
    move |_: &Instance, endpoint: &Endpoint| -> Result<Pool, BoxError> {
        let (answer, port) = (answer.clone(), endpoint.port());
        Ok(BoxCloneService::new(service_fn(move |request| answer(port, request))))
    }
}

fn status(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from("answer")).unwrap()
}

fn request(method: Method) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri("http://orders/lines?of=7").body(Full::from("question")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_the_picked_endpoint_and_its_path_stays() {
    let world = World::with(2).await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let log = Arc::clone(&seen);
    let service = Balanced::new(
        world.upstream.clone(),
        answering(move |_, request| {
            log.lock().unwrap().insert(request.uri().to_string());
            async { Ok(status(200)) }
        }),
    );
    for _ in 0..2 {
        assert_eq!(service.clone().oneshot(request(Method::GET)).await.unwrap().status(), 200);
    }
    let seen: Vec<_> = seen.lock().unwrap().iter().cloned().collect();
    assert_eq!(seen, ["http://10.0.0.7:1/lines?of=7", "http://10.0.0.7:2/lines?of=7"]);
}

#[tokio::test(start_paused = true)]
async fn the_pick_is_held_until_the_bodys_end_and_then_reported_with_the_time() {
    let world = World::with(1).await;
    let connect = |_: &Instance, _: &Endpoint| -> Result<_, BoxError> {
        Ok(service_fn(async |_: Sent| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let frames = futures_util::stream::unfold(0, async |n: u8| {
                tokio::time::sleep(Duration::from_millis(50)).await;
                (n < 2).then(|| (Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"part"))), n + 1))
            });
            Ok::<_, BoxError>(Response::new(BodyExt::boxed_unsync(StreamBody::new(Box::pin(frames)))))
        }))
    };
    let service = Balanced::new(world.upstream.clone(), connect);
    let answer = service.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!(world.ledger.open(), 1);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "partpart");
    assert_eq!(world.ledger.open(), 0);
    let outcome = world.ledger.outcomes()[0];
    assert_eq!((outcome.get_failure(), outcome.latency()), (None, Some(Duration::from_millis(250))));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_ends_the_pick_by_what_the_head_said() {
    for (code, failure) in [(200, None), (404, None), (500, Some(Failure::Server))] {
        let world = World::with(1).await;
        let service =
            Balanced::new(world.upstream.clone(), answering(move |_, _| async move { Ok(status(code)) }));
        let answer = service.oneshot(request(Method::POST)).await.unwrap();
        assert_eq!(world.ledger.open(), 1);
        drop(answer);
        assert_eq!(world.ledger.verdicts(), [failure.map_or(Ok(()), Err)], "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_request_goes_elsewhere_after_a_5xx_and_with_its_whole_body() {
    let world = World::with(2).await;
    let service = Balanced::new(
        world.upstream.clone(),
        answering(|port, request| async move {
            let body = request.into_body().collect().await?.to_bytes();
            assert_eq!(body, "question");
            Ok(status(if port == 1 { 503 } else { 200 }))
        }),
    );
    for _ in 0..4 {
        let answer = service.clone().oneshot(request(Method::PUT)).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert!(world.ledger.verdicts().contains(&Err(Failure::Server)));
}

#[tokio::test(start_paused = true)]
async fn another_request_is_not_sent_twice_unless_it_was_not_sent_at_all() {
    let world = World::with(2).await;
    let service = Balanced::new(
        world.upstream.clone(),
        answering(|port, _| async move { if port == 1 { Err("reset".into()) } else { Ok(status(200)) } }),
    );
    let mut failed = 0;
    for _ in 0..2 {
        match service.clone().oneshot(request(Method::POST)).await {
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(CallError::Stopped { cause: Cause::Service(_), .. }) => failed += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(failed, 1);
    let mut marked = request(Method::POST);
    marked.extensions_mut().insert(Idempotent(true));
    let unsent = Balanced::new(
        world.upstream.clone(),
        answering(|port, _| async move {
            if port == 1 { Err(NotSent::new("refused").into()) } else { Ok(status(200)) }
        }),
    );
    for _ in 0..2 {
        assert_eq!(service.clone().oneshot(marked.clone()).await.unwrap().status(), 200);
        assert_eq!(unsent.clone().oneshot(request(Method::POST)).await.unwrap().status(), 200);
    }
    assert!(world.ledger.verdicts().contains(&Err(Failure::Connect)));
}

#[tokio::test(start_paused = true)]
async fn the_last_bad_answer_is_an_answer_and_not_an_error() {
    let world = World::with(3).await;
    let service = Balanced::new(world.upstream.clone(), answering(|_, _| async { Ok(status(502)) }));
    let answer = service.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "answer");
    assert_eq!(world.ledger.verdicts(), [Err(Failure::Server); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_limit_is_retried_only_while_nothing_of_it_was_sent() {
    let world = World::with(2).await;
    for (reads, expected) in [(false, 200), (true, 503)] {
        let service = Balanced::new(
            world.upstream.clone(),
            answering(move |port, request| async move {
                if reads {
                    request.into_body().collect().await?;
                }
                Ok(status(if port == 1 { 503 } else { 200 }))
            }),
        )
        .replay_limit(4);
        let mut statuses = BTreeSet::new();
        for _ in 0..4 {
            let answer = service.clone().oneshot(request(Method::PUT)).await.unwrap();
            statuses.insert(answer.status().as_u16());
        }
        assert!(statuses.contains(&expected), "{statuses:?}");
        assert_eq!(statuses.contains(&503), reads);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_marked_as_not_repeatable_is_not_repeated_whatever_the_options_say() {
    let world = World::with(2).await;
    let options = CallOptions::new().idempotent(true).per_try_timeout(Duration::from_secs(1));
    let service = Balanced::new(
        world.upstream.clone(),
        answering(|port, _| async move {
            if port == 1 {
                std::future::pending::<()>().await;
            }
            Ok(status(200))
        }),
    )
    .options(options);
    let mut timed_out = 0;
    for _ in 0..2 {
        let mut marked = request(Method::POST);
        marked.extensions_mut().insert(Idempotent(false));
        match service.clone().oneshot(marked).await {
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(CallError::TimedOut { .. }) => timed_out += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(timed_out, 1);
    for _ in 0..2 {
        assert_eq!(service.clone().oneshot(request(Method::POST)).await.unwrap().status(), 200);
    }
}

/// A body of this many bytes, each in a part of its own.
struct Crumbs(usize);

impl http_body::Body for Crumbs {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(b".")))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 as u64)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_can_not_send_the_body_leaves_the_call_to_the_first_attempt() {
    let world = World::with(2).await;
    let connect = |_: &Instance, _: &Endpoint| -> Result<_, BoxError> {
        Ok(service_fn(async |request: Request<Replay<Crumbs>>| {
            let body = request.into_body().collect().await?.to_bytes();
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok::<_, BoxError>(Response::new(Full::new(body)))
        }))
    };
    let hedging = CallOptions::new().hedge_after(Duration::from_millis(100));
    let service = Balanced::new(world.upstream.clone(), connect).options(hedging);
    let answer = service.oneshot(Request::put("http://orders/").body(Crumbs(5_000)).unwrap()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 5_000);
}

/// The first attempt is answered with `first` after 500 ms, the second one, the hedge, with `hedge` after 100 ms more than
/// its delay of 100 ms.
async fn hedged(first: u16, hedge: u16) -> (StatusCode, Vec<Option<Failure>>) {
    let world = World::with(2).await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let answers = answering(move |_, _| {
        let is_first = attempts.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let (wait, code) = if is_first { (500, first) } else { (100, hedge) };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            Ok(status(code))
        }
    });
    let hedging = CallOptions::new().hedge_after(Duration::from_millis(100)).attempts(2);
    let service = Balanced::new(world.upstream.clone(), answers).options(hedging);
    let answer = service.oneshot(request(Method::GET)).await.unwrap();
    let status = answer.status();
    answer.into_body().collect().await.unwrap();
    assert_eq!(world.ledger.open(), 0);
    (status, world.ledger.failures())
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_is_turned_away_is_no_answer_while_another_may_come() {
    let throttled = Some(Failure::Throttled);
    assert_eq!(hedged(200, 429).await, (StatusCode::OK, vec![throttled, None]));
    assert_eq!(hedged(200, 501).await, (StatusCode::OK, vec![Some(Failure::Server), None]));
    let both = hedged(429, 429).await;
    assert_eq!(both, (StatusCode::TOO_MANY_REQUESTS, vec![throttled; 2]));
    // It is the best there is.
    let worse = hedged(503, 429).await;
    assert_eq!(worse, (StatusCode::TOO_MANY_REQUESTS, vec![throttled, Some(Failure::Server)]));
    assert_eq!(hedged(200, 404).await, (StatusCode::NOT_FOUND, vec![None, None]), "that is an answer");
}

#[tokio::test(start_paused = true)]
async fn a_request_of_unknown_length_is_hedged_once_it_was_sent() {
    for is_sent in [false, true] {
        let world = World::with(2).await;
        let attempts = Arc::new(AtomicUsize::new(0));
        let connect = move |_: &Instance, _: &Endpoint| -> Result<_, BoxError> {
            let attempts = Arc::clone(&attempts);
            Ok(service_fn(move |request: Request<Replay<_>>| {
                let attempt = attempts.fetch_add(1, Ordering::SeqCst) + 1;
                async move {
                    let mut body = request.into_body();
                    let part = body.frame().await.unwrap()?.into_data().unwrap();
                    if is_sent {
                        assert!(body.frame().await.is_none());
                    }
                    tokio::time::sleep(Duration::from_millis(if attempt == 1 { 500 } else { 10 })).await;
                    let answer = [part, Bytes::from(attempt.to_string())].concat();
                    Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(answer))))
                }
            }))
        };
        let hedging = CallOptions::new().hedge_after(Duration::from_millis(100));
        let service = Balanced::new(world.upstream.clone(), connect).options(hedging);
        let part = futures_util::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"part ")))]);
        let request = Request::put("http://orders/").body(StreamBody::new(part)).unwrap();
        let answer = service.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, if is_sent { "part 2" } else { "part 1" });
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_instance_the_call_fails_at_once_with_a_typed_error() {
    let world = World::with(0).await;
    let mut service = Balanced::new(world.upstream.clone(), answering(|_, _| async { Ok(status(200)) }));
    let error = service.ready().await.unwrap().oneshot(request(Method::GET)).await.unwrap_err();
    assert!(
        matches!(&error, CallError::NoInstance(error) if error.kind() == ErrorKind::NoInstance),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn services_live_as_long_as_their_instances_and_no_longer() {
    let mut world = World::with(3).await;
    let service = Balanced::new(world.upstream.clone(), answering(|_, _| async { Ok(status(200)) }));
    let call = async || {
        for _ in 0..6 {
            service.clone().oneshot(request(Method::GET)).await.unwrap();
        }
    };
    call().await;
    assert_eq!(service.cached(), 3);

    // Another record of the same life keeps its connections.
    let first = world.registrations[0].instance();
    world.registrations[0].update(first.to_builder().weight(7).build().unwrap()).unwrap();
    call().await;
    assert_eq!(service.cached(), 3);

    for round in 0..20_u16 {
        let mut come = Vec::new();
        for port in 1..=5 {
            let instance = Instance::new("orders", format!("http://10.0.0.8:{}", round * 5 + port)).unwrap();
            come.push(world.client.register(instance).await.unwrap());
        }
        world.upstream.ready(8).await.unwrap();
        for _ in 0..2 {
            call().await;
        }
        assert_eq!(service.cached(), 8);
        futures_util::future::join_all(come.into_iter().map(registry_core::Registration::deregister)).await;
        let are_gone = async || (world.upstream.snapshot().len() == 3 && service.cached() == 3).then_some(());
        eventually("services go with their instances", Duration::from_secs(60), are_gone).await.unwrap();
    }
    drop(world.registrations.pop().unwrap());
    let is_gone = async || (service.cached() == 2).then_some(());
    eventually("the service goes with its instance", Duration::from_secs(60), is_gone).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_the_connector_has_nothing_for_is_passed_over_without_blame() {
    let world = World::with(2).await;
    let connect = |_: &Instance, endpoint: &Endpoint| -> Result<Pool, BoxError> {
        if endpoint.port() == 1 {
            return Err("it wants what isn't spoken here".into());
        }
        Ok(BoxCloneService::new(service_fn(|_| async { Ok(status(200)) })))
    };
    let orders = Balanced::new(world.upstream.clone(), connect);
    for _ in 0..10 {
        assert_eq!(orders.clone().oneshot(request(Method::POST)).await.unwrap().status(), 200);
    }
    tokio::task::yield_now().await;
    assert_eq!(world.ledger.open(), 0);
    let ended = world.ledger.ended();
    assert!(ended.iter().flatten().all(|outcome| outcome.get_failure().is_none()), "{ended:?}");
    assert!(ended.iter().any(Option::is_none), "the first one was never picked");
}
