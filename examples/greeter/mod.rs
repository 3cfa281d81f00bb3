//! A gRPC service as `tonic-prost-build` would generate it from this, in short and by hand, so that building needs no
//! `protoc`:
//!
//! ```proto
//! package greeter;
//! message HelloRequest { string name = 1; }
//! message HelloReply { string message = 1; string instance = 2; }
//! service Greeter {
//!   rpc SayHello(HelloRequest) returns (HelloReply);
//!   rpc SayHellos(HelloRequest) returns (stream HelloReply);
//! }
//! ```
#![allow(dead_code, reason = "not every program that includes this uses all of it")]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "as in generated code")]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use http::uri::PathAndQuery;
use tonic::{
    IntoRequest, Request, Response, Status, Streaming,
    body::Body,
    client::{Grpc as ClientGrpc, GrpcService},
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const SAY_HELLO: &str = "/greeter.Greeter/SayHello";
const SAY_HELLOS: &str = "/greeter.Greeter/SayHellos";

#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloRequest {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloReply {
    #[prost(string, tag = "1")]
    pub message: String,
    #[prost(string, tag = "2")]
    pub instance: String,
}

/// What a server implements.
pub trait Greeter: Send + Sync + 'static {
    fn say_hello(&self, name: String) -> impl Future<Output = Result<HelloReply, Status>> + Send;

    fn say_hellos(&self, name: String) -> impl Stream<Item = Result<HelloReply, Status>> + Send + 'static {
        drop(name);
        futures_util::stream::iter([Err(Status::unimplemented("no streams here"))])
    }
}

/// A greeter that says who it is.
pub struct Named(pub String);

impl Greeter for Named {
    async fn say_hello(&self, name: String) -> Result<HelloReply, Status> {
        Ok(HelloReply { message: format!("Hello {name}!"), instance: self.0.clone() })
    }
}

#[derive(Clone, Debug)]
pub struct GreeterClient<T> {
    inner: ClientGrpc<T>,
}

impl<T> GreeterClient<T>
where
    T: GrpcService<Body, Error: Into<BoxError>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    pub fn new(channel: T) -> Self {
        Self { inner: ClientGrpc::new(channel) }
    }

    pub async fn say_hello(
        &mut self,
        request: impl IntoRequest<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(SAY_HELLO);
        self.inner.unary(request.into_request(), path, ProstCodec::default()).await
    }

    pub async fn say_hellos(
        &mut self,
        request: impl IntoRequest<HelloRequest>,
    ) -> Result<Response<Streaming<HelloReply>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(SAY_HELLOS);
        self.inner.server_streaming(request.into_request(), path, ProstCodec::default()).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let error = |error: T::Error| Status::unknown(format!("service was not ready: {}", error.into()));
        self.inner.ready().await.map_err(error)
    }
}

pub struct GreeterServer<G>(Arc<G>);

impl<G: Greeter> GreeterServer<G> {
    pub fn new(greeter: G) -> Self {
        Self(Arc::new(greeter))
    }
}

impl<G: Greeter> Service<http::Request<Body>> for GreeterServer<G> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let greeter = Arc::clone(&self.0);
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<HelloReply, HelloRequest>::default());
            Ok(match request.uri().path() {
                SAY_HELLO => {
                    let method = service_fn(async |hello: Request<HelloRequest>| {
                        greeter.say_hello(hello.into_inner().name).await.map(Response::new)
                    });
                    grpc.unary(method, request).await
                }
                SAY_HELLOS => {
                    let method = service_fn(async |hello: Request<HelloRequest>| {
                        Ok::<_, Status>(Response::new(greeter.say_hellos(hello.into_inner().name)))
                    });
                    grpc.server_streaming(method, request).await
                }
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

impl<G> Clone for GreeterServer<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<G> NamedService for GreeterServer<G> {
    const NAME: &'static str = "greeter.Greeter";
}
