//! One owner and one reader of a memory registry, each over a link of its own, and a history of what they live
//! through.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use registry_core::{
    Client, Deregistration, Instance, InstanceKey, ManualClock, MemoryRegistry, Phase, Registration, Target,
    Upstream, backend::SourceId,
};
use registry_testkit::faults::{
    ClientFleet, Figure, Fleet, History, Observation, Policy, Reader, Recorders, Records, UpstreamReader,
    Violation, records, settle,
};
use tokio::time::{Instant, sleep_until};

use super::{
    scripted::Link,
    support::{EventLog, client_with, instance, log_of, millis, secs},
};

/// The service of every world.
pub(crate) const SERVICE: &str = "orders";
/// The reader's name in the history.
pub(crate) const READER: &str = "reader";
const OWNER: &str = "owner";

/// How often is looked, by the time since something was done: each simulated millisecond at first.
const GEARS: [(Duration, Gear); 3] = [
    (secs(10), Gear { views: millis(1), statuses: millis(20), truths: millis(5) }),
    (secs(90), Gear { views: millis(10), statuses: millis(20), truths: millis(20) }),
    (Duration::MAX, Gear { views: secs(5), statuses: secs(5), truths: secs(5) }),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gear {
    views: Duration,
    statuses: Duration,
    truths: Duration,
}

/// How soon after the registry is usable so many registrations are back: 10 s, and what pacing adds.
pub(crate) fn back_bound(registrations: usize) -> Duration {
    secs(10) + millis(5) * u32::try_from(registrations.saturating_sub(1_000)).unwrap()
}

pub(crate) struct World {
    row: u8,
    pub(crate) registry: MemoryRegistry,
    pub(crate) owner_link: Link,
    pub(crate) reader_link: Link,
    /// The wall clock of both.
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) owner: Client,
    pub(crate) reader: Client,
    pub(crate) fleet: Arc<ClientFleet>,
    pub(crate) keys: Vec<InstanceKey>,
    /// The events of each registration.
    pub(crate) logs: Vec<EventLog>,
    pub(crate) upstream: Upstream,
    pub(crate) history: History,
    seen: Arc<dyn Reader>,
    recorders: Recorders,
    samplers: Option<(Gear, Recorders)>,
    touched: Instant,
    /// When the registry became usable last.
    pub(crate) usable_at: Duration,
}

impl World {
    /// The name of the backend's watcher in the history.
    pub(crate) const WATCHER: &str = "watcher";

    /// `n` registrations that the reader sees, all well.
    pub(crate) async fn start(row: u8, n: usize) -> Self {
        Self::start_with(row, n, Policy::default()).await
    }

    pub(crate) async fn start_with(row: u8, n: usize, policy: Policy) -> Self {
        fastrand::seed(u64::from(row) * 1_000 + n as u64);
        let history = History::new();
        let registry = MemoryRegistry::new();
        let (owner_link, reader_link) = (Link::clear(&registry), Link::clear(&registry));
        let clock = Arc::new(ManualClock::new());
        let wall = || Arc::<ManualClock>::clone(&clock);
        let owner = client_with(owner_link.backend(), |builder| builder.clock(wall())).await;
        let reader = client_with(reader_link.backend(), |builder| builder.clock(wall())).await;
        let fleet = ClientFleet::new(OWNER, owner.clone(), &history);
        let registering = (0..n).map(|n| fleet.register(instance(SERVICE, &format!("i{n:04}")), policy));
        for registered in futures_util::future::join_all(registering).await {
            registered.unwrap();
        }
        let keys = fleet.keys();
        let logs = keys.iter().map(|key| log_of(&fleet.registration(key).unwrap())).collect();
        let upstream = reader.discover(SERVICE).await.unwrap();
        upstream.ready(n).await.unwrap();
        let seen: Arc<dyn Reader> = Arc::new(UpstreamReader::new(READER, upstream.clone()));
        let mut recorders = Recorders::new(&history);
        recorders.changes(&seen);
        let mut world = Self {
            row,
            registry,
            owner_link,
            reader_link,
            clock,
            owner,
            reader,
            fleet,
            keys,
            logs,
            upstream,
            history,
            seen,
            recorders,
            samplers: None,
            touched: Instant::now(),
            usable_at: Duration::ZERO,
        };
        world.shift();
        world
    }

    pub(crate) fn registration(&self, n: usize) -> Arc<Registration> {
        self.fleet.registration(&self.keys[n]).unwrap()
    }

    pub(crate) fn phase(&self, n: usize) -> Phase {
        self.registration(n).phase()
    }

    pub(crate) fn target() -> Target {
        Target::try_from(SERVICE).unwrap()
    }

    /// Watches the backend itself too.
    pub(crate) fn watch_backend(&mut self) {
        self.recorders.watch(Self::WATCHER, Arc::new(self.registry.clone()), Self::target());
    }

    /// Something is done to the world: it is looked at closely from here on.
    pub(crate) fn mark(&mut self, text: &str) {
        self.history.mark(text);
        self.touched = Instant::now();
        self.shift();
    }

    pub(crate) fn outage(&mut self, text: &str) {
        self.history.outage(text);
        self.mark(text);
    }

    pub(crate) fn usable(&mut self, text: &str) {
        self.history.usable(text);
        self.usable_at = self.history.now();
        self.mark(text);
    }

    /// Every record is about to be removed by no fault of its owner.
    pub(crate) fn gone_all(&self, why: &str) {
        self.keys.iter().for_each(|key| self.history.gone(key, why));
    }

    /// Replaces what one registration publishes.
    pub(crate) async fn update(&self, instance: Instance) {
        self.fleet.update(instance).await.unwrap();
    }

    /// Withdraws one registration.
    pub(crate) async fn withdraw(&mut self, key: &InstanceKey) -> Option<Deregistration> {
        self.keys.retain(|other| other != key);
        self.fleet.deregister(key).await
    }

    /// Lets time pass.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.shift();
            let next = GEARS.iter().map(|(until, _)| until).find(|until| self.touched.elapsed() < **until);
            let shift = next.and_then(|until| self.touched.checked_add(*until)).unwrap_or(end);
            sleep_until(end.min(shift)).await;
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Lets time pass until everything wanted is live, stored and seen, at most two minutes, and a little longer. It
    /// judges nothing.
    pub(crate) async fn back(&mut self) {
        let step = millis(10).max(self.keys.len() as u32 * Duration::from_micros(100));
        let since = Instant::now();
        while !self.is_back() && since.elapsed() < secs(120) {
            self.pass(step).await;
        }
        self.pass(secs(3)).await;
    }

    fn is_back(&self) -> bool {
        let stored = records(&self.registry.snapshot_of(SERVICE));
        let is_whole = |key: &InstanceKey| {
            let registration = self.fleet.registration(key).unwrap();
            let wanted = registration.instance();
            registration.phase() == Phase::Live && stored.get(key).is_some_and(|there| **there == *wanted)
        };
        let seen = self.seen.view();
        seen.state == registry_core::ViewState::Fresh
            && seen.records.len() == stored.len()
            && self.keys.iter().all(is_whole)
    }

    /// Whether the reader's view was ever another than at the start: else its order can't be judged.
    pub(crate) fn has_changed_view(&self) -> bool {
        let views = |entry: &registry_testkit::faults::Entry| match &entry.what {
            Observation::View(view) => Some((view.version, view.revision, view.state)),
            _ => None,
        };
        let views: Vec<_> = self.history.entries().iter().filter_map(views).collect();
        views.windows(2).any(|pair| pair[0] != pair[1])
    }

    /// Ends the row with its verdict.
    pub(crate) fn settle(self, verdict: &Result<Figure, Violation>) {
        let thread = std::thread::current();
        settle(self.row, "memory", thread.name().unwrap_or("main"), &self.history, verdict);
    }

    /// Looks as often as the time since the last mark asks for.
    fn shift(&mut self) {
        let since = self.touched.elapsed();
        let gear = GEARS.iter().find(|(until, _)| since < *until).map(|(_, gear)| *gear);
        let gear = gear.unwrap_or(GEARS[2].1);
        if self.samplers.as_ref().is_some_and(|(current, _)| *current == gear) {
            return;
        }
        let mut samplers = Recorders::new(&self.history);
        let fleet: Arc<dyn Fleet> = Arc::<ClientFleet>::clone(&self.fleet);
        // Of many some speak for all, as one lease decides.
        let share = self.keys.len().div_ceil(20);
        let sampled: Vec<_> = self.keys.iter().step_by(share.max(1)).cloned().collect();
        samplers.statuses_of(&fleet, move |_| sampled.clone(), gear.statuses);
        samplers.views_every(&self.seen, gear.views);
        let truth = Arc::new(Truth { registry: self.registry.clone(), known: Mutex::default() });
        samplers.truths_every(gear.truths, move || {
            let records = truth.look();
            async move { Some(records) }
        });
        self.samplers = Some((gear, samplers));
    }
}

/// What the registry holds; read anew only after a change.
struct Truth {
    registry: MemoryRegistry,
    known: Mutex<Option<(SourceId, u64, Records)>>,
}

impl Truth {
    fn look(&self) -> Records {
        let (source, revision) = (self.registry.source(), self.registry.revision());
        let mut known = self.known.lock().unwrap();
        match &*known {
            Some((of, at, records)) if (of, at) == (&source, &revision) => Arc::clone(records),
            _ => {
                let records = records(&self.registry.snapshot_of(SERVICE));
                *known = Some((source, revision, Arc::clone(&records)));
                records
            }
        }
    }
}
