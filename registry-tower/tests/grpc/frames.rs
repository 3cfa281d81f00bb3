//! What a server that leaves says on the wire: HTTP/2 by hand, as clients hide it (RFC 9113).

use std::time::Duration;

use registry_core::Drain;
use registry_testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    drain::drain_after,
    world::{LARGE, Node, SOON, World},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
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
    /// A connection that grants streams of this many bytes without being asked again.
    async fn open(mut stream: TcpStream, window: u32) -> Self {
        stream.write_all(PREFACE).await.unwrap();
        let mut wire = Self(stream);
        let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        setting.extend(window.to_be_bytes());
        wire.write(SETTINGS, 0, 0, &setting).await;
        wire.write(WINDOW_UPDATE, 0, 0, &window.to_be_bytes()).await;
        wire
    }

    async fn to(node: &Node) -> Self {
        Self::open(TcpStream::connect(node.address).await.unwrap(), 1 << 20).await
    }

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
            self.acknowledge(&frame, SETTINGS).await;
            if frame.kind == kind {
                return frame;
            }
        }
    }

    async fn acknowledge(&mut self, frame: &Frame, kind: u8) {
        if frame.kind == kind && frame.flags & ACK == 0 {
            // A ping comes back as it was; settings don't.
            let payload = if kind == PING { &*frame.payload } else { &[] };
            self.write(kind, ACK, 0, payload).await;
        }
    }

    /// What a peer does that knows the protocol: all frames until the server closes.
    async fn finish(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read().await {
            self.acknowledge(&frame, PING).await;
            frames.push(frame);
        }
        frames
    }

    /// A call of `SayHello` with this name.
    async fn call(&mut self, stream: u32, name: &str) {
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
        // Field 1, so many bytes; before that: not compressed, so many bytes.
        let mut message = vec![0x0a];
        message.extend(literal(name));
        let mut body = vec![0, 0, 0, 0];
        body.push(u8::try_from(message.len()).unwrap());
        body.extend(message);
        self.write(DATA, END_STREAM, stream, &body).await;
    }
}

/// The streams whose answers are complete.
fn ended(frames: &[Frame]) -> Vec<u32> {
    let last = |frame: &&Frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0;
    frames.iter().filter(last).map(|frame| frame.stream).collect()
}

fn last_stream(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[..4].try_into().unwrap())
}

#[tokio::test]
async fn the_first_goaway_permits_every_stream_and_the_second_names_the_last_one_taken() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let mut wire = Wire::to(node).await;
    wire.call(1, "wait").await;
    node.greeter.called(1).await;

    let draining = drain_after(node, Duration::ZERO);
    let first = wire.next(GOAWAY).await;
    assert_eq!((last_stream(&first), &first.payload[4..8]), (EVERY_STREAM, &[0; 4][..]));

    // A call that was on its way when the GOAWAY was: it is served.
    wire.call(3, "wait").await;
    node.greeter.called(2).await;
    let ping = wire.next(PING).await;
    wire.write(PING, ACK, 0, &ping.payload).await;
    let second = wire.next(GOAWAY).await;
    assert_eq!(last_stream(&second), 3);

    assert!(!draining.is_finished());
    node.greeter.gate.add_permits(2);
    let mut ended = ended(&wire.finish().await);
    ended.sort_unstable();
    assert_eq!(ended, [1, 3]);
    let report = draining.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn a_call_on_its_way_is_served_though_nothing_was_in_flight_when_the_server_left() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let mut wire = Wire::to(node).await;
    wire.next(SETTINGS).await;
    let draining = drain_after(node, Duration::ZERO);
    wire.next(GOAWAY).await;
    // The way of the GOAWAY to the client, and of the call to the server.
    sleep(Duration::from_millis(300)).await;
    node.greeter.gate.add_permits(1);
    wire.call(1, "wait").await;
    while wire.next(HEADERS).await.flags & END_STREAM == 0 {}
    assert_eq!(node.greeter.calls(), 1);
    assert!(draining.await.unwrap().is_clean());
}

#[tokio::test]
async fn a_peer_that_never_says_goodbye_does_not_hold_up_the_drain() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let mut wire = Wire::to(node).await;
    wire.next(SETTINGS).await;
    let report = node.client.drain(Drain::default().propagate(Duration::ZERO)).await;
    assert!(report.is_clean(), "{report:?}");
    assert!(report.elapsed < Duration::from_secs(4), "{report:?}");
}

#[tokio::test]
async fn a_call_that_came_before_the_server_had_heard_of_its_connection_is_served() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let release = node.stall().await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut wire = Wire::to(node).await;
        wire.call(1, "you").await;
        waiting.push(wire);
    }
    let draining = drain_after(node, Duration::ZERO);
    node.client.in_flight().refusing().await;
    drop(release);
    for mut wire in waiting {
        let frames = wire.finish().await;
        assert_eq!(ended(&frames), [1]);
        assert!(frames.iter().any(|frame| frame.kind == GOAWAY));
    }
    assert_eq!(node.greeter.calls(), 20);
    // Its keeper was held up too, so not all was as it should be.
    assert_eq!(draining.await.unwrap().in_flight_aborted, 0);
}

#[tokio::test]
async fn an_answer_that_was_given_arrives_whole_however_slowly_it_is_read() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = socket.connect(node.address).await.unwrap();
    let mut wire = Wire::open(stream, 2 * u32::try_from(LARGE).unwrap()).await;
    wire.call(1, "large").await;
    // The answer is on its way, and nothing more is to be done for it.
    wire.next(HEADERS).await;
    let idle = async || (node.client.in_flight().requests() == 0).then_some(());
    eventually("the end of the call", SOON, idle).await.unwrap();

    let draining = drain_after(node, Duration::ZERO);
    node.client.in_flight().refusing().await;
    // Busy with something else.
    sleep(Duration::from_secs(3)).await;
    let mut length = 0;
    while let Some(frame) = wire.read().await {
        wire.acknowledge(&frame, PING).await;
        if frame.kind == DATA {
            length += frame.payload.len();
            // It grants more, as clients do, whether it is needed or not, and though the server may have closed.
            wire.write(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).await;
        }
    }
    assert!(length > LARGE, "{length}");
    let report = draining.await.unwrap();
    assert!(report.is_clean() && report.elapsed < SOON, "{report:?}");
}
