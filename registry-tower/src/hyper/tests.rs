mod clients;
mod servers;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, response::Response, routing::any};
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use registry_core::{Client, Drain, DrainReport, MemoryRegistry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::Server;

/// For what comes soon, if it comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// An instance of its own, in a registry that others share.
struct Host {
    address: SocketAddr,
    client: Client,
    running: JoinHandle<DrainReport>,
}

/// Leaves as quickly as the stages allow.
fn quickly() -> Drain {
    Drain::new().propagate(Duration::ZERO).budget(Duration::from_secs(6))
}

impl Host {
    async fn start(registry: &MemoryRegistry, app: Router) -> Self {
        Self::start_with(registry, app, quickly()).await
    }

    async fn start_with(registry: &MemoryRegistry, app: Router, drain: Drain) -> Self {
        let client = Client::from_backend(registry.backend()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(listener, app).register("orders").exempt("/health").drain(drain);
        let of_server = client.clone();
        let running = tokio::spawn(async move { server.run(&of_server).await.unwrap() });
        registry
            .until(|registry| {
                registry
                    .snapshot_of("orders")
                    .iter()
                    .any(|instance| instance.endpoint().port() == address.port())
            })
            .await;
        Self { address, client, running }
    }

    /// Begins to leave, as by a signal but for the process.
    fn leave(&self) -> JoinHandle<DrainReport> {
        let client = self.client.clone();
        tokio::spawn(async move { client.drain(quickly()).await })
    }

    /// A connection to speak by hand.
    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// The answer to `/large`: more than the system buffers.
const LARGE: usize = 24 << 20;

/// Answers everything, and `/slow`, `/endless` and `/large` as they say.
fn app() -> Router {
    let answer = |request: axum::extract::Request| async move {
        match request.uri().path() {
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Response::new(Body::from("slow"))
            }
            "/endless" => {
                let frames = stream::unfold((), async |()| {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"."))), ()))
                });
                Response::new(Body::new(StreamBody::new(Box::pin(frames))))
            }
            "/large" => Response::new(Body::from(vec![b'.'; LARGE])),
            _ => Response::new(Body::from("answer")),
        }
    };
    Router::new().fallback(any(answer))
}

async fn send(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// What is read until the other side closes.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset ends it as well.
    drop(timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the other side closes"));
    String::from_utf8_lossy(&text).into_owned()
}

/// What is read until this occurs in it.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut part = [0; 1024];
        let length = timeout(PATIENCE, stream.read(&mut part)).await.expect("more to read").unwrap();
        assert!(length > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    text
}
