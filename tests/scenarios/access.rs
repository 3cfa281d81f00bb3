//! Users and passwords.

use std::time::Duration;

use registry_testkit::Etcd;
use service_registry::{ErrorKind, RegisterOptions, Start};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::{
    recorder::Losses,
    world::{World, client, instance, outage, url},
};

/// An etcd with a user `app`; tokens live 2 s after their last use.
async fn guarded() -> Etcd {
    let etcd = Etcd::builder().auth(Duration::from_secs(2)).start().await.unwrap();
    etcd.ctl().add_user("app", "hunter2", "/stories/").await.unwrap();
    etcd
}

/// How many calls etcd has begun to serve, of all kinds, as it counts them itself.
async fn calls(etcd: &Etcd) -> u64 {
    let mut stream = TcpStream::connect(etcd.address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await.unwrap();
    let counts: Vec<u64> = metrics
        .lines()
        .filter(|line| line.starts_with("grpc_server_started_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(!counts.is_empty(), "etcd counts no calls");
    counts.iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn tokens_that_end_every_two_seconds_stop_nobody() {
    let etcd = guarded().await;
    let url = url(Some("app:hunter2"), &[etcd.address()]);
    let world = World::start(&url, &url, etcd.ctl()).await;
    // Four lives of a token; the reader's is not used meanwhile.
    outage(Instant::now(), Duration::from_secs(8)).await;
    world.assert_recovers("tokens of 2 s", Instant::now(), Losses::None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_wrong_password_is_named_and_not_tried_in_a_loop() {
    let etcd = guarded().await;
    let client = client(&url(Some("app:hunter3"), &[etcd.address()])).await;
    let error = client.register(instance("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    let before = calls(&etcd).await;
    let options = RegisterOptions::new().start(Start::Background);
    let _registration = client.register_with(instance("b"), options).await.unwrap();
    // The time during which the calls are counted.
    outage(Instant::now(), Duration::from_secs(5)).await;
    let made = calls(&etcd).await - before;
    println!("wrong password: {made} calls in 5 s");
    assert!((1..=10).contains(&made), "{made} calls in 5 s");
}
