//! The proxy against a plain TCP echo server.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Proxy;

/// Far more than any step needs: reached only when it fails.
const LONG: Duration = Duration::from_secs(10);
/// How long a silence is watched.
const SILENCE: Duration = Duration::from_millis(100);

/// Answers every connection with what it sends, prefixed once by a byte of its own.
struct Echo {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start(prefix: &'static [u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    if to.write_all(prefix).await.is_ok() {
                        let _ = copy(&mut from, &mut to).await;
                    }
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

async fn proxied() -> (Echo, Proxy) {
    let echo = Echo::start(b"").await;
    let proxy = Proxy::start(echo.address).await.unwrap();
    (echo, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn receive(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(LONG, stream.read_exact(&mut bytes)).await.expect("bytes in time").unwrap();
    bytes
}

async fn round_trip(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(receive(stream, 4).await, b"ping");
}

async fn assert_silent(stream: &mut TcpStream) {
    let mut byte = [0; 1];
    let read = timeout(SILENCE, stream.read(&mut byte)).await;
    assert!(read.is_err(), "neither bytes nor an end: {read:?}");
}

async fn assert_reset(stream: &mut TcpStream) {
    let mut byte = [0; 1];
    let error = timeout(LONG, stream.read(&mut byte)).await.expect("an end in time").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn bytes_and_half_closes_pass_both_ways() {
    let (_echo, proxy) = proxied().await;
    let mut stream = connect(&proxy).await;
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let read = async { from.read_to_end(&mut received).await.unwrap() };
    timeout(LONG, async { tokio::join!(write, read) }).await.expect("all in time");
    assert!(received == sent);
    timeout(LONG, proxy.wait_for_connections(0)).await.expect("the connection ends");
}

#[tokio::test]
async fn a_cut_resets_connections_and_refuses_new_ones_until_restored() {
    let (_echo, proxy) = proxied().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream).await;
    assert_eq!(proxy.connections(), 1);

    for _ in 0..3 {
        timeout(LONG, proxy.cut()).await.unwrap();
        assert_eq!(proxy.connections(), 0);
        assert_reset(&mut stream).await;
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        timeout(LONG, proxy.restore()).await.unwrap();
        stream = connect(&proxy).await;
        round_trip(&mut stream).await;
    }
}

#[tokio::test]
async fn a_reset_spares_new_connections() {
    let (_echo, proxy) = proxied().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream).await;
    timeout(LONG, proxy.reset()).await.unwrap();
    assert_reset(&mut stream).await;
    round_trip(&mut connect(&proxy).await).await;
}

#[tokio::test]
async fn a_reset_is_over_with_the_old_connections_though_a_client_connects_again_at_once() {
    let (_echo, proxy) = proxied().await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream).await;
    let mut reset = std::pin::pin!(proxy.reset());
    tokio::select! {
        biased;
        () = &mut reset => panic!("one connection is open"),
        () = std::future::ready(()) => {}
    }
    let mut again = connect(&proxy).await;
    round_trip(&mut again).await;
    assert_reset(&mut stream).await;
    timeout(LONG, reset).await.expect("the old connection has ended");
    round_trip(&mut again).await;
}

#[tokio::test]
async fn a_held_connection_is_silent_and_continues_afterwards() {
    let (_echo, proxy) = proxied().await;
    let mut old = connect(&proxy).await;
    round_trip(&mut old).await;

    proxy.hold();
    old.write_all(b"late").await.unwrap();
    assert_silent(&mut old).await;
    let mut new = connect(&proxy).await;
    new.write_all(b"new").await.unwrap();
    assert_silent(&mut new).await;

    proxy.restore().await;
    assert_eq!(receive(&mut old, 4).await, b"late");
    assert_eq!(receive(&mut new, 3).await, b"new");
}

#[tokio::test]
async fn a_hold_keeps_back_that_the_server_died() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut stream = connect(&proxy).await;
    let (server, _) = timeout(LONG, listener.accept()).await.unwrap().unwrap();

    proxy.hold();
    drop(server);
    drop(listener);
    assert_silent(&mut stream).await;
    assert_silent(&mut connect(&proxy).await).await;

    proxy.restore().await;
    let mut byte = [0; 1];
    let read = timeout(LONG, stream.read(&mut byte)).await.expect("the end arrives");
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test]
async fn a_hold_of_one_direction_lets_the_other_pass() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut client = connect(&proxy).await;
    let (mut server, _) = timeout(LONG, listener.accept()).await.unwrap().unwrap();

    proxy.hold_towards_client();
    client.write_all(b"request").await.unwrap();
    assert_eq!(receive(&mut server, 7).await, b"request");
    server.write_all(b"answer").await.unwrap();
    assert_silent(&mut client).await;
    proxy.restore().await;
    assert_eq!(receive(&mut client, 6).await, b"answer");

    proxy.hold_towards_server();
    server.write_all(b"event").await.unwrap();
    assert_eq!(receive(&mut client, 5).await, b"event");
    client.write_all(b"ack").await.unwrap();
    assert_silent(&mut server).await;
    proxy.restore().await;
    assert_eq!(receive(&mut server, 3).await, b"ack");
}

#[tokio::test]
async fn a_cut_ends_held_connections_too() {
    let (_echo, proxy) = proxied().await;
    proxy.hold();
    let mut stream = connect(&proxy).await;
    timeout(LONG, proxy.wait_for_connections(1)).await.unwrap();
    timeout(LONG, proxy.cut()).await.unwrap();
    assert_reset(&mut stream).await;
}

#[tokio::test]
async fn a_delay_holds_for_each_direction_and_ends_at_once() {
    const DELAY: Duration = Duration::from_millis(60);
    let (_echo, proxy) = proxied().await;
    let mut stream = connect(&proxy).await;
    proxy.delay(DELAY);
    let start = Instant::now();
    round_trip(&mut stream).await;
    assert!(start.elapsed() >= 2 * DELAY);

    proxy.delay(Duration::from_secs(3600));
    stream.write_all(b"late").await.unwrap();
    assert_silent(&mut stream).await;
    proxy.restore().await;
    assert_eq!(receive(&mut stream, 4).await, b"late");
}

#[tokio::test]
async fn a_trickle_bounds_the_rate_until_restored() {
    let (_echo, proxy) = proxied().await;
    let mut stream = connect(&proxy).await;
    proxy.trickle(NonZeroU64::new(100).unwrap());
    let start = Instant::now();
    stream.write_all(&[7; 100_000]).await.unwrap();
    receive(&mut stream, 20).await;
    // The first piece of each direction is free.
    assert!(start.elapsed() >= Duration::from_millis(100));
    proxy.restore().await;
    receive(&mut stream, 100_000 - 20).await;
}

#[tokio::test]
async fn a_new_target_serves_new_connections_only() {
    let one = Echo::start(b"1").await;
    let two = Echo::start(b"2").await;
    let proxy = Proxy::start(one.address).await.unwrap();
    let mut old = connect(&proxy).await;
    assert_eq!(receive(&mut old, 1).await, b"1");
    proxy.retarget(two.address);
    assert_eq!(receive(&mut connect(&proxy).await, 1).await, b"2");
    round_trip(&mut old).await;
}

#[tokio::test]
async fn a_dead_target_resets_the_client() {
    let (echo, proxy) = proxied().await;
    drop(echo);
    tokio::task::yield_now().await;
    assert_reset(&mut connect(&proxy).await).await;
}

#[tokio::test]
async fn dropping_the_proxy_ends_everything() {
    let (_echo, proxy) = proxied().await;
    let address = proxy.address();
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream).await;
    drop(proxy);
    assert_reset(&mut stream).await;
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
