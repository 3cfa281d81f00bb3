//! Two fleets of one registry, and what has to be true of them after a story.

use std::{fmt::Display, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use registry_testkit::{
    eventually,
    faults::{
        Figure, Fleet, FleetFactory, History, Losses, Observation, Policy, Reader, Recorders, Resources,
        Tolerance, Violation, d1_never_wiped, d2_convergence, d3_revisions, d4_event_algebra, d7_hot_path,
        h2_bounded, losses, r1_reconvergence, r3_no_false_life, r4_callback_discipline, r6_completeness,
    },
};
use service_registry::{Error, Instance, InstanceKey, RegistrationEvent};
use tokio::time::{Instant, sleep, sleep_until};

use super::truth::Ask;

/// What is promised after the registry is usable again.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(10);
/// What a look at this machine may be late beyond a promise: it has two cores, and four stories run at a time.
pub(crate) const SLACK: Duration = Duration::from_millis(500);
/// What the machine may take away from a thread that picks.
const STARVED: Duration = Duration::from_secs(2);
/// How many registrations share the lease.
pub(crate) const COUNT: usize = 100;
pub(crate) const SERVICE: &str = "orders";
pub(crate) const READER: &str = "reader";
pub(crate) const WRITER: &str = "writer";

/// Turns what has to work into a violation if it doesn't: no story can be judged then.
pub(crate) trait Must<T> {
    fn must(self, what: &str) -> Result<T, Violation>;
}

impl<T, E: Display> Must<T> for Result<T, E> {
    fn must(self, what: &str) -> Result<T, Violation> {
        self.map_err(|error| Violation::run(format!("{what}: {error:#}")))
    }
}

/// Fails a story that needs something to be so.
pub(crate) fn ensure(holds: bool, what: impl Display) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::run(what)) }
}

/// Each at an address of its own: some registries know an instance by nothing else.
pub(crate) fn instance(id: &str) -> Instance {
    // FNV-1a; its low 24 bits tell the ids of a story apart.
    let hash =
        id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [_, a, b, c] = hash.to_be_bytes();
    Instance::builder(SERVICE).id(id).endpoint(format!("http://10.{a}.{b}.{c}:8080")).build().unwrap()
}

pub(crate) fn key(id: &str) -> InstanceKey {
    instance(id).key()
}

/// Waits until `length` after `start`: the outage itself, which no condition can stand for.
pub(crate) async fn outage(start: Instant, length: Duration) {
    sleep_until(start + length).await;
}

/// Waits until a validator agrees with what was seen until then; its last word after `within` and some slack.
pub(crate) async fn judged(
    history: &History,
    within: Duration,
    judge: impl Fn(&History) -> Result<Figure, Violation>,
) -> Result<Figure, Violation> {
    let end = Instant::now() + within + SLACK;
    loop {
        match judge(history) {
            Err(_) if Instant::now() < end => sleep(Duration::from_millis(50)).await,
            verdict => return verdict,
        }
    }
}

/// Waits for a call and writes down how it ended.
pub(crate) async fn call<T>(
    history: &History,
    what: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let start = Instant::now();
    let ended = call.await;
    let outcome = ended.as_ref().map(drop).map_err(Clone::clone);
    history.record(Observation::Call { what: what.into(), took: start.elapsed(), outcome });
    ended
}

/// What a client told about a key, in order.
pub(crate) fn told(history: &History, client: &str, key: &InstanceKey) -> Vec<RegistrationEvent> {
    let entries = history.entries().into_iter();
    let of_key = entries.filter_map(|entry| match entry.what {
        Observation::Event { client: of, key: about, event } if *of == *client && about == *key => {
            Some(event)
        }
        _ => None,
    });
    of_key.collect()
}

/// A fleet with registrations, another that reads them, and who writes down what is to be seen.
pub(crate) struct World<'a> {
    pub(crate) history: &'a History,
    pub(crate) writer: Arc<dyn Fleet>,
    pub(crate) readers: Arc<dyn Fleet>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) recorders: Recorders,
    /// Those that stood before the story.
    standing: Vec<InstanceKey>,
    ttl: Duration,
    judges_tasks: bool,
}

/// Who connects where, and how many there are.
pub(crate) struct Stage {
    pub(crate) writer: String,
    pub(crate) reader: String,
    pub(crate) truth: Ask,
    /// The time to live that the URL says.
    pub(crate) ttl: Duration,
    pub(crate) count: usize,
    pub(crate) policy: Policy,
    pub(crate) judges_tasks: bool,
}

impl Stage {
    /// Both over the same URL, with 100 registrations.
    pub(crate) fn new(url: &str, truth: impl Into<Ask>) -> Self {
        let url = url.to_owned();
        Self {
            writer: url.clone(),
            reader: url,
            truth: truth.into(),
            ttl: Duration::from_secs(3),
            count: COUNT,
            policy: Policy::default(),
            judges_tasks: true,
        }
    }

    pub(crate) fn reader(mut self, url: &str) -> Self {
        self.reader = url.to_owned();
        self
    }

    pub(crate) fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    pub(crate) fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    pub(crate) fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The servers' own traffic runs over tasks of this runtime, which come and go as they like.
    pub(crate) fn with_peer_proxies(mut self) -> Self {
        self.judges_tasks = false;
        self
    }

    /// Adds options of the URL.
    pub(crate) fn options(mut self, options: &str) -> Self {
        self.writer = format!("{}&{options}", self.writer);
        self.reader = format!("{}&{options}", self.reader);
        self
    }

    /// Registers all and waits until the reader has them.
    pub(crate) async fn open<'a>(
        self,
        fleets: &dyn FleetFactory,
        history: &'a History,
    ) -> Result<World<'a>, Violation> {
        history.record(Observation::Resources(Resources::now()));
        let mut recorders = Recorders::new(history);
        self.truth.record(&mut recorders, history);
        let writer = fleets.open(WRITER, &self.writer, history).await.must("opening the writer")?;
        recorders.statuses(&writer);
        let instances = (0..self.count).map(|number| instance(&format!("i{number:02}")));
        let policy = self.policy;
        try_join_all(instances.map(|i| writer.register(i, policy))).await.must("registering")?;
        let readers = fleets.open("reader's", &self.reader, history).await.must("opening the reader")?;
        let reader = readers.discover(READER, SERVICE).await.must("discovering")?;
        let filled = eventually("the reader has all", BACK_WITHIN, async || has(&*reader, self.count)).await;
        filled.must("the start")?;
        recorders.views(&reader);
        recorders.changes(&reader);
        judged(history, BACK_WITHIN, r6_completeness).await?;
        history.mark("the world stands");
        let (standing, ttl, judges_tasks) = (writer.keys(), self.ttl, self.judges_tasks);
        Ok(World { history, writer, readers, reader, recorders, standing, ttl, judges_tasks })
    }
}

fn has(reader: &dyn Reader, count: usize) -> Option<()> {
    (reader.view().records.len() >= count).then_some(())
}

impl World<'_> {
    /// The keys of the writer.
    pub(crate) fn keys(&self) -> Vec<InstanceKey> {
        self.writer.keys()
    }

    /// Everything that is promised after an outage, from [`History::usable`] on.
    pub(crate) async fn recovers(self, expected: Losses) -> Result<Figure, Violation> {
        let back = self.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
        let fresh = self.judged(BACK_WITHIN, |h| d2_convergence(h, READER, BACK_WITHIN)).await?;
        // A view that was merely kept has them as well, so a newcomer has to arrive too.
        self.writer.register(instance("newcomer"), Policy::default()).await.must("registering a newcomer")?;
        self.judged(BACK_WITHIN, |h| d2_convergence(h, READER, BACK_WITHIN)).await?;
        self.sees("newcomer").await?;
        // As long as a lease that nobody renews, or a second loss, needs to show.
        sleep(self.ttl + self.ttl / 2).await;
        let h = self.history;
        r1_reconvergence(h, BACK_WITHIN)?;
        r3_no_false_life(h, self.ttl, Duration::from_millis(50))?;
        let told = losses(h, &self.standing, expected)?;
        self.never_without()?;
        Ok(back.with(&fresh).with(&told).with(&self.close().await?))
    }

    /// The same where only the reader was cut off: the writer has told of nothing.
    pub(crate) async fn reader_recovers(self) -> Result<Figure, Violation> {
        let keys = self.keys();
        let fresh = self.judged(BACK_WITHIN, |h| d2_convergence(h, READER, BACK_WITHIN)).await?;
        let told = losses(self.history, &keys, Losses::None)?;
        self.never_without()?;
        Ok(fresh.with(&told).with(&self.close().await?))
    }

    /// What holds of every story: events in order, a reader that is never empty, revisions that never go back.
    pub(crate) fn never_without(&self) -> Result<Figure, Violation> {
        let h = self.history;
        r4_callback_discipline(h)?;
        d3_revisions(h, READER)?;
        d4_event_algebra(h, READER)?;
        d7_hot_path(h, READER, STARVED)?;
        d1_never_wiped(h, READER)
    }

    /// Waits until the reader shows an id.
    pub(crate) async fn sees(&self, id: &str) -> Result<(), Violation> {
        let key = key(id);
        let seen = eventually("the reader sees it", BACK_WITHIN, async || {
            self.reader.view().records.contains_key(&key).then_some(())
        });
        seen.await.must(id)
    }

    /// See [`judged`].
    pub(crate) async fn judged(
        &self,
        within: Duration,
        judge: impl Fn(&History) -> Result<Figure, Violation>,
    ) -> Result<Figure, Violation> {
        judged(self.history, within, judge).await
    }

    /// Ends both fleets, and finds that nothing is left: no record and no task.
    pub(crate) async fn close(self) -> Result<Figure, Violation> {
        r6_completeness(self.history)?;
        self.leave().await
    }

    /// The same for a story after which the registry holds more or less than is wanted.
    pub(crate) async fn leave(self) -> Result<Figure, Violation> {
        let Self { history, writer, readers, reader, recorders, judges_tasks, .. } = self;
        writer.close().await;
        recorders.stop().await;
        drop(reader);
        readers.close().await;
        drop((writer, readers));
        if judges_tasks {
            let left = Resources::settled(Duration::from_secs(5)).await;
            history.record(Observation::Resources(left));
            h2_bounded(history, Tolerance::tasks_only())?;
        }
        Ok(Figure::default())
    }
}
