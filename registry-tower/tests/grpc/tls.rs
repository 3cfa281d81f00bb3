//! The name of the server's certificate.

use std::fs;

use registry_testkit::TestCa;
use registry_tower::tonic::{GrpcChannel, GrpcTransport};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig},
};

use crate::{
    greeter::GreeterClient,
    world::{Node, World, hello},
};

/// A world whose one server is called `greeter.test`, and what trusts it.
async fn world(scheme: &'static str) -> (World, ClientTlsConfig) {
    let ca = TestCa::new("an authority").unwrap();
    let cert = ca.server_called("greeter.test").unwrap();
    let read = |path| fs::read_to_string(path).unwrap();
    let identity = Identity::from_pem(read(cert.cert()), read(cert.key()));
    let mut world = World::of(0).await;
    let node = Node::start_with(&world.registry, "tls", scheme, |server| {
        server.configure(|server| server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap())
    });
    world.nodes.push(node.await);
    (world, ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca.cert()))))
}

async fn channel(world: &World, transport: GrpcTransport) -> GrpcChannel {
    GrpcChannel::builder(world.upstream().await).transport(transport).build()
}

#[tokio::test]
async fn the_certificate_has_to_be_for_the_given_name_though_the_connection_goes_to_an_address() {
    let (world, trust) = world("grpcs").await;
    let channel = channel(&world, GrpcTransport::new().tls(trust).domain_name("greeter.test")).await;
    GreeterClient::new(channel).say_hello(hello("you")).await.unwrap();
}

#[tokio::test]
async fn without_a_name_the_certificate_has_to_be_for_the_endpoints_host() {
    let (world, trust) = world("grpcs").await;
    let channel = channel(&world, GrpcTransport::new().tls(trust)).await;
    let status = GreeterClient::new(channel).say_hello(hello("you")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("certificate not valid for name"), "{status}");
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused() {
    let (world, _) = world("grpcs").await;
    let channel = channel(&world, GrpcTransport::new().domain_name("greeter.test")).await;
    let status = GreeterClient::new(channel).say_hello(hello("you")).await.unwrap_err();
    assert!(status.message().contains("UnknownIssuer"), "{status}");
}

#[tokio::test]
async fn a_record_that_says_otherwise_does_not_turn_tls_off() {
    let (world, trust) = world("grpc").await;
    let channel = channel(&world, GrpcTransport::new().tls(trust).domain_name("greeter.test")).await;
    GreeterClient::new(channel).say_hello(hello("you")).await.unwrap();
}
