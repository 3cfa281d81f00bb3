//! A gRPC health service, as small as it can be: one service that serves or not.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Runs until it is dropped.
pub(crate) struct GrpcHealth {
    pub(crate) port: u16,
    state: Arc<State>,
    _task: JoinSet<()>,
}

struct State {
    service: &'static str,
    is_serving: AtomicBool,
    asked: AtomicUsize,
}

impl GrpcHealth {
    /// Serves from the start.
    pub(crate) async fn start(service: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state =
            Arc::new(State { service, is_serving: AtomicBool::new(true), asked: AtomicUsize::new(0) });
        let mut task = JoinSet::new();
        let shared = Arc::clone(&state);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, Arc::clone(&shared)));
            }
        });
        Self { port, state, _task: task }
    }

    pub(crate) fn serve(&self, serves: bool) {
        self.state.is_serving.store(serves, Ordering::SeqCst);
    }

    /// How often it was asked for its service.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut answers = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        answers.spawn(answer(request, respond, Arc::clone(&state)));
    }
}

/// Says what a `HealthCheckRequest` for the service is to be told; nothing to any other.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, state: Arc<State>) {
    if request.uri().path() != "/grpc.health.v1.Health/Check" {
        return;
    }
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        message.extend_from_slice(&chunk);
    }
    // Five bytes of frame, then field 1, which is a string.
    let wanted = [&[0x0a, u8::try_from(state.service.len()).unwrap()], state.service.as_bytes()].concat();
    if message.get(5..) != Some(&*wanted) {
        return;
    }
    state.asked.fetch_add(1, Ordering::SeqCst);
    let serving = if state.is_serving.load(Ordering::SeqCst) { 1 } else { 2 };
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    // Field 1, an enumeration.
    let _ = stream.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, serving]), false);
    let _ = stream.send_trailers(HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]));
}
