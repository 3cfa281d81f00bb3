//! A registry behind a real pingora `LoadBalancer`.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pingora_core::services::background::BackgroundService;
use pingora_load_balancing::{
    Backend, Backends, LoadBalancer, discovery::ServiceDiscovery, selection::RoundRobin,
};
use registry_core::{Client, Instance, InstanceBuilder, MemoryRegistry, Registration, Status, Upstream};
use registry_pingora::Backing;

struct World {
    memory: MemoryRegistry,
    client: Client,
    orders: Upstream,
}

impl World {
    async fn new() -> Self {
        let memory = MemoryRegistry::new();
        let client = Client::from_backend(memory.backend()).await.unwrap();
        let orders = client.discover("orders").await.unwrap();
        Self { memory, client, orders }
    }

    async fn register(
        &self,
        port: u16,
        edit: impl FnOnce(InstanceBuilder) -> InstanceBuilder,
    ) -> Registration {
        let builder =
            Instance::builder("orders").id(format!("o{port}")).endpoint(format!("http://10.0.0.1:{port}"));
        self.client.register(edit(builder).build().unwrap()).await.unwrap()
    }

    /// Waits until the view says so: registrations arrive by a watch.
    async fn seen(&self, what: impl Fn(&registry_core::Snapshot) -> bool) {
        let mut changes = self.orders.changes();
        while !what(&changes.next().await.unwrap().snapshot) {}
    }

    /// Port and weight of each backend.
    async fn backends(&self) -> BTreeMap<u16, usize> {
        let (backends, enablement) = Backing::new(self.orders.clone()).discover().await.unwrap();
        assert!(enablement.is_empty());
        backends.iter().map(|b| (b.addr.as_inet().unwrap().port(), b.weight)).collect()
    }

    fn balancer(&self) -> LoadBalancer<RoundRobin> {
        LoadBalancer::from_backends(Backends::new(Box::new(Backing::new(self.orders.clone()))))
    }
}

#[tokio::test(start_paused = true)]
async fn backends_are_the_instances_that_serve_with_their_weights_in_proportion() {
    let world = World::new().await;
    let _a = world.register(1, |i| i).await;
    let _b = world.register(2, |i| i.weight(50)).await;
    let _resting = world.register(3, |i| i.weight(0)).await;
    let _draining = world.register(4, |i| i.status(Status::Draining)).await;
    let _down = world.register(5, |i| i.status(Status::Down)).await;
    world.seen(|view| view.len() == 5).await;
    assert_eq!(world.backends().await, BTreeMap::from([(1, 2), (2, 1)]));
}

#[tokio::test(start_paused = true)]
async fn the_draining_are_used_if_nothing_else_is_left() {
    let world = World::new().await;
    let _draining = world.register(1, |i| i.status(Status::Draining)).await;
    let _down = world.register(2, |i| i.status(Status::Down)).await;
    world.seen(|view| view.len() == 2).await;
    assert_eq!(world.backends().await, BTreeMap::from([(1, 1)]));

    let _serving = world.register(3, |i| i).await;
    world.seen(|view| view.len() == 3).await;
    assert_eq!(world.backends().await, BTreeMap::from([(3, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_backend_tells_which_instance_it_is() {
    let world = World::new().await;
    let _a =
        world.register(1, |i| i.endpoint("https://10.0.0.1:8443").metadata("sni", "orders.example")).await;
    world.seen(|view| view.len() == 1).await;
    let tls = Backing::new(world.orders.clone()).scheme("https");
    let (backends, _) = tls.discover().await.unwrap();
    let backend = backends.first().unwrap();
    assert_eq!(backend.addr.as_inet().unwrap().port(), 8443);
    let instance = backend.ext.get::<Arc<Instance>>().unwrap();
    assert_eq!(instance.metadata().get("sni"), Some("orders.example"));

    // Somebody is there, but not for this proxy: it keeps what it has.
    let none = Backing::new(world.orders.clone()).scheme("thrift").discover().await;
    assert!(none.unwrap_err().to_string().contains("scheme"));
}

#[tokio::test(start_paused = true)]
async fn instances_without_the_wanted_scheme_do_not_hide_others_that_leave() {
    let world = World::new().await;
    let old = world.register(1, |instance| instance).await;
    let new = Instance::builder("orders").id("new").endpoint("grpc://10.0.0.9:9000").build().unwrap();
    let _new = world.client.register(new).await.unwrap();
    let leaving = old.instance().to_builder().status(Status::Draining).build().unwrap();
    old.update(leaving).unwrap();
    world.seen(|view| view.len() == 2 && view.usable_len() == 1).await;
    let (backends, _) = Backing::new(world.orders.clone()).scheme("http").discover().await.unwrap();
    assert_eq!(backends.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn neither_an_outage_nor_lost_data_empties_the_backends() {
    let world = World::new().await;
    let registrations = [world.register(1, |i| i).await, world.register(2, |i| i).await];
    world.seen(|view| view.len() == 2).await;
    let balancer = world.balancer();
    balancer.update().await.unwrap();

    world.memory.faults().unavailable(true);
    tokio::time::sleep(Duration::from_secs(600)).await;
    balancer.update().await.unwrap();
    assert_eq!(balancer.backends().get_backend().len(), 2);
    assert!(balancer.select(b"", 16).is_some());

    world.memory.faults().lose_data();
    world.memory.faults().heal();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        balancer.update().await.unwrap();
        assert_eq!(balancer.backends().get_backend().len(), 2);
    }
    drop(registrations);
}

#[tokio::test(start_paused = true)]
async fn without_any_view_pingora_keeps_what_it_has() {
    let memory = MemoryRegistry::new();
    memory.faults().unavailable(true);
    let client = Client::from_backend(memory.backend()).await.unwrap();
    let backing = Backing::new(client.discover_lazy("orders").unwrap());
    let error = backing.discover().await.unwrap_err();
    assert!(error.to_string().contains("the registry has not answered"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn weights_reach_pingoras_selection() {
    let world = World::new().await;
    let _a = world.register(1, |i| i.weight(300)).await;
    let _b = world.register(2, |i| i).await;
    world.seen(|view| view.len() == 2).await;
    let balancer: LoadBalancer<RoundRobin> =
        LoadBalancer::from_backends(Backends::new(Box::new(Backing::new(world.orders.clone()))));
    balancer.update().await.unwrap();
    let mut hits = BTreeMap::<u16, u32>::new();
    for _ in 0..400 {
        let backend = balancer.select(b"", 16).unwrap();
        *hits.entry(backend.addr.as_inet().unwrap().port()).or_default() += 1;
    }
    assert_eq!(hits, BTreeMap::from([(1, 300), (2, 100)]));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_registry_reaches_the_balancer_without_polling() {
    let world = World::new().await;
    let (balancer, follow) = registry_pingora::follow(world.balancer(), world.orders.clone());
    let (stop, shutdown) = tokio::sync::watch::channel(false);
    let service = tokio::spawn(async move { follow.start(shutdown).await });

    let ports = || -> Vec<u16> {
        let backends = balancer.backends().get_backend();
        backends.iter().map(|b| b.addr.as_inet().unwrap().port()).collect()
    };
    let reached = async |wanted: &[u16]| {
        let reached = async {
            while ports() != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1), reached).await.expect("the change arrives");
    };
    let first = world.register(1, |i| i).await;
    let second = world.register(2, |i| i).await;
    reached(&[1, 2]).await;
    first.deregister().await;
    reached(&[2]).await;

    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(1), service).await.expect("it ends with the proxy").unwrap();
    drop(second);
}

/// Fails as often as it is told, and counts.
struct Moody {
    asked: Arc<AtomicUsize>,
    fails: usize,
}

#[async_trait]
impl ServiceDiscovery for Moody {
    async fn discover(&self) -> pingora_error::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        if self.asked.fetch_add(1, Ordering::SeqCst) < self.fails {
            return pingora_error::Error::e_explain(pingora_error::ErrorType::InternalError, "as told");
        }
        Ok((BTreeSet::from([Backend::new("10.0.0.1:1").unwrap()]), HashMap::new()))
    }
}

/// How often a discovery that fails as often as this is asked, of one instance with this endpoint, within this time.
async fn asked_within(time: Duration, fails: usize, endpoint: &str) -> usize {
    let world = World::new().await;
    let endpoint = endpoint.to_owned();
    let _a = world.register(1, |i| i.clear_endpoints().endpoint(endpoint)).await;
    world.seen(|view| view.len() == 1).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let moody = Moody { asked: Arc::clone(&asked), fails };
    let balancer: LoadBalancer<RoundRobin> = LoadBalancer::from_backends(Backends::new(Box::new(moody)));
    let (balancer, follow) = registry_pingora::follow(balancer, world.orders.clone());
    let (_stop, shutdown) = tokio::sync::watch::channel(false);
    let service = tokio::spawn(async move { follow.start(shutdown).await });
    tokio::time::sleep(time).await;
    assert_eq!(balancer.backends().get_backend().len(), usize::from(asked.load(Ordering::SeqCst) > fails));
    service.abort();
    asked.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn an_update_that_failed_is_made_again_with_growing_pauses_until_it_succeeds() {
    let address = "http://10.0.0.1:1";
    // At 0, 1, 3, 7 and 15 s.
    assert_eq!(asked_within(Duration::from_secs(5), usize::MAX, address).await, 3);
    assert_eq!(asked_within(Duration::from_secs(10), 3, address).await, 4);
    assert_eq!(asked_within(Duration::from_secs(600), 3, address).await, 4, "nothing is left to do");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_for_again_at_least_every_30_s() {
    let asked = asked_within(Duration::from_secs(600), 0, "http://orders.example:1").await;
    assert!((20..30).contains(&asked), "{asked}");
}
