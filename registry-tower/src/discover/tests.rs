use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use registry_core::{Endpoint, Instance, Status};
use tower::discover::Change;

use super::Discovered;
use crate::{BoxError, Connect, world::World};

/// The service of an instance is its port.
fn by_port() -> impl Connect<Service = u16> {
    |_: &Instance, endpoint: &Endpoint| -> Result<u16, BoxError> { Ok(endpoint.port()) }
}

/// What is there to read, as text.
async fn read<C: Connect<Service = u16> + Unpin>(discovered: &mut Discovered<C>) -> Vec<String> {
    let mut steps = Vec::new();
    // The keeper and the reflector get their turns.
    tokio::time::sleep(Duration::from_millis(100)).await;
    while let Some(Some(Ok(change))) = discovered.next().now_or_never() {
        steps.push(match change {
            Change::Insert(_, port) => format!("insert {port}"),
            Change::Remove(_) => "remove".to_owned(),
        });
    }
    steps.sort();
    steps
}

#[tokio::test(start_paused = true)]
async fn instances_are_inserted_inserted_again_when_their_record_changes_and_removed() {
    let mut world = World::with(2).await;
    let mut discovered = Discovered::new(&world.upstream, by_port());
    assert_eq!(read(&mut discovered).await, ["insert 1", "insert 2"]);
    assert_eq!(read(&mut discovered).await, [""; 0]);

    let first = world.registrations[0].instance();
    world.registrations[0].update(first.to_builder().weight(7).build().unwrap()).unwrap();
    assert_eq!(read(&mut discovered).await, ["insert 1"]);
    world.registrations[0].update(first.to_builder().metadata("team", "core").build().unwrap()).unwrap();
    assert_eq!(read(&mut discovered).await, ["insert 1"]);

    world.registrations.remove(1).deregister().await;
    assert_eq!(read(&mut discovered).await, ["remove"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_drains_leaves_unless_nothing_else_is_left() {
    let world = World::with(2).await;
    let mut discovered = Discovered::new(&world.upstream, by_port());
    assert_eq!(read(&mut discovered).await, ["insert 1", "insert 2"]);
    let drain = |at: usize| {
        let instance = world.registrations[at].instance();
        world.registrations[at]
            .update(instance.to_builder().status(Status::Draining).build().unwrap())
            .unwrap();
    };
    drain(0);
    assert_eq!(read(&mut discovered).await, ["remove"]);
    drain(1);
    assert_eq!(read(&mut discovered).await, ["insert 1", "insert 2"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_a_weight_leaves_unless_nothing_else_is_left() {
    let world = World::with(2).await;
    let mut discovered = Discovered::new(&world.upstream, by_port());
    assert_eq!(read(&mut discovered).await, ["insert 1", "insert 2"]);
    let weigh = |at: usize, weight| {
        let instance = world.registrations[at].instance();
        world.registrations[at].update(instance.to_builder().weight(weight).build().unwrap()).unwrap();
    };
    weigh(0, 7);
    assert_eq!(read(&mut discovered).await, ["insert 1"]);
    weigh(0, 0);
    assert_eq!(read(&mut discovered).await, ["remove"]);
    weigh(1, 0);
    assert_eq!(read(&mut discovered).await, ["insert 1", "insert 2"]);
}

#[tokio::test(start_paused = true)]
async fn the_service_of_an_old_record_goes_if_the_new_one_cannot_be_connected_to() {
    let world = World::with(2).await;
    let plain = |_: &Instance, endpoint: &Endpoint| match endpoint.scheme() {
        "http" => Ok::<u16, BoxError>(endpoint.port()),
        other => Err(format!("{other} isn't spoken").into()),
    };
    let mut discovered = Discovered::new(&world.upstream, plain);
    assert_eq!(read(&mut discovered).await, ["insert 1", "insert 2"]);
    let first = world.registrations[0].instance();
    let with = |endpoint| first.to_builder().clear_endpoints().endpoint(endpoint).build().unwrap();
    world.registrations[0].update(with("https://10.0.0.7:1")).unwrap();
    assert_eq!(read(&mut discovered).await, ["remove"]);
    world.registrations[0].update(with("http://10.0.0.7:9")).unwrap();
    assert_eq!(read(&mut discovered).await, ["insert 9"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_late_gets_the_newest_view_only() {
    let mut world = World::with(3).await;
    let mut discovered = Discovered::new(&world.upstream, by_port());
    world.registrations.remove(0).deregister().await;
    assert_eq!(read(&mut discovered).await, ["insert 2", "insert 3"]);
    world.client.close().await;
    // Perhaps with the last ones removed, but not without an end.
    let rest = tokio::time::timeout(Duration::from_secs(60), discovered.collect::<Vec<_>>()).await;
    let rest = rest.expect("it ends when the client is closed");
    assert!(rest.iter().all(|change| matches!(change, Ok(Change::Remove(_)))), "{}", rest.len());
}

#[tokio::test(start_paused = true)]
async fn it_drives_towers_own_balancer() {
    use tower::{
        Service, ServiceExt,
        balance::p2c::Balance,
        load::{CompleteOnResponse, PendingRequestsDiscover},
        service_fn,
        util::BoxCloneSyncService,
    };
    type Pool = BoxCloneSyncService<(), u16, BoxError>;
    let world = World::with(2).await;
    let connect = |_: &Instance, endpoint: &Endpoint| -> Result<Pool, BoxError> {
        let port = endpoint.port();
        Ok(BoxCloneSyncService::new(service_fn(move |()| std::future::ready(Ok::<_, BoxError>(port)))))
    };
    let discovered = Discovered::new(&world.upstream, connect);
    let mut balance = Balance::new(PendingRequestsDiscover::new(discovered, CompleteOnResponse::default()));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        seen.insert(balance.ready().await.unwrap().call(()).await.unwrap());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2]);
}
