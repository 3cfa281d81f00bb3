//! Rows 20 and 40: instances fail while the registry knows nothing of it. Servers count what they get; a caller sends a
//! hundred requests per second.

use std::{collections::HashSet, fs::File, process::Command, time::Duration};

use futures_util::FutureExt;
use registry_core::{
    Client, InstanceKey, MemoryRegistry, Registration, Upstream, ViewEvent, ViewEvents,
    balance::{Failure, Outcome},
};
use registry_testkit::faults::{
    Figure, History, Observation, Resources, Tolerance, Violation, h2_bounded, l1_dead_instance,
    l2_fail_open, settle,
};
use tokio::time::{Instant, sleep};

use super::support::{client_of, instance, millis, secs};

const CALLER: &str = "caller";

/// A caller of a service whose instances are up or not.
pub(crate) struct Caller {
    upstream: Upstream,
    events: ViewEvents,
    /// Who refuses connections.
    ill: HashSet<InstanceKey>,
    pub(crate) history: History,
    panics: bool,
}

impl Caller {
    pub(crate) async fn of(client: &Client) -> Self {
        let upstream = client.discover("orders").await.unwrap();
        let events = upstream.events();
        Self { upstream, events, ill: HashSet::new(), history: History::new(), panics: false }
    }

    pub(crate) fn ill(&mut self, ids: impl IntoIterator<Item = String>) {
        self.ill = ids.into_iter().map(|id| instance("orders", &id).key()).collect();
    }

    fn look(&mut self) {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            match event {
                ViewEvent::Ejected { key, .. } => {
                    self.history.record(Observation::Ejected { caller: CALLER.into(), instance: key });
                }
                ViewEvent::PanicBegan { .. } => self.panic(true),
                ViewEvent::PanicEnded => self.panic(false),
                _ => {}
            }
        }
        let snapshot = self.upstream.snapshot();
        let (ejected, serving) = (snapshot.ejected().count(), snapshot.usable_len());
        self.history.record(Observation::Ejections { caller: CALLER.into(), ejected, serving });
    }

    fn panic(&mut self, on: bool) {
        assert_ne!(self.panics, on, "the edges of panic take turns");
        self.panics = on;
        self.history.record(Observation::Panic { caller: CALLER.into(), on });
    }

    pub(crate) async fn call_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let picked = self.upstream.pick();
            let ok = picked.is_ok();
            self.history.record(Observation::Pick { reader: CALLER.into(), ok, took: Duration::ZERO });
            if let Ok(picked) = picked {
                let key = picked.key();
                let ok = !self.ill.contains(&key);
                picked.report(if ok { Outcome::success() } else { Outcome::failure(Failure::Connect) });
                self.history.record(Observation::Request { caller: CALLER.into(), instance: key, ok });
            }
            self.look();
            sleep(millis(10)).await;
        }
    }

    /// Whom requests went to since `from`.
    fn served(&self, from: Duration) -> HashSet<InstanceKey> {
        let entries = self.history.entries();
        let recent = entries.into_iter().filter(|entry| entry.until >= from);
        let key = |what| match what {
            Observation::Request { instance, .. } => Some(instance),
            _ => None,
        };
        recent.filter_map(|entry| key(entry.what)).collect()
    }
}

/// So many registrations, and a caller of theirs.
async fn world(seed: u64, instances: u32) -> (MemoryRegistry, Client, Vec<Registration>, Caller) {
    let registry = MemoryRegistry::new();
    let client = client_of(&registry, seed).await;
    let mut held = Vec::new();
    for n in 0..instances {
        held.push(client.register(instance("orders", &format!("i{n}"))).await.unwrap());
    }
    let caller = Caller::of(&client).await;
    caller.upstream.ready(instances as usize).await.unwrap();
    (registry, client, held, caller)
}

fn judge(row: u8, test: &str, history: &History, verdict: &Result<Figure, Violation>) {
    settle(row, "memory", &format!("memory::balance::{test}"), history, verdict);
}

#[tokio::test(start_paused = true)]
async fn row_20_an_instance_that_is_dead_and_still_registered_gets_probes_only() {
    let (_registry, _client, _held, mut caller) = world(20, 5).await;
    caller.call_for(secs(5)).await;
    caller.ill(["i3".to_owned()]);
    caller.call_for(secs(400)).await;
    let verdict = l1_dead_instance(&caller.history, CALLER, &instance("orders", "i3").key(), 5)
        .and_then(|l1| Ok(l1.with(&l2_fail_open(&caller.history, CALLER)?)));
    judge(
        20,
        "row_20_an_instance_that_is_dead_and_still_registered_gets_probes_only",
        &caller.history,
        &verdict,
    );
}

#[tokio::test(start_paused = true)]
async fn row_40_if_all_fail_at_once_all_are_tried_and_all_come_back() {
    let (_registry, _client, _held, mut caller) = world(40, 20).await;
    caller.call_for(secs(2)).await;
    caller.ill((0..20).map(|n| format!("i{n}")));
    caller.call_for(secs(5)).await;
    let ill = caller.history.now();
    caller.call_for(secs(15)).await;
    assert!(caller.panics, "the panic event");
    assert_eq!(caller.served(ill).len(), 20, "traffic goes to all");
    caller.ill([]);
    caller.call_for(secs(60)).await;
    assert!(!caller.panics, "the event on the other edge");
    assert_eq!(caller.upstream.snapshot().ejected().count(), 0);
    let verdict = l2_fail_open(&caller.history, CALLER);
    judge(40, "row_40_if_all_fail_at_once_all_are_tried_and_all_come_back", &caller.history, &verdict);
}

#[tokio::test(start_paused = true)]
async fn row_40_if_most_fail_one_after_the_other_few_are_ejected_and_panic_is_told() {
    let (_registry, _client, _held, mut caller) = world(41, 20).await;
    for n in 1..=12 {
        caller.ill((0..n).map(|n| format!("i{n}")));
        caller.call_for(secs(3)).await;
        assert_eq!(caller.panics, n > 10, "with {n} of 20 ill");
    }
    let ill = caller.history.now();
    caller.call_for(secs(60)).await;
    assert_eq!(caller.served(ill).len(), 20, "traffic goes to all");
    // One after the other gets well again: the panic ends with the half.
    for n in (0..=12).rev() {
        caller.ill((0..n).map(|n| format!("i{n}")));
        caller.call_for(secs(15)).await;
        assert_eq!(caller.panics, n > 10, "with {n} of 20 ill");
    }
    let verdict = l2_fail_open(&caller.history, CALLER);
    judge(
        40,
        "row_40_if_most_fail_one_after_the_other_few_are_ejected_and_panic_is_told",
        &caller.history,
        &verdict,
    );
}

#[tokio::test(start_paused = true)]
async fn row_40_of_two_none_is_ejected_even_if_both_fail() {
    let (_registry, _client, _held, mut caller) = world(42, 2).await;
    caller.ill(["i0".to_owned(), "i1".to_owned()]);
    caller.call_for(secs(30)).await;
    assert!(caller.panics);
    caller.ill(["i1".to_owned()]);
    caller.call_for(secs(30)).await;
    assert!(!caller.panics, "one of two is half");
    let verdict = l2_fail_open(&caller.history, CALLER);
    judge(40, "row_40_of_two_none_is_ejected_even_if_both_fail", &caller.history, &verdict);
}

/// For a process of its own, as memory and descriptors are the process's: what it leaks on purpose, if anything.
const LEAKING: &str = "FAULTS_LEAKING";
const ROUNDS: &str = "row_40_a_thousand_rounds_of_joining_failing_and_leaving_leak_nothing";

#[tokio::test(start_paused = true)]
async fn row_40_a_thousand_rounds_of_joining_failing_and_leaving_leak_nothing() {
    let Ok(leaking) = std::env::var(LEAKING) else {
        let (passed, output) = rounds_alone("");
        print!("{output}");
        assert!(passed);
        return;
    };
    let history = rounds(&leaking).await;
    let verdict = h2_bounded(&history, Tolerance::default());
    if leaking.is_empty() {
        judge(40, ROUNDS, &history, &verdict);
    } else {
        panic!("{verdict:?}");
    }
}

#[test]
fn what_the_rounds_leak_is_found() {
    for what in ["tasks", "descriptors", "bytes"] {
        let (_, output) = rounds_alone(what);
        let found =
            output.lines().any(|line| line.contains("Err(") && line.contains(&format!("{what} after")));
        assert!(found, "{what}: {output}");
    }
}

/// The rounds in a process of their own: whether they passed, and what they said.
fn rounds_alone(leaking: &str) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("memory::balance::{ROUNDS}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(LEAKING, leaking)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), text.concat())
}

async fn rounds(leaking: &str) -> History {
    const WARM: u32 = 100;
    let (_registry, client, _held, mut caller) = world(43, 4).await;
    let history = History::new();
    for round in 0..1_000 + WARM {
        if round == WARM {
            history.record(Observation::Resources(Resources::settled(secs(1)).await));
        }
        let id = format!("k{round}");
        let registration = client.register(instance("orders", &id)).await.unwrap();
        caller.upstream.ready(5).await.unwrap();
        caller.ill([id.clone()]);
        caller.call_for(millis(200)).await;
        let key = instance("orders", &id).key();
        assert!(caller.upstream.snapshot().is_ejected(&key), "round {round}");
        registration.deregister().await;
        while caller.upstream.snapshot().len() > 4 {
            sleep(millis(10)).await;
        }
        assert_eq!(caller.upstream.snapshot().ejected().count(), 0, "round {round}");
        caller.history = History::new();
        #[expect(clippy::mem_forget, reason = "a leak is what is to be found")]
        match leaking {
            "tasks" if round % 100 == 0 => drop(tokio::spawn(std::future::pending::<()>())),
            "descriptors" if round % 100 == 0 => std::mem::forget(File::open("/dev/null").unwrap()),
            "bytes" => std::mem::forget(vec![1_u8; 16 << 10]),
            _ => {}
        }
    }
    history.record(Observation::Resources(Resources::settled(secs(1)).await));
    history
}
