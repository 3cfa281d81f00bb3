//! The registry refuses: expired tokens, wrong passwords, throttling.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use registry_core::{
    Backend, Client, ConnectContext, Connector, Credential, CredentialProvider, Discovery, Error, ErrorKind,
    Instance, InstanceKey, Lease, ManualClock, MemoryRegistry, Phase, RegisterOptions, Registry, RegistryUrl,
    Secret, Start, Target,
    backend::{Cursor, Grant, Lifetime, Listing, Outcome, Presence, Publish, Read, Renewal, WatchStream},
    memory::Operation,
};
use registry_testkit::faults::{History, s1_no_secrets};
use tokio::time::{Instant, sleep};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{
    scripted::{Fate, Link},
    support::{client_over, figure, instance, log_of, millis, secs},
};

const GOOD: &str = "c4n4ry-good";
const NEXT: &str = "c4n4ry-next";
const WRONG: &str = "c4n4ry-wrong";

/// A registry that wants a token, and a backend that does with it what every backend does: on a refusal one refresh
/// from the provider and one retry.
#[derive(Clone)]
struct Door {
    registry: MemoryRegistry,
    lock: Arc<DoorLock>,
}

struct DoorLock {
    provider: Arc<dyn CredentialProvider>,
    token: tokio::sync::Mutex<Option<String>>,
    accepts: Mutex<String>,
    calls: AtomicUsize,
    refused: AtomicUsize,
    watches: AtomicUsize,
}

impl Door {
    async fn pass(&self) -> Result<(), Error> {
        let lock = &self.lock;
        lock.calls.fetch_add(1, Ordering::SeqCst);
        // Single flight: who comes meanwhile waits for the one that asks.
        let mut token = lock.token.lock().await;
        for attempt in 0..2 {
            if token.is_none() || attempt == 1 {
                *token = Some(lock.provider.credential().await?.secret.expose().to_owned());
            }
            let accepts = lock.accepts.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if token.as_deref() == Some(accepts.as_str()) {
                return Ok(());
            }
            lock.refused.fetch_add(1, Ordering::SeqCst);
        }
        *token = None;
        let error = Error::new(ErrorKind::Unauthenticated, "the registry refuses the credential");
        Err(error.with_context("door", "call"))
    }

    fn accept(&self, token: &str) {
        *self.lock.accepts.lock().unwrap_or_else(PoisonError::into_inner) = token.to_owned();
    }
}

#[async_trait]
impl Registry for Door {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        self.pass().await?;
        let inner = Registry::grant(&self.registry, grant).await?;
        Ok(Arc::new(DoorLease { inner, door: self.clone() }))
    }
}

#[async_trait]
impl Discovery for Door {
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error> {
        self.pass().await?;
        self.registry.lookup(target, read).await
    }

    fn watch(&self, target: &Target, cursor: Option<Cursor>) -> WatchStream {
        use futures_util::{StreamExt, TryFutureExt};
        let (door, target) = (self.clone(), target.clone());
        door.lock.watches.fetch_add(1, Ordering::SeqCst);
        let open = async move {
            door.pass().await?;
            Ok(Discovery::watch(&door.registry, &target, cursor))
        };
        open.try_flatten_stream().boxed()
    }
}

struct DoorLease {
    inner: Arc<dyn Lease>,
    door: Door,
}

#[async_trait]
impl Lease for DoorLease {
    fn lifetime(&self) -> Lifetime {
        self.inner.lifetime()
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        match self.door.pass().await {
            Ok(()) => self.inner.publish(records).await,
            Err(error) => vec![Err(error); records.len()],
        }
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        match self.door.pass().await {
            Ok(()) => self.inner.withdraw(instances).await,
            Err(error) => vec![Err(error); instances.len()],
        }
    }

    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error> {
        self.door.pass().await?;
        self.inner.renew(deadline).await
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        self.door.pass().await?;
        self.inner.inspect(keys).await
    }

    async fn revoke(&self) -> Result<(), Error> {
        self.door.pass().await?;
        self.inner.revoke().await
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl fmt::Debug for DoorLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DoorLease")
    }
}

/// Builds doors for `door://`, with the credentials that the client was given.
#[derive(Clone, Debug)]
struct Doors {
    registry: MemoryRegistry,
    opened: Arc<Mutex<Option<Door>>>,
}

#[async_trait]
impl Connector for Doors {
    fn schemes(&self) -> &'static [&'static str] {
        &["door"]
    }

    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    async fn connect(&self, _url: &RegistryUrl, context: &ConnectContext) -> Result<Backend, Error> {
        let lock = DoorLock {
            provider: context.credentials.clone().unwrap(),
            token: tokio::sync::Mutex::default(),
            accepts: Mutex::new(GOOD.to_owned()),
            calls: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
        };
        let door = Door { registry: self.registry.clone(), lock: Arc::new(lock) };
        *self.opened.lock().unwrap() = Some(door.clone());
        let mut backend = self.registry.backend();
        backend.registry = Some(Arc::new(door.clone()));
        backend.discovery = Some(Arc::new(door));
        Ok(backend)
    }
}

/// Hands out what it was told last, and counts.
#[derive(Clone, Debug)]
struct Vault {
    secret: Arc<Mutex<Secret>>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl CredentialProvider for Vault {
    async fn credential(&self) -> Result<Credential, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        sleep(millis(20)).await;
        let secret = self.secret.lock().unwrap().expose().to_owned();
        Ok(Credential { user: None, secret: Secret::new(secret), expires_in: None })
    }
}

/// Everything that is logged in this thread, as text, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>, Arc<AtomicU64>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = self.0.lock().unwrap();
        text.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Log {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(self.1.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, _span: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
        self.0.lock().unwrap().push('\n');
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

struct Site {
    registry: MemoryRegistry,
    door: Door,
    vault: Vault,
    client: Client,
}

impl Site {
    async fn open(seed: u64) -> Self {
        fastrand::seed(seed);
        let registry = MemoryRegistry::new();
        let doors = Doors { registry: registry.clone(), opened: Arc::default() };
        let vault =
            Vault { secret: Arc::new(Mutex::new(Secret::new(GOOD))), asked: Arc::new(AtomicUsize::new(0)) };
        let client = Client::builder()
            .connector(doors.clone())
            .url("door://registry/prod")
            .credentials(vault.clone())
            .clock(Arc::new(ManualClock::new()))
            .build()
            .await
            .unwrap();
        let door = doors.opened.lock().unwrap().clone().unwrap();
        Self { registry, door, vault, client }
    }

    fn asked(&self) -> usize {
        self.vault.asked.load(Ordering::SeqCst)
    }

    fn calls(&self) -> usize {
        self.door.lock.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn row_11_an_expired_token_costs_one_refresh_and_one_retry_and_no_loss() {
    let site = Site::open(11).await;
    let registration = site.client.register(instance("orders", "a")).await.unwrap();
    let upstream = site.client.discover("orders").await.unwrap();
    upstream.ready(1).await.unwrap();
    let log = log_of(&registration);
    assert_eq!(site.asked(), 1, "one for all");
    for (round, token) in [NEXT, GOOD, NEXT].into_iter().enumerate() {
        sleep(secs(21)).await;
        let refused = site.door.lock.refused.load(Ordering::SeqCst);
        *site.vault.secret.lock().unwrap() = Secret::new(token);
        site.door.accept(token);
        // The watch is refused as well, as after a change of the authorisation's revision.
        site.registry.faults().disconnect_watches();
        sleep(secs(30)).await;
        assert_eq!(site.asked(), 2 + round, "one refresh for registrations and watches together");
        assert_eq!(site.door.lock.refused.load(Ordering::SeqCst), refused + 1, "and one retry");
        assert_eq!(registration.phase(), Phase::Live);
        assert_eq!(upstream.freshness().state, registry_core::ViewState::Fresh);
    }
    assert_eq!(log.len(), 0, "no loss, not even a doubt: {log:?}");
    figure(11, "tokens expired 3 times: refreshes", site.asked() - 1);
}

#[tokio::test(start_paused = true)]
async fn row_11_a_wrong_password_is_blocked_without_a_hot_loop_and_shown_nowhere() {
    let logged = Log::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    let history = History::new();
    let site = Site::open(12).await;
    *site.vault.secret.lock().unwrap() = Secret::new(WRONG);
    let begun = Instant::now();
    let refused = history.call("register", site.client.register(instance("orders", "a"))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused:#}");
    assert!(begun.elapsed() <= secs(1), "refused at once, not after {:?}", begun.elapsed());
    let background = RegisterOptions::new().start(Start::Background);
    let registration = site.client.register_with(instance("orders", "b"), background).await.unwrap();
    let log = log_of(&registration);
    let unseen = history.call("discover", site.client.discover("orders")).await.unwrap_err();
    let ready = history.call("ready", site.client.ready(secs(3))).await.unwrap_err();
    sleep(secs(60)).await;
    assert_eq!(registration.phase(), Phase::Blocked);
    let (calls, watches) = (site.calls(), site.door.lock.watches.load(Ordering::SeqCst));
    sleep(secs(600)).await;
    let calls = site.calls() - calls;
    let watches = site.door.lock.watches.load(Ordering::SeqCst) - watches;
    assert!(calls <= 40 && watches <= 25, "a hot loop: {calls} calls, {watches} of them watches, in 10 min");
    // The right one is known again: at the latest after the slow retry.
    site.door.accept(WRONG);
    let mended = Instant::now();
    while registration.phase() != Phase::Live {
        sleep(millis(100)).await;
        assert!(mended.elapsed() <= secs(73), "never came back");
    }
    let back = mended.elapsed();
    history.mark(format!("{refused:#} {refused:?} {unseen:#} {unseen:?} {ready:#} {ready:?}"));
    history.mark(format!("{registration:?} {:?} {log:?} {:?}", registration.state(), site.client));
    history.mark(format!("{:?} {:?} {:?}", site.client.health(), site.vault, site.client.lifecycle()));
    let logged = logged.0.lock().unwrap().clone();
    assert!(logged.len() > 100, "nothing was logged, so nothing is shown");
    history.mark(logged);
    let verdict = s1_no_secrets(&history, &[GOOD, NEXT, WRONG]).unwrap();
    figure(11, "", verdict.and("calls in 10 min", calls).and("back after", back).to_string());
}

#[tokio::test(start_paused = true)]
async fn row_11_a_password_that_turns_wrong_is_doubted_then_lost_then_blocked_then_back() {
    let site = Site::open(13).await;
    let registration = site.client.register(instance("orders", "a")).await.unwrap();
    let upstream = site.client.discover("orders").await.unwrap();
    upstream.ready(1).await.unwrap();
    let log = log_of(&registration);
    sleep(secs(20)).await;
    site.door.accept(NEXT);
    let mut seen = Vec::new();
    for _ in 0..30_000 {
        let phase = registration.phase();
        if seen.last() != Some(&phase) {
            seen.push(phase);
        }
        assert!(phase != Phase::Live || registry_holds(&site.registry), "R3");
        sleep(millis(2)).await;
    }
    assert_eq!(seen, [Phase::Live, Phase::Suspect, Phase::Lost, Phase::Blocked]);
    *site.vault.secret.lock().unwrap() = Secret::new(NEXT);
    let mended = Instant::now();
    while registration.phase() != Phase::Live {
        sleep(millis(100)).await;
        assert!(mended.elapsed() <= secs(73), "never came back");
    }
    log.assert_alternates();
    figure(11, "password mended, back after", mended.elapsed());
}

fn registry_holds(registry: &MemoryRegistry) -> bool {
    !registry.snapshot_of("orders").is_empty()
}

// === row 25 ===

fn throttled(after: Option<Duration>) -> Fate {
    let error = Error::new(ErrorKind::RateLimited, "too many requests");
    let error = match after {
        Some(after) => error.with_retry_after(after),
        None => error,
    };
    Fate { refused: Some(error), ..Fate::default() }
}

/// The pauses between the attempts of 20 minutes in which every call is throttled.
async fn pauses(after: Option<Duration>, seed: u64) -> [Vec<Duration>; 2] {
    fastrand::seed(seed);
    let registry = MemoryRegistry::new();
    let link = Link::new(&registry, move |_| throttled(after));
    let client = client_over(link.backend()).await;
    let background = RegisterOptions::new().start(Start::Background);
    let _registration = client.register_with(instance("orders", "a"), background).await.unwrap();
    let upstream = client.discover_lazy("orders").unwrap();
    drop(upstream.pick());
    sleep(secs(1_200)).await;
    [Operation::Grant, Operation::Watch].map(|operation| {
        let times = link.times(operation);
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    })
}

#[tokio::test(start_paused = true)]
async fn row_25_a_wish_of_the_registry_is_obeyed_and_capped_at_a_minute() {
    for (wish, least) in [(secs(20), secs(20)), (secs(45), secs(45)), (secs(3_600), secs(60))] {
        for (what, pauses) in ["grants", "watches"].into_iter().zip(pauses(Some(wish), 25).await) {
            let (shortest, longest) = (*pauses.iter().min().unwrap(), *pauses.iter().max().unwrap());
            assert!(shortest >= least, "{what}: asked for {wish:?}, came after {shortest:?}");
            assert!(longest <= secs(61), "{what}: a wish of {wish:?} keeps it away for {longest:?}");
            figure(25, &format!("{what}, Retry-After {} s: shortest pause", wish.as_secs()), shortest);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_25_without_a_wish_pauses_grow_to_half_a_minute_with_equal_jitter() {
    let mut late = Vec::new();
    for seed in 0..10 {
        for pauses in pauses(None, seed).await {
            for (at, pause) in pauses.iter().enumerate() {
                // 50 ms × 1.6 each time, at most 30 s; the draw is from the upper half.
                let step = (0.05 * 1.6_f64.powi(i32::try_from(at).unwrap())).min(30.0);
                let (low, high) = (step / 2.0 - 0.002, step + 0.002);
                let pause = pause.as_secs_f64();
                assert!((low..=high).contains(&pause), "pause {at} is {pause} s, not {low} to {high}");
            }
            late.extend(pauses.into_iter().skip(16));
        }
    }
    let (shortest, longest) = (late.iter().min().unwrap(), late.iter().max().unwrap());
    assert!(*longest - *shortest > secs(12), "no jitter: {shortest:?} to {longest:?}");
    figure(25, "pauses at the cap, shortest and longest", format!("{shortest:.1?} {longest:.1?}"));
}

#[tokio::test(start_paused = true)]
async fn row_25_a_throttled_renewal_never_waits_until_it_is_too_late() {
    for wish in [secs(1), secs(7), secs(60), secs(3_600)] {
        fastrand::seed(250);
        let registry = MemoryRegistry::new();
        let link = Link::clear(&registry);
        let client = client_over(link.backend()).await;
        let registration = client.register(instance("orders", "a")).await.unwrap();
        let log = log_of(&registration);
        sleep(secs(20)).await;
        let left = Arc::new(AtomicUsize::new(2));
        link.set(move |ask| match ask.operation {
            Operation::Renew if left.load(Ordering::SeqCst) > 0 => {
                left.fetch_sub(1, Ordering::SeqCst);
                throttled(Some(wish))
            }
            _ => Fate::default(),
        });
        sleep(secs(60)).await;
        assert_eq!(registration.phase(), Phase::Live);
        let lost = log.count_of(|event| matches!(event, registry_core::RegistrationEvent::Lost { .. }));
        assert_eq!(lost, 0, "a wish of {wish:?} cost a loss: {log:?}");
        let times = link.times(Operation::Renew);
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        figure(25, &format!("renewals, Retry-After {} s: longest pause", wish.as_secs()), longest);
    }
}
