//! Asking for health.

use std::time::Duration;

use registry_core::{Discover, Ejection, Instance, Probe, Target, balance::Failure};
use registry_testkit::eventually;
use registry_tower::tonic::{GrpcChannel, GrpcProbe};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::ServingStatus;

use crate::{
    greeter::{GreeterClient, GreeterServer, Named},
    world::{Node, SOON, World, hello},
};

fn instance(node: &Node) -> Instance {
    Instance::builder("greeter").socket_addr("grpc", node.address).build().unwrap()
}

#[tokio::test]
async fn a_server_is_well_as_long_as_its_health_service_says_so() {
    let mut world = World::of(0).await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let node = Node::start_with(&world.registry, "n0", "grpc", |server| {
        drop(tell.send(server.health()));
        server
    });
    world.nodes.push(node.await);
    let (node, health) = (&mut world.nodes[0], told.await.unwrap());
    let (whole, greeter) = (GrpcProbe::new(), GrpcProbe::new().service("greeter.Greeter"));
    assert_eq!(whole.probe(&instance(node)).await, Ok(()));
    assert_eq!(greeter.probe(&instance(node)).await, Ok(()));

    health.set_service_status("greeter.Greeter", ServingStatus::NotServing).await;
    assert_eq!(whole.probe(&instance(node)).await, Ok(()));
    assert_eq!(greeter.probe(&instance(node)).await, Err(Failure::Server));
    assert_eq!(GrpcProbe::new().service("nobody").probe(&instance(node)).await, Err(Failure::Server));

    node.kill();
    let gone = eventually("its end", SOON, async || {
        (whole.probe(&instance(node)).await == Err(Failure::Connect)).then_some(())
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_health_service_is_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = GreeterServer::new(Named("n0".to_owned()));
    let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    let serving = tokio::spawn(server);
    assert_eq!(GrpcProbe::new().probe(&Instance::new("greeter", endpoint).unwrap()).await, Ok(()));
    serving.abort();
}

#[tokio::test]
async fn an_ejected_instance_comes_back_by_probes_and_no_call_is_risked() {
    let world = World::of(3).await;
    let ejection = Ejection::new().base(Duration::from_millis(100)).probe(GrpcProbe::new());
    let discover = Discover::new(Target::try_from("greeter").unwrap()).ejection(ejection);
    let upstream = world.client.discover_with(discover).await.unwrap();
    upstream.ready_within(3, SOON).await.unwrap();
    let mut client = GreeterClient::new(GrpcChannel::new(upstream.clone()));
    world.nodes[1].greeter.be_sick(true);
    while upstream.snapshot().ejected().next().is_none() {
        drop(client.say_hello(hello("you")).await);
    }

    // Its health service doesn't know that it is sick.
    world.nodes[1].greeter.be_sick(false);
    let calls = world.nodes[1].greeter.calls();
    let back =
        eventually("its return", SOON, async || upstream.snapshot().ejected().next().is_none().then_some(()));
    back.await.unwrap();
    assert_eq!(world.nodes[1].greeter.calls(), calls, "no call was a probe");
    for _ in 0..9 {
        client.say_hello(hello("you")).await.unwrap();
    }
    assert!(world.nodes[1].greeter.calls() > calls);
}
