//! What the tests of this crate call: a service in memory, and a policy that writes down how picks ended.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use registry_core::{
    Client, ClientConfig, Discover, Instance, MemoryRegistry, Registration, ShrinkGuard, Target, Upstream,
    balance::{Balance, Balancer, Draw, Failure, Members, Outcome, Picker, Slot, Ticket},
};

/// Takes the instances in turn and writes down how picks ended.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    begun: AtomicUsize,
    ended: Mutex<Vec<Option<Outcome>>>,
}

#[derive(Debug)]
struct InTurn(AtomicUsize, usize);

impl Balancer for Ledger {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        Arc::new(InTurn(AtomicUsize::new(0), members.len()))
    }

    fn observes(&self) -> bool {
        true
    }

    fn begin(&self, _: Slot) -> Ticket {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Ticket::default()
    }

    fn end(&self, _: Slot, _: Ticket, outcome: Option<&Outcome>) {
        self.ended.lock().unwrap().push(outcome.copied());
    }
}

impl Ledger {
    /// How many picks haven't ended.
    pub(crate) fn open(&self) -> usize {
        self.begun.load(Ordering::SeqCst) - self.ended.lock().unwrap().len()
    }

    /// How the picks ended, each with a verdict.
    pub(crate) fn failures(&self) -> Vec<Option<Failure>> {
        self.outcomes().iter().map(Outcome::get_failure).collect()
    }

    /// How the picks ended, with or without a verdict.
    pub(crate) fn ended(&self) -> Vec<Option<Outcome>> {
        self.ended.lock().unwrap().clone()
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.ended.lock().unwrap().iter().map(|outcome| outcome.expect("a verdict")).collect()
    }
}

impl Picker for InTurn {
    fn pick(&self, _: &Draw<'_>) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) % self.1
    }
}

/// One service, `orders`, and a view of it.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) upstream: Upstream,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) registrations: Vec<Registration>,
}

impl World {
    /// With an instance for each of these endpoints.
    pub(crate) async fn of(endpoints: impl IntoIterator<Item = String>) -> Self {
        // What leaves leaves at once, even if many do.
        let mut config = ClientConfig::default();
        config.shrink_guard = ShrinkGuard::Off;
        let registry = MemoryRegistry::new();
        let client = Client::builder().config(config).backend(registry.backend()).build().await.unwrap();
        let ledger = Arc::new(Ledger::default());
        let policy = Arc::clone(&ledger);
        let balance = Balance::custom("ledger", move || Arc::<Ledger>::clone(&policy));
        let discover = Discover::new(Target::try_from("orders").unwrap()).balance(balance);
        let mut registrations = Vec::new();
        for endpoint in endpoints {
            let instance = Instance::new("orders", endpoint).unwrap();
            registrations.push(client.register(instance).await.unwrap());
        }
        let upstream = client.discover_with(discover).await.unwrap();
        upstream.ready(registrations.len()).await.unwrap();
        Self { client, upstream, ledger, registrations }
    }

    /// With this many instances, on ports from 1.
    pub(crate) async fn with(instances: u16) -> Self {
        Self::of((1..=instances).map(|port| format!("http://10.0.0.7:{port}"))).await
    }
}
