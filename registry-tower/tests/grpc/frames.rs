//! What a server that leaves says on the wire: HTTP/2 by hand, as clients hide it (RFC 9113).

use std::time::Duration;

use registry_core::Drain;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::world::{SOON, World};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const EVERY_STREAM: u32 = (1 << 31) - 1;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Wire(TcpStream);

impl Wire {
    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame, or `None` at the end.
    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if timeout(SOON, self.0.read_exact(&mut head)).await.expect("a frame in time").is_err() {
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.unwrap();
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind; settings are acknowledged on the way.
    async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.read().await.expect("the connection is open");
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.write(SETTINGS, ACK, 0, &[]).await;
            }
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// A call of `SayHello` with the name "wait".
    async fn call(&mut self, stream: u32) {
        let literal = |text: &str| {
            let mut bytes = vec![u8::try_from(text.len()).unwrap()];
            bytes.extend(text.as_bytes());
            bytes
        };
        // Indexed: POST, http. Literal by an indexed name: path, authority; by a new name: content-type, te.
        let mut headers = vec![0x83, 0x86, 0x04];
        headers.extend(literal("/greeter.Greeter/SayHello"));
        headers.push(0x01);
        headers.extend(literal("greeter"));
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            headers.push(0x00);
            headers.extend(literal(name));
            headers.extend(literal(value));
        }
        self.write(HEADERS, END_HEADERS, stream, &headers).await;
        // Not compressed, six bytes: field 1, four bytes.
        self.write(DATA, END_STREAM, stream, b"\0\0\0\0\x06\x0a\x04wait").await;
    }
}

fn last_stream(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[..4].try_into().unwrap())
}

#[tokio::test]
async fn the_first_goaway_permits_every_stream_and_the_second_names_the_last_one_taken() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let mut wire = Wire(TcpStream::connect(node.address).await.unwrap());
    wire.0.write_all(PREFACE).await.unwrap();
    wire.write(SETTINGS, 0, 0, &[]).await;
    wire.call(1).await;
    node.greeter.called(1).await;

    let client = node.client.clone();
    let drain = Drain::default().propagate(Duration::ZERO);
    let draining = tokio::spawn(async move { client.drain(drain).await });
    let first = wire.next(GOAWAY).await;
    assert_eq!((last_stream(&first), &first.payload[4..8]), (EVERY_STREAM, &[0; 4][..]));

    // A call that was on its way when the GOAWAY was: it is served.
    wire.call(3).await;
    node.greeter.called(2).await;
    let ping = wire.next(PING).await;
    wire.write(PING, ACK, 0, &ping.payload).await;
    let second = wire.next(GOAWAY).await;
    assert_eq!(last_stream(&second), 3);

    assert!(!draining.is_finished());
    node.greeter.gate.add_permits(2);
    let mut ended = Vec::new();
    while let Some(frame) = wire.read().await {
        if frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
            ended.push(frame.stream);
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 3]);
    let report = draining.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn a_call_on_its_way_is_served_though_nothing_was_in_flight_when_the_server_left() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let mut wire = Wire(TcpStream::connect(node.address).await.unwrap());
    wire.0.write_all(PREFACE).await.unwrap();
    wire.write(SETTINGS, 0, 0, &[]).await;
    wire.next(SETTINGS).await;
    let client = node.client.clone();
    let drain = Drain::default().propagate(Duration::ZERO);
    let draining = tokio::spawn(async move { client.drain(drain).await });
    wire.next(GOAWAY).await;
    // The way of the GOAWAY to the client, and of the call to the server.
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.greeter.gate.add_permits(1);
    wire.call(1).await;
    while wire.next(HEADERS).await.flags & END_STREAM == 0 {}
    assert_eq!(node.greeter.calls(), 1);
    assert!(draining.await.unwrap().is_clean());
}

#[tokio::test]
async fn a_peer_that_never_says_goodbye_does_not_hold_up_the_drain() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let mut wire = Wire(TcpStream::connect(node.address).await.unwrap());
    wire.0.write_all(PREFACE).await.unwrap();
    wire.write(SETTINGS, 0, 0, &[]).await;
    wire.next(SETTINGS).await;
    let report = node.client.drain(Drain::default().propagate(Duration::ZERO)).await;
    assert!(report.is_clean(), "{report:?}");
    assert!(report.elapsed < Duration::from_secs(4), "{report:?}");
}
