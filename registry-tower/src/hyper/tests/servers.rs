use registry_core::DrainStage;
use registry_testkit::eventually;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn idle_connections_close_at_once_and_the_port_too() {
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    let mut idle = host.dial().await;
    send(&mut idle, "/").await;
    read_until(&mut idle, "answer").await;

    let report = host.leave().await.unwrap();
    assert!(report.is_clean() && report.elapsed < 3 * SECOND, "{report:?}");
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(host.address).await.is_err());
    assert!(registry.snapshot_of("orders").is_empty());
    assert!(host.running.await.unwrap().is_clean());
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_its_connection_closed() {
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    let mut busy = host.dial().await;
    send(&mut busy, "/slow").await;
    let in_flight = async || (host.client.in_flight().requests() > 0).then_some(());
    eventually("the request arrives", 60 * SECOND, in_flight).await.unwrap();
    let leaving = host.leave();
    let answer = read_all(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("slow"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let report = leaving.await.unwrap();
    assert!(report.is_clean() && report.elapsed < 3 * SECOND, "{report:?}");
}

#[tokio::test]
async fn a_connection_opened_in_the_last_moment_is_answered_that_it_may_go_elsewhere() {
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    let mut late = host.dial().await;
    let mut health = host.dial().await;
    let leaving = host.leave();
    host.client.in_flight().refusing().await;
    send(&mut late, "/").await;
    let answer = read_all(&mut late).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("connection: close"), "{answer}");
    assert!(answer.contains("service-registry-refused: draining"), "{answer}");
    send(&mut health, "/health").await;
    let answer = read_all(&mut health).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(leaving.await.unwrap().is_clean());
}

#[tokio::test]
async fn a_peer_that_sent_half_a_head_does_not_hold_up_the_exit() {
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    let mut half = host.dial().await;
    half.write_all(b"GET / HTTP/1.1\r\nhost: ord").await.unwrap();
    let mut used = host.dial().await;
    send(&mut used, "/").await;
    read_until(&mut used, "answer").await;
    used.write_all(b"GET / HTTP/1.1\r\nhost: ord").await.unwrap();
    let report = host.client.drain(Drain::new().propagate(Duration::ZERO)).await;
    assert!(report.is_clean() && report.elapsed < 9 * SECOND, "{report:?}");
    assert!(!read_all(&mut half).await.contains("200"));
}

#[tokio::test]
async fn a_large_answer_to_a_slow_reader_arrives_whole() {
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    let mut slow = host.dial().await;
    send(&mut slow, "/large").await;
    let head = read_until(&mut slow, "\r\n\r\n").await;
    let mut length = head.len() - head.find("\r\n\r\n").unwrap() - 4;
    let client = host.client.clone();
    let leaving = tokio::spawn(async move { client.drain(Drain::new().propagate(Duration::ZERO)).await });
    let mut part = vec![0; 1 << 20];
    while let Ok(read @ 1..) = slow.read(&mut part).await {
        length += read;
        // All of it takes longer than a connection has that does nothing.
        tokio::time::sleep(8 * SECOND * u32::try_from(read).unwrap() / u32::try_from(LARGE).unwrap()).await;
    }
    assert_eq!(length, LARGE);
    let report = leaving.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off_when_the_budget_is_spent() {
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    let mut endless = host.dial().await;
    send(&mut endless, "/endless").await;
    read_until(&mut endless, "HTTP/1.1 200").await;
    let report = host.leave().await.unwrap();
    assert_eq!((report.in_flight_aborted, report.cut_in), (1, Some(DrainStage::Wait)), "{report:?}");
    assert!(report.elapsed < 20 * SECOND, "{report:?}");
    timeout(10 * SECOND, read_all(&mut endless)).await.unwrap();
    assert!(!host.running.await.unwrap().is_clean());
}

#[tokio::test]
async fn a_server_that_cannot_register_says_so_and_stops() {
    let registry = MemoryRegistry::new();
    let client = Client::from_backend(registry.backend()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = Server::new(listener, app()).register("not/a name").run(&client).await.unwrap_err();
    assert_eq!(error.kind(), registry_core::ErrorKind::InvalidArgument);
    // The acceptance ends with its own task.
    let is_closed = async || TcpStream::connect(address).await.is_err().then_some(());
    eventually("the port closes", 60 * SECOND, is_closed).await.unwrap();
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_handler_of_axums_learns_who_asks() {
    use axum::extract::ConnectInfo;
    let registry = MemoryRegistry::new();
    let app = Router::new()
        .fallback(any(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| format!("you are {peer}")));
    let host = Host::start(&registry, app).await;
    let mut stream = host.dial().await;
    send(&mut stream, "/").await;
    let answer = format!("you are {}", stream.local_addr().unwrap());
    read_until(&mut stream, &answer).await;
}
