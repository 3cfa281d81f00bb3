//! Where calls go, and which are made again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{
    CallOptions, Discover, Ejection, Instance, Target, Upstream,
    balance::{Balance, Failure},
};
use registry_testkit::eventually;
use registry_tower::{Idempotent, tonic::GrpcChannel};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    greeter::GreeterClient,
    world::{SOON, World, hello},
};

/// Callers that don't pause, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<Vec<Status>>>,
}

impl Load {
    fn start(channel: &GrpcChannel, callers: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let call = |_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let mut client = GreeterClient::new(channel.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match client.say_hello(hello("you")).await {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::SeqCst)),
                        Err(status) => failed.push(status),
                    }
                }
                failed
            })
        };
        let callers = (0..callers).map(call).collect();
        Self { stop, answered, callers }
    }

    async fn more(&self, answers: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + answers;
        eventually("answers", 3 * SOON, async || {
            (self.answered.load(Ordering::SeqCst) >= goal).then_some(())
        })
        .await
        .unwrap();
    }

    async fn stop(self) -> Vec<Status> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failed = Vec::new();
        for caller in self.callers {
            failed.extend(caller.await.unwrap());
        }
        failed
    }
}

#[tokio::test]
async fn calls_go_to_every_instance() {
    let world = World::of(3).await;
    let mut client = GreeterClient::new(GrpcChannel::new(world.upstream().await));
    for _ in 0..30 {
        client.say_hello(hello("you")).await.unwrap();
    }
    assert_eq!(world.calls().into_values().collect::<Vec<_>>(), [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_five_is_invisible_to_idempotent_calls() {
    let mut world = World::of(5).await;
    let channel = GrpcChannel::builder(world.upstream().await).idempotent(true).build();
    let load = Load::start(&channel, 8);
    load.more(500).await;
    world.nodes[2].kill();
    load.more(1_000).await;
    assert_eq!(load.stop().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_leaves_costs_no_call_idempotent_or_not() {
    let world = World::of(3).await;
    let channel = GrpcChannel::new(world.upstream().await);
    let load = Load::start(&channel, 8);
    load.more(300).await;

    let drain = registry_core::Drain::default().propagate(Duration::from_millis(200));
    let report = world.nodes[1].client.drain(drain).await;
    assert!(report.is_clean(), "{report:?}");
    let calls = world.nodes[1].greeter.calls();
    load.more(300).await;
    assert_eq!(load.stop().await.len(), 0);
    assert_eq!(world.nodes[1].greeter.calls(), calls, "it gets no calls any more");
}

#[tokio::test]
async fn what_was_never_sent_goes_to_another_instance_whatever_it_is() {
    let world = World::of(1).await;
    // Nobody listens there.
    let gone = Instance::builder("greeter").id("gone").endpoint("grpc://127.0.0.1:1").build().unwrap();
    let there = Instance::builder("greeter").id("there").socket_addr("grpc", world.nodes[0].address);
    let both = Upstream::fixed(
        Target::try_from("greeter").unwrap(),
        [gone, there.build().unwrap()],
        &Balance::default(),
    );
    let mut client = GreeterClient::new(GrpcChannel::new(both));
    // Fewer than the retries that any upstream may make.
    for _ in 0..10 {
        client.say_hello(hello("you")).await.unwrap();
        client.say_hellos(hello("you")).await.unwrap();
    }
}

#[tokio::test]
async fn an_idempotent_call_that_is_unavailable_goes_elsewhere() {
    let world = World::of(2).await;
    let (upstream, ledger) = world.observed().await;
    let mut client = GreeterClient::new(GrpcChannel::builder(upstream).idempotent(true).build());
    for _ in 0..4 {
        let answer = client.say_hello(hello("unless n0")).await.unwrap().into_inner();
        assert_eq!(answer.instance, "n1");
    }
    assert!(ledger.verdicts().contains(&Err(Failure::Server)));
}

#[tokio::test]
async fn the_last_answer_is_the_callers_if_all_are_unavailable() {
    let world = World::of(2).await;
    for (idempotent, attempts) in [(false, 1), (true, 4)] {
        let channel = GrpcChannel::builder(world.upstream().await).idempotent(idempotent).build();
        let mut client = GreeterClient::new(channel);
        let status = client.say_hello(hello("fail Unavailable")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "as told"));
        assert_eq!(
            world.calls().into_values().sum::<usize>(),
            attempts,
            "three attempts if it may be repeated"
        );
    }
}

#[tokio::test]
async fn what_an_application_answers_is_not_asked_twice() {
    let world = World::of(2).await;
    let channel = GrpcChannel::builder(world.upstream().await).idempotent(true).build();
    let mut client = GreeterClient::new(channel);
    for code in [Code::NotFound, Code::Internal, Code::ResourceExhausted] {
        let before = world.calls().into_values().sum::<usize>();
        let status = client.say_hello(hello(&format!("fail {code:?}"))).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert_eq!(world.calls().into_values().sum::<usize>(), before + 1, "{code:?}");
    }
}

#[tokio::test]
async fn a_call_that_broke_after_it_was_sent_is_made_again_only_if_it_is_idempotent() {
    for is_idempotent in [false, true] {
        let mut world = World::of(2).await;
        let (upstream, _) = world.observed().await;
        let mut client = GreeterClient::new(GrpcChannel::new(upstream));
        let mut request = hello("wait");
        request.extensions_mut().insert(Idempotent(is_idempotent));
        let call = tokio::spawn(async move { client.say_hello(request).await });

        let first = loop {
            match world.nodes.iter().position(|node| node.greeter.calls() > 0) {
                Some(first) => break first,
                None => tokio::task::yield_now().await,
            }
        };
        world.nodes[first].kill();
        world.nodes[1 - first].greeter.gate.add_permits(1);
        let answer = call.await.unwrap();
        if is_idempotent {
            assert_eq!(answer.unwrap().into_inner().instance, format!("n{}", 1 - first));
        } else {
            assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
            assert_eq!(world.nodes[1 - first].greeter.calls(), 0);
        }
    }
}

#[tokio::test]
async fn an_instance_that_hangs_costs_the_time_of_one_attempt_if_the_call_is_idempotent() {
    let world = World::of(2).await;
    let (upstream, ledger) = world.observed().await;
    let options = CallOptions::new().per_try_timeout(Duration::from_millis(300));
    let channel = GrpcChannel::builder(upstream).options(options);
    let mut reading = GreeterClient::new(channel.clone().idempotent(true).build());
    let answer = reading.say_hello(hello("wait n0")).await.unwrap().into_inner();
    assert_eq!(answer.instance, "n1");
    assert_eq!(ledger.verdicts(), [Err(Failure::Timeout), Ok(())]);

    let mut writing = GreeterClient::new(channel.build());
    let status = writing.say_hello(hello("wait n0")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn an_instance_that_hangs_costs_the_hedges_delay_if_the_call_is_idempotent() {
    let world = World::of(2).await;
    let (upstream, ledger) = world.observed().await;
    let channel = GrpcChannel::builder(upstream)
        .options(CallOptions::new().hedge_after(Duration::from_millis(200)))
        .idempotent(true)
        .build();
    let mut client = GreeterClient::new(channel);
    let answer = tokio::time::timeout(SOON, client.say_hello(hello("wait n0"))).await;
    let answer = answer.expect("a hedge").unwrap();
    assert_eq!(answer.into_inner().instance, "n1");
    assert_eq!(world.calls().into_values().collect::<Vec<_>>(), [1, 1]);
    assert_eq!((ledger.open(), ledger.failures()), (0, vec![None; 2]), "who was slow isn't blamed");
}

#[tokio::test]
async fn the_callers_timeout_is_over_all_attempts_and_blames_who_was_slow() {
    let world = World::of(2).await;
    let (upstream, ledger) = world.observed().await;
    let channel = GrpcChannel::builder(upstream).idempotent(true).build();
    let mut request = hello("wait");
    request.set_timeout(Duration::from_millis(300));
    let status = GreeterClient::new(channel).say_hello(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(world.calls().into_values().sum::<usize>(), 1, "there was no time for another");
    assert_eq!(ledger.verdicts(), [Err(Failure::Timeout)]);
}

#[tokio::test]
async fn a_call_without_time_blames_nobody() {
    let world = World::of(2).await;
    let (upstream, ledger) = world.observed().await;
    let mut request = hello("you");
    request.set_timeout(Duration::ZERO);
    let status = GreeterClient::new(GrpcChannel::new(upstream)).say_hello(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!((ledger.open(), ledger.failures()), (0, vec![None]));
    assert_eq!(world.calls().into_values().sum::<usize>(), 0);
}

#[tokio::test]
async fn an_attempt_that_began_late_is_not_blamed_for_the_callers_deadline() {
    let world = World::of(2).await;
    let (upstream, ledger) = world.observed().await;
    let options = CallOptions::new().per_try_timeout(Duration::from_millis(600));
    let channel = GrpcChannel::builder(upstream).options(options).idempotent(true).build();
    let mut request = hello("wait");
    request.set_timeout(Duration::from_millis(900));
    let status = GreeterClient::new(channel).say_hello(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(ledger.failures(), [Some(Failure::Timeout), None]);
}

#[tokio::test]
async fn a_service_without_instances_is_unavailable_and_the_status_says_why() {
    let world = World::of(0).await;
    let mut client = GreeterClient::new(GrpcChannel::new(world.upstream().await));
    let status = client.say_hello(hello("you")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no instance of greeter"), "{status}");
}

#[tokio::test]
async fn an_ejected_instance_gets_probes_only_until_one_succeeds() {
    const BASE: Duration = Duration::from_millis(300);
    let world = World::of(3).await;
    let ejection = Ejection::new().base(BASE);
    let discover = Discover::new(Target::try_from("greeter").unwrap()).ejection(ejection);
    let upstream = world.client.discover_with(discover).await.unwrap();
    upstream.ready_within(3, SOON).await.unwrap();
    let mut client = GreeterClient::new(GrpcChannel::new(upstream.clone()));
    let sick = &world.nodes[1];
    sick.greeter.be_sick(true);
    let is_out = || upstream.snapshot().ejected().any(|key| key.id.as_str() == "n1");
    while !is_out() {
        drop(client.say_hello(hello("you")).await);
    }

    let (since, before) = (Instant::now(), sick.greeter.calls());
    let mut failed = 0;
    while since.elapsed() < 3 * BASE {
        failed += usize::from(client.say_hello(hello("you")).await.is_err());
    }
    let probes = sick.greeter.calls() - before;
    assert!((1..=3).contains(&probes), "{probes} probes in three times the shortest ejection");
    assert_eq!(failed, probes, "nothing else goes there");

    sick.greeter.be_sick(false);
    let back = eventually("its return", SOON, async || {
        client.say_hello(hello("you")).await.unwrap();
        (!is_out()).then_some(())
    });
    back.await.unwrap();
    let before = sick.greeter.calls();
    for _ in 0..9 {
        client.say_hello(hello("you")).await.unwrap();
    }
    assert_eq!(sick.greeter.calls(), before + 3);
}
