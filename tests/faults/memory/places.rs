//! Where the registry is: names that fail or change, and endpoints of which all but one are dead.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{Error, ErrorKind, MemoryRegistry, memory::Operation};
use registry_testkit::faults::{
    Losses, d1_never_wiped, d2_convergence, d7_hot_path, losses, r1_reconvergence, r3_no_false_life,
};
use tokio::time::{Instant, sleep};

use super::{
    scripted::{Ask, Fate, Link},
    support::{TTL, client_over, figure, instance, log_of, millis, secs},
    world::{READER, World, back_bound},
};

/// Between two samples of a status.
const SLACK: Duration = millis(20);

/// What the resolver says of the registry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    NxDomain,
    ServFail,
    Timeout,
    NoRecords,
    /// The registry is there.
    Right,
    /// Nobody listens there any more.
    Old,
}

/// One registry behind a name. As with the HTTP client of the real backends, the name is resolved for each new
/// connection and for nothing else; a call without a connection needs one first.
#[derive(Debug)]
struct Name {
    says: Mutex<Lookup>,
    connected: AtomicBool,
    resolved: AtomicUsize,
}

impl Name {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            says: Mutex::new(Lookup::Right),
            connected: AtomicBool::new(false),
            resolved: AtomicUsize::new(0),
        })
    }

    fn put_before(self: &Arc<Self>, link: &Link) {
        let name = Arc::clone(self);
        link.set(move |_| name.reach());
    }

    fn reach(&self) -> Fate {
        if self.connected.load(Ordering::SeqCst) {
            return Fate::default();
        }
        self.resolved.fetch_add(1, Ordering::SeqCst);
        let refused = |why: &'static str| Fate {
            refused: Some(Error::new(ErrorKind::Unavailable, why)),
            ..Fate::default()
        };
        match *self.says.lock().unwrap() {
            Lookup::NxDomain => refused("no such name"),
            Lookup::ServFail => refused("the resolver failed"),
            Lookup::NoRecords => refused("the name has no address"),
            Lookup::Old => refused("connection refused"),
            Lookup::Timeout => Fate { is_lost: true, ..Fate::default() },
            Lookup::Right => {
                self.connected.store(true, Ordering::SeqCst);
                Fate::default()
            }
        }
    }
}

async fn name_says(says: Lookup, breaks: bool) {
    let mut world = World::start(8, 5).await;
    let names = [Name::new(), Name::new()];
    names[0].put_before(&world.owner_link);
    names[1].put_before(&world.reader_link);
    world.pass(secs(20)).await;
    for name in &names {
        *name.says.lock().unwrap() = says;
        name.connected.store(!breaks, Ordering::SeqCst);
    }
    if breaks {
        world.registry.faults().disconnect_watches();
        world.outage("the name fails, and connections with it");
    } else {
        world.mark("the name fails, connections stand");
    }
    world.pass(secs(60)).await;
    let asked = names[0].resolved.load(Ordering::SeqCst);
    for name in &names {
        *name.says.lock().unwrap() = Lookup::Right;
    }
    world.usable("the name is right");
    world.back().await;
    let history = &world.history;
    // Resolved anew with each attempt, and those are at most a call and a pause apart.
    let verdict = r1_reconvergence(history, back_bound(5)).and_then(|figure| {
        losses(history, &world.keys, if breaks { Losses::OneEach } else { Losses::None })?;
        r3_no_false_life(history, TTL, SLACK)?;
        d1_never_wiped(history, READER)?;
        d7_hot_path(history, READER, Duration::ZERO)?;
        let reader = d2_convergence(history, READER, secs(30))?;
        let figure = figure.with(&reader).and("resolver said", format!("{says:?}"));
        Ok(figure.and("resolved in that minute", asked))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_08_a_name_that_fails_harms_nobody_while_connections_stand() {
    for says in [Lookup::NxDomain, Lookup::ServFail, Lookup::Timeout, Lookup::NoRecords] {
        name_says(says, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_08_a_name_that_fails_with_the_connections_wipes_no_view_and_everybody_is_back_after_it() {
    for says in [Lookup::NxDomain, Lookup::ServFail, Lookup::Timeout, Lookup::NoRecords] {
        name_says(says, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_08_after_a_move_to_another_address_the_name_is_resolved_again_in_time() {
    name_says(Lookup::Old, true).await;
}

// === row 24 ===

/// Five endpoints of one registry, of which one lives. A client stays where it was answered and goes on to the next
/// after a failure.
fn endpoints(alive: usize, dead: Fate) -> impl Fn(Ask) -> Fate + Send + Sync + 'static {
    let current = AtomicUsize::new(0);
    move |_| {
        let at = current.load(Ordering::SeqCst);
        if at == alive {
            return Fate::default();
        }
        current.store((at + 1) % 5, Ordering::SeqCst);
        dead.clone()
    }
}

fn refuses() -> Fate {
    let refused = Some(Error::new(ErrorKind::Unavailable, "connection refused"));
    Fate { request: millis(5), refused, ..Fate::default() }
}

#[tokio::test(start_paused = true)]
async fn row_24_a_new_client_finds_the_one_endpoint_that_lives_whatever_comes_before_it() {
    for alive in 0..5 {
        fastrand::seed(24 + alive as u64);
        let registry = MemoryRegistry::new();
        let link = Link::new(&registry, endpoints(alive, refuses()));
        let client = client_over(link.backend()).await;
        let begun = Instant::now();
        let registration = client.register(instance("orders", "a")).await.unwrap();
        let took = begun.elapsed();
        assert!(took <= secs(2), "{took:?} with {alive} dead ones first");
        let log = log_of(&registration);
        sleep(secs(100)).await;
        assert_eq!(log.len(), 0, "no starvation: {log:?}");
        figure(24, &format!("{alive} dead endpoints first, registered after"), took);
    }
}

#[tokio::test(start_paused = true)]
async fn row_24_an_endpoint_that_dies_silently_costs_one_attempt_and_no_loss() {
    let mut world = World::start(24, 5).await;
    world.pass(secs(20)).await;
    // Both were at the first endpoint, which now swallows everything.
    let silent = Fate { is_lost: true, ..Fate::default() };
    world.owner_link.set(endpoints(1, silent.clone()));
    world.reader_link.set(endpoints(1, silent));
    world.registry.faults().disconnect_watches();
    world.usable("all but one are dead");
    world.pass(secs(60)).await;
    let renewals = world.owner_link.times(Operation::Renew);
    let shortest = renewals.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(shortest <= millis(2_700), "one attempt of 2.5 s and a pause of 0.1 s, was {shortest:?}");
    world.back().await;
    let verdict = losses(&world.history, &world.keys, Losses::None).and_then(|_| {
        d1_never_wiped(&world.history, READER)?;
        let reader = d2_convergence(&world.history, READER, secs(10))?;
        Ok(reader.and("next attempt after", shortest))
    });
    world.settle(&verdict);
}
