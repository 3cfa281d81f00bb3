//! Connections that don't come about, and streams that are refused.

use std::{net::SocketAddr, time::Duration};

use h2::Reason;
use registry_core::{CallOptions, Instance, Target, Upstream, balance::Balance};
use registry_testkit::{Proxy, eventually};
use registry_tower::tonic::{GrpcChannel, GrpcTransport};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tonic::Code;

use crate::{
    greeter::GreeterClient,
    world::{SOON, World, hello},
};

fn upstream(addresses: impl IntoIterator<Item = SocketAddr>) -> Upstream {
    let instances = addresses.into_iter().enumerate().map(|(id, address)| {
        Instance::builder("greeter").id(format!("i{id}")).socket_addr("grpc", address).build().unwrap()
    });
    Upstream::fixed(Target::try_from("greeter").unwrap(), instances, &Balance::default())
}

/// An address where connections are neither accepted nor refused, for as long as the result is kept.
async fn hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    // The kernel takes as many as the queue holds, and answers no more then.
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(connected.unwrap());
    }
    (address, queued, listener)
}

#[tokio::test]
async fn no_call_waits_behind_others_for_an_address_that_swallows_packets() {
    let world = World::of(1).await;
    let (hole, _queued, _listener) = hole().await;
    let channel = GrpcChannel::builder(upstream([hole, world.nodes[0].address]))
        .transport(GrpcTransport::new().connect_timeout(Duration::from_millis(500)))
        .build();
    let calls = (0..40).map(|_| {
        let mut client = GreeterClient::new(channel.clone());
        async move { client.say_hello(hello("you")).await }
    });
    // Half of them meet the hole: one behind the other they would take 10 s.
    let answers = tokio::time::timeout(Duration::from_secs(5), futures_util::future::join_all(calls)).await;
    assert!(answers.unwrap().iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_hole_that_comes_to_life_is_used_at_once() {
    let (hole, queued, listener) = hole().await;
    let channel = GrpcChannel::builder(upstream([hole]))
        .transport(GrpcTransport::new().connect_timeout(Duration::from_millis(300)))
        .options(CallOptions::new().attempts(1))
        .build();
    let mut client = GreeterClient::new(channel);
    let status = client.say_hello(hello("you")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no connection within"), "{status}");

    drop((queued, listener));
    let listener = TcpListener::bind(hole).await.unwrap();
    let service = crate::greeter::GreeterServer::new(crate::greeter::Named("alive".to_owned()));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    let serving = tokio::spawn(server);
    assert_eq!(client.say_hello(hello("you")).await.unwrap().into_inner().instance, "alive");
    serving.abort();
}

/// A server that resets every stream for this reason.
async fn resetting(reason: Reason) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(connection).await.unwrap();
                while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                    // The message has arrived: to the client it is sent.
                    tokio::spawn(async move {
                        while request.body_mut().data().await.is_some() {}
                        respond.send_reset(reason);
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_stream_that_the_server_refuses_goes_elsewhere_and_one_that_it_resets_does_not() {
    let world = World::of(1).await;
    for (reason, is_safe) in [(Reason::REFUSED_STREAM, true), (Reason::INTERNAL_ERROR, false)] {
        let bad = resetting(reason).await;
        let mut client = GreeterClient::new(GrpcChannel::new(upstream([bad, world.nodes[0].address])));
        let mut failed = 0;
        for _ in 0..10 {
            let answer = tokio::time::timeout(SOON, client.say_hello(hello("you"))).await.unwrap();
            failed += usize::from(answer.is_err());
        }
        assert_eq!(failed, if is_safe { 0 } else { 5 }, "{reason}");
    }
}

#[tokio::test]
async fn an_instance_has_one_connection_until_it_leaves_and_its_calls_are_over() {
    let world = World::of(1).await;
    let proxy = Proxy::start(world.nodes[0].address).await.unwrap();
    let instance = Instance::builder("proxied").socket_addr("grpc", proxy.address()).build().unwrap();
    let registration = world.client.register(instance).await.unwrap();
    let upstream = world.client.discover("proxied").await.unwrap();
    upstream.ready_within(1, SOON).await.unwrap();
    let channel = GrpcChannel::new(upstream);
    let calls = (0..20).map(|_| {
        let mut client = GreeterClient::new(channel.clone());
        async move { client.say_hello(hello("you")).await }
    });
    assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
    let mut client = GreeterClient::new(channel.clone());
    let mut replies = client.say_hellos(hello("you")).await.unwrap().into_inner();
    replies.message().await.unwrap();
    assert_eq!(proxy.connections(), 1);

    registration.deregister().await;
    let gone =
        eventually("its leaving", SOON, async || channel.upstream().snapshot().is_empty().then_some(()));
    gone.await.unwrap();
    world.nodes[0].greeter.gate.add_permits(1);
    assert!(replies.message().await.unwrap().is_some(), "the call goes on");
    assert!(replies.message().await.unwrap().is_none());
    drop(replies);
    eventually("its end", SOON, async || (proxy.connections() == 0).then_some(())).await.unwrap();
}
