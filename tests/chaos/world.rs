//! Everybody who takes part: the cluster, those who register, those who read, and those who look.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use registry_testkit::faults::{
    ClientFleets, Fleet, FleetFactory, History, Policy, Reader, Recorders, Records, View, Violation,
};
use service_registry::{Instance, InstanceKey, Phase, Start, ViewState};
use tokio::task::JoinSet;

use crate::{
    plan::{Act, Round, Step, Takeover, WRITERS},
    site::Site,
    truth::Truth,
};

/// The shortest there is, so that rounds are short too.
pub(crate) const TTL: Duration = Duration::from_secs(3);
pub(crate) const READERS: usize = 20;
const SERVICE: &str = "orders";
const NAMESPACE: &str = "chaos";
/// Real time; a view is a pointer, but there are many.
const VIEW_EVERY: Duration = Duration::from_millis(10);
const STATUS_EVERY: Duration = Duration::from_millis(50);
const TRUTH_EVERY: Duration = Duration::from_millis(100);
/// For the rival's arrival to be known: an audit, and a call.
const NOTICED: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) history: History,
    pub(crate) truth: Truth,
    writers: Vec<Arc<dyn Fleet>>,
    pub(crate) readers: Vec<Arc<dyn Reader>>,
    clients: Vec<Arc<dyn Fleet>>,
    recorders: Recorders,
    /// Counts all contents, so that each is another one.
    contents: AtomicU64,
    /// The newest content of each id that shall stand there.
    newest: Mutex<BTreeMap<InstanceKey, Instance>>,
}

impl World {
    pub(crate) async fn start(first: &BTreeMap<String, usize>) -> Result<Self, Violation> {
        let site = Site::start().await;
        let history = History::new();
        let truth = Truth::new(&site.members(), NAMESPACE, SERVICE, TTL).await;
        let clients = ClientFleets::new(service_registry::builder);
        let mut world = Self {
            recorders: Recorders::new(&history),
            site,
            history,
            truth,
            writers: Vec::new(),
            readers: Vec::new(),
            clients: Vec::new(),
            contents: AtomicU64::new(0),
            newest: Mutex::default(),
        };
        // The audit finds what an operator deleted; here it has to within the bound that all else has.
        let url = url(&world.site.links(), "audit=2s");
        for number in 0..WRITERS {
            let writer = clients.open(&format!("writer {number}"), &url, &world.history).await;
            world.writers.push(writer.map_err(Violation::run)?);
        }
        for (id, writer) in first {
            world.register(id, *writer, Policy::default()).await?;
        }
        // A guard that holds a list that shrank for as long as two recoveries may take.
        let url = self::url(&world.site.links(), "shrink_guard=20s&relist=30s");
        for number in 0..READERS {
            let name = format!("reader {number}");
            let client = clients.open(&name, &url, &world.history).await.map_err(Violation::run)?;
            let reader = client.discover(&name, SERVICE).await.map_err(Violation::run)?;
            world.recorders.views_every(&reader, VIEW_EVERY);
            world.clients.push(client);
            world.readers.push(reader);
        }
        for writer in &world.writers {
            world.recorders.statuses_of(writer, |fleet: &dyn Fleet| fleet.keys(), STATUS_EVERY);
        }
        let truth = world.truth.clone();
        world.recorders.truths_every(TRUTH_EVERY, move || {
            let truth = truth.clone();
            async move { truth.ask().await }
        });
        Ok(world)
    }

    async fn register(&self, id: &str, writer: usize, policy: Policy) -> Result<(), Violation> {
        self.writers[writer].register(self.content(id, writer), policy).await.map_err(Violation::run)
    }

    /// While all is well: another client registers the id, the first one learns of it and gives up.
    pub(crate) async fn take_over(&self, takeover: &Takeover) -> Result<(), Violation> {
        let Takeover { id, from, to } = takeover;
        self.history.mark(format!("writer {to} takes {id} from writer {from}"));
        self.register(id, *to, Policy::default()).await?;
        let (loser, winner) = (&self.writers[*from], &self.writers[*to]);
        let key = key(id);
        let noticed = registry_testkit::eventually("the loser notices", NOTICED, async || {
            (loser.phase(&key) == Some(Phase::Blocked)).then_some(())
        });
        noticed.await.map_err(|timeout| Violation::run(format!("{timeout}: {id} of {}", loser.name())))?;
        loser.deregister(&key).await;
        // The later one stays what is wanted.
        winner.update(self.content(id, *to)).await.map_err(Violation::run)
    }

    /// Goes through the steps of users; returns when the last one is over.
    pub(crate) async fn churn(&self, round: &Round) -> Result<(), Violation> {
        let start = tokio::time::Instant::now();
        let mut leaving = JoinSet::new();
        for Step { after, id, writer, act } in &round.churn {
            tokio::time::sleep_until(start + *after).await;
            match act {
                Act::Register => {
                    self.register(id, *writer, Policy::default().start(Start::Background)).await?;
                }
                Act::Update => {
                    let content = self.content(id, *writer);
                    self.writers[*writer].update(content).await.map_err(Violation::run)?;
                }
                Act::Deregister => {
                    let (fleet, key) = (Arc::clone(&self.writers[*writer]), key(id));
                    self.newest().remove(&key);
                    leaving.spawn(async move { fleet.deregister(&key).await });
                }
            }
        }
        while let Some(left) = leaving.join_next().await {
            left.map_err(Violation::run)?;
        }
        Ok(())
    }

    /// Whether everybody claims to live, and each reader shows what the registry holds. Only the validators judge;
    /// this ends a wait.
    pub(crate) async fn is_right(&self) -> bool {
        let live = self.writers.iter().all(|writer| {
            writer.keys().iter().all(|key| writer.phase(key).is_none_or(|phase| phase == Phase::Live))
        });
        let Some(records) = self.truth.ask().await.filter(|_| live) else { return false };
        let newest = {
            let newest = self.newest();
            let stands =
                |(key, content): (_, &Instance)| records.get(key).is_some_and(|there| **there == *content);
            newest.len() == records.len() && newest.iter().all(stands)
        };
        let right = |view: &View| view.state == ViewState::Fresh && is_same(&view.records, &records);
        newest && self.readers.iter().all(|reader| right(&reader.view()))
    }

    /// Everybody who shall stand there.
    pub(crate) fn standing(&self) -> Vec<InstanceKey> {
        self.newest().keys().cloned().collect()
    }

    /// How many instances readers keep against the registry's word.
    pub(crate) fn held(&self) -> usize {
        self.readers.iter().map(|reader| reader.view().held).max().unwrap_or_default()
    }

    /// Ends everybody in order.
    pub(crate) async fn close(self) {
        self.recorders.stop().await;
        for client in self.writers.iter().chain(&self.clients) {
            client.close().await;
        }
    }

    fn content(&self, id: &str, writer: usize) -> Instance {
        let content = self.contents.fetch_add(1, Ordering::Relaxed);
        let instance = Instance::builder(SERVICE)
            .id(id)
            .endpoint("http://10.0.0.7:8080")
            .metadata("writer", format!("writer {writer}"))
            .metadata("content", content.to_string())
            .build()
            .expect("ids of the plan are valid");
        self.newest().insert(instance.key(), instance.clone());
        instance
    }

    fn newest(&self) -> MutexGuard<'_, BTreeMap<InstanceKey, Instance>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(shown: &Records, held: &Records) -> bool {
    shown.len() == held.len()
        && held.iter().all(|(key, held)| shown.get(key).is_some_and(|shown| shown.is_same_record(held)))
}

/// The key of an id of the plan.
pub(crate) fn key(id: &str) -> InstanceKey {
    Instance::builder(SERVICE)
        .id(id)
        .endpoint("http://10.0.0.7:8080")
        .build()
        .expect("ids of the plan are valid")
        .key()
}

fn url(members: &[SocketAddr], options: &str) -> String {
    let hosts: Vec<String> = members.iter().map(ToString::to_string).collect();
    format!("etcd://{}/{NAMESPACE}?ttl={}s&{options}", hosts.join(","), TTL.as_secs())
}
