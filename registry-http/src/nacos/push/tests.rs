use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

const CHANGE: &str = r#"{"lastRefTime":173205080756887,"type":"dom","data":"{\"name\":\"DEFAULT_GROUP@@orders\",\"groupName\":\"DEFAULT_GROUP\",\"hosts\":[]}"}"#;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_change_names_its_service_plain_or_gzipped() {
    for datagram in [CHANGE.as_bytes().to_vec(), gzip(CHANGE.as_bytes())] {
        let packet = Packet::parse(&datagram).unwrap();
        assert_eq!(packet.service.as_deref(), Some("DEFAULT_GROUP@@orders"));
        assert_eq!(
            packet.acknowledgement(),
            r#"{"type":"push-ack","lastRefTime":"173205080756887","data":""}"#
        );
    }
    let bare = CHANGE.replace("DEFAULT_GROUP@@orders", "orders");
    assert_eq!(Packet::parse(bare.as_bytes()).unwrap().service.as_deref(), Some("DEFAULT_GROUP@@orders"));
}

#[test]
fn other_packets_are_acknowledged_as_what_they_are() {
    for (kind, acknowledged) in [("service", "push-ack"), ("dump", "dump-ack"), ("new", "unknown-ack")] {
        let packet = Packet::parse(CHANGE.replace("dom", kind).as_bytes()).unwrap();
        assert!(packet.acknowledgement().contains(acknowledged), "{kind}");
        assert_eq!(packet.service.is_some(), kind == "service", "{kind}");
    }
}

#[test]
fn garbage_and_bombs_are_no_packets() {
    let bomb = gzip(&vec![b' '; 8 << 20]);
    assert!(bomb.len() < MAX_DATAGRAM);
    let truncated = &gzip(CHANGE.as_bytes())[..20];
    for datagram in [&b""[..], b"7", b"{}", b"\xff\xfe", br#"{"type":"dom"}"#, &bomb, truncated] {
        assert_eq!(Packet::parse(datagram), None);
    }
}

#[tokio::test]
async fn a_push_wakes_its_service_once_and_is_acknowledged_each_time() {
    let pushes = Pushes::default();
    let mut orders = pushes.changes("DEFAULT_GROUP@@orders");
    let mut billing = pushes.changes("DEFAULT_GROUP@@billing");
    let subscription = pushes.subscription("127.0.0.1:1", None).await.unwrap();
    assert_eq!(subscription.ip, IpAddr::from(Ipv4Addr::LOCALHOST));
    assert_eq!(pushes.subscription("127.0.0.1:1", None).await, Some(subscription), "one socket for all");

    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 256];
    for repetition in 0..3 {
        server.send_to(CHANGE.as_bytes(), ("127.0.0.1", subscription.port)).await.unwrap();
        let (length, _) = server.recv_from(&mut buffer).await.unwrap();
        assert!(buffer[..length].starts_with(br#"{"type":"push-ack""#));
        assert_eq!(orders.has_changed().unwrap(), repetition == 0, "a repetition is no news");
        orders.borrow_and_update();
    }
    assert!(!billing.has_changed().unwrap());
    server.send_to(b"garbage", ("127.0.0.1", subscription.port)).await.unwrap();
    server.send_to(CHANGE.replace('8', "9").as_bytes(), ("127.0.0.1", subscription.port)).await.unwrap();
    orders.changed().await.unwrap();
    billing.borrow_and_update();
}

#[tokio::test(start_paused = true)]
async fn no_watch_waits_long_for_a_name_that_does_not_resolve() {
    let pushes = Pushes::default();
    let began = Instant::now();
    let held = pushes.socket.lock().await;
    assert_eq!(pushes.subscription("127.0.0.1:1", None).await, None, "another one still resolves it");
    assert_eq!(began.elapsed(), WITHIN);
    drop(held);
    assert_eq!(pushes.subscription("127.0.0.1:no-port", None).await, None);
    assert_eq!(pushes.subscription("127.0.0.1:1", None).await, None, "not again and again");
    tokio::time::advance(AGAIN).await;
    assert!(pushes.subscription("127.0.0.1:1", None).await.is_some());
    assert!(pushes.subscription("127.0.0.1:no-port", None).await.is_some(), "one socket for all");
}

#[tokio::test]
async fn the_socket_closes_with_its_owner() {
    let pushes = Pushes::default();
    let port = pushes.subscription("127.0.0.1:1", None).await.unwrap().port;
    drop(pushes);
    // The port is free once the task has been dropped.
    let freed = async {
        while UdpSocket::bind(("0.0.0.0", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), freed).await.expect("the port is free again");
}
