//! Requests against servers that count, on the paused clock.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::{
    Attempt, Picked, Selector, Target, Upstream, ViewEvent,
    balance::{Balance, Balancer, Draw, Members, Outcome, PickContext, Picker, Ticket},
    upstream::{Nothing, Source},
    view::{View, ViewChange, ViewSink},
};

/// How each server behaves, and what it got.
struct Servers {
    upstream: Upstream,
    /// The failure each answers with; well if none.
    ill: Mutex<HashMap<InstanceKey, Failure>>,
    got: Mutex<HashMap<InstanceKey, u64>>,
}

impl Servers {
    fn new(count: u32, balance: &Balance) -> Self {
        let instances = (0..count).map(|id| Instance::clone(&instance(id)));
        let upstream = Upstream::fixed(Target::try_from("orders").unwrap(), instances, balance);
        Self { upstream, ill: Mutex::default(), got: Mutex::default() }
    }

    fn ill(&self, id: u32, failure: Option<Failure>) {
        let mut ill = self.ill.lock().unwrap();
        match failure {
            Some(failure) => drop(ill.insert(key(id), failure)),
            None => drop(ill.remove(&key(id))),
        }
    }

    fn answer(&self, instance: &Instance) -> Option<Failure> {
        *self.got.lock().unwrap().entry(instance.key()).or_default() += 1;
        self.ill.lock().unwrap().get(&instance.key()).copied()
    }

    fn report(&self, picked: Picked) -> bool {
        let failure = self.answer(&picked);
        picked.report(failure.map_or(Outcome::success(), Outcome::failure));
        failure.is_none()
    }

    /// One request; whether it succeeded.
    fn request(&self) -> bool {
        self.report(self.upstream.pick().unwrap())
    }

    /// So many requests, a hundred per second; how many failed.
    async fn load(&self, requests: u64) -> u64 {
        let mut failed = 0;
        for _ in 0..requests {
            failed += u64::from(!self.request());
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        failed
    }

    /// What each got since the last time.
    fn take(&self) -> HashMap<InstanceKey, u64> {
        std::mem::take(&mut self.got.lock().unwrap())
    }

    fn got(&self, id: u32) -> u64 {
        self.got.lock().unwrap().get(&key(id)).copied().unwrap_or(0)
    }
}

/// Least of what is in flight or has been served: who answers fastest gets all, which a failing server does.
#[derive(Debug, Default)]
struct LeastServed(Arc<Vec<AtomicU64>>);

impl LeastServed {
    fn balance() -> Balance {
        Balance::custom("least_served", || {
            let served = Arc::new((0..100).map(|_| AtomicU64::new(0)).collect());
            Arc::new(Self(served))
        })
    }
}

impl Balancer for LeastServed {
    fn picker(&self, _: &Members) -> Arc<dyn Picker> {
        Arc::new(Self(Arc::clone(&self.0)))
    }

    fn observes(&self) -> bool {
        true
    }

    fn end(&self, slot: Slot, _: Ticket, outcome: Option<&Outcome>) {
        // A success keeps the server busy, a fast failure doesn't: the black hole.
        let is_well = outcome.is_some_and(|outcome| outcome.get_failure().is_none());
        self.0[slot.index as usize].fetch_add(u64::from(is_well), Ordering::Relaxed);
    }
}

impl Picker for LeastServed {
    fn pick(&self, draw: &Draw<'_>) -> usize {
        let served =
            |at: &usize| self.0[draw.members().slot(*at).unwrap().index as usize].load(Ordering::Relaxed);
        (0..draw.members().len()).min_by_key(served).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_ten_that_fails_fast_gets_at_most_a_hundredth_after_its_ejection() {
    for balance in [Balance::round_robin(), Balance::random(), LeastServed::balance()] {
        let servers = Servers::new(10, &balance);
        for (id, failure) in [(3, Failure::Connect), (7, Failure::Server)] {
            servers.ill(id, Some(failure));
            servers.load(200).await;
            assert!(servers.upstream.snapshot().is_ejected(&key(id)), "{balance:?}");
            servers.take();
            let failed = servers.load(12_000).await;
            assert!(failed <= 120 && servers.got(id) <= 120, "{balance:?}: {failed}");
            // Two minutes: after 30, 60 and 90 s and their tenths.
            assert!((1..=3).contains(&failed), "{balance:?}: {failed} probes");
            servers.ill(id, None);
            servers.load(14_000).await;
            assert!(!servers.upstream.snapshot().is_ejected(&key(id)), "{balance:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_ejection_a_server_that_fails_fast_is_a_black_hole() {
    let servers = Servers::new(10, &LeastServed::balance());
    servers.ill(3, Some(Failure::Throttled));
    assert!(servers.load(1_000).await > 900, "the test above would prove nothing");
}

#[tokio::test(start_paused = true)]
async fn a_dead_instance_costs_its_share_at_first_and_then_gets_probes_only() {
    let servers = Servers::new(5, &Balance::round_robin());
    servers.ill(0, Some(Failure::Connect));
    // Two refused connections, 10 requests: no more than a fifth.
    assert_eq!(servers.load(10).await, 2);
    // Steps of 30, 60, 90, 120, 150 s and up to a tenth more: four end within 330 s, the fifth after 450 s.
    let mut passed = 0;
    for (until, probes) in
        [(29, 0), (34, 1), (89, 1), (100, 2), (179, 2), (199, 3), (299, 3), (331, 4), (449, 4)]
    {
        servers.load((until - passed) * 100).await;
        passed = until;
        assert_eq!(servers.got(0), 2 + probes, "after {until} s");
    }
    servers.ill(0, None);
    servers.load(20_000).await;
    servers.take();
    assert_eq!(servers.load(1_000).await, 0);
    assert_eq!(servers.got(0), 200, "it is back with its full share");
}

#[tokio::test(start_paused = true)]
async fn if_all_fail_traffic_still_goes_to_all() {
    let servers = Servers::new(10, &Balance::round_robin());
    let mut events = servers.upstream.events();
    (0..10).for_each(|id| servers.ill(id, Some(Failure::Server)));
    servers.load(100).await;
    servers.take();
    servers.load(2_000).await;
    let got = servers.take();
    assert_eq!(got.len(), 10);
    for (id, got) in got {
        assert!((190..=210).contains(&got), "{id}: {got}");
    }
    assert!(servers.upstream.snapshot().ejected().count() <= 1);
    (0..10).for_each(|id| servers.ill(id, None));
    servers.load(6_000).await;
    assert_eq!(servers.upstream.snapshot().ejected().count(), 0);
    let mut kinds = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        kinds.push(match event {
            ViewEvent::Ejected { .. } => "ejected",
            ViewEvent::Restored { .. } => "restored",
            ViewEvent::PanicBegan { usable: 4, of: 10 } => "panic",
            ViewEvent::PanicEnded => "over",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(kinds, ["ejected", "panic", "over", "restored"]);
}

#[tokio::test(start_paused = true)]
async fn a_flapping_instance_is_ejected_for_longer_each_time() {
    let servers = Servers::new(5, &Balance::round_robin());
    let mut failed = 0;
    // Well at every probe, and ill as soon as it is back.
    for _ in 0..120_000 {
        let ejected = servers.upstream.snapshot().is_ejected(&key(0));
        servers.ill(0, (!ejected).then_some(Failure::Server));
        failed += u64::from(!servers.request());
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    // 20 minutes: 30 + 60 + … + 240 s is 18 minutes without the tenths.
    assert!((35..=45).contains(&failed), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn the_first_pick_after_the_time_is_the_probe_and_no_other_thread_gets_one() {
    let servers = Servers::new(3, &Balance::round_robin());
    servers.ill(0, Some(Failure::Connect));
    servers.load(10).await;
    tokio::time::advance(34 * SECOND).await;
    let (upstream, runtime) = (&servers.upstream, tokio::runtime::Handle::current());
    let picks: Vec<Picked> = std::thread::scope(|scope| {
        let work = || {
            // For its clock.
            let _runtime = runtime.enter();
            (0..100).map(|_| upstream.pick().unwrap()).collect::<Vec<_>>()
        };
        let threads = (0..8).map(|_| scope.spawn(work));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (probes, rest): (Vec<_>, Vec<_>) = picks.into_iter().partition(|picked| picked.key() == key(0));
    assert_eq!(probes.len(), 1);
    rest.into_iter().for_each(|picked| picked.report(Outcome::success()));
    assert!(upstream.snapshot().is_ejected(&key(0)), "only the probe's verdict restores");
    probes.into_iter().for_each(|picked| picked.report(Outcome::success()));
    assert!(!upstream.snapshot().is_ejected(&key(0)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_goes_to_another_pick() {
    let servers = Servers::new(3, &Balance::round_robin());
    servers.ill(0, Some(Failure::Connect));
    servers.load(10).await;
    tokio::time::advance(34 * SECOND).await;
    let probe = servers.upstream.pick().unwrap();
    assert_eq!(probe.key(), key(0));
    drop(probe);
    assert!((0..10).all(|_| servers.upstream.pick().unwrap().key() != key(0)));
    tokio::time::advance(SECOND).await;
    assert_eq!(servers.upstream.pick().unwrap().key(), key(0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_a_long_stream_brings_its_instance_back_while_it_goes_on() {
    let servers = Servers::new(3, &Balance::round_robin());
    servers.ill(0, Some(Failure::Connect));
    servers.load(10).await;
    tokio::time::advance(34 * SECOND).await;
    let stream = servers.upstream.pick().unwrap();
    assert_eq!(stream.key(), key(0));
    servers.ill(0, None);
    stream.answered();
    servers.load(400).await;
    assert!(servers.upstream.snapshot().is_ejected(&key(0)), "four seconds are too few");
    servers.load(200).await;
    assert!(!servers.upstream.snapshot().is_ejected(&key(0)));
    drop(stream);
    assert!(!servers.upstream.snapshot().is_ejected(&key(0)));
}

#[tokio::test(start_paused = true)]
async fn a_pick_by_closure_never_probes() {
    let servers = Servers::new(3, &Balance::round_robin());
    servers.ill(0, Some(Failure::Connect));
    servers.load(10).await;
    tokio::time::advance(34 * SECOND).await;
    for _ in 0..100 {
        assert_ne!(servers.upstream.with_pick(Instance::key).unwrap(), key(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_sees_nothing_of_a_dead_instance() {
    let servers = Servers::new(5, &Balance::round_robin());
    servers.ill(0, Some(Failure::Connect));
    for _ in 0..10_000 {
        let answer = servers.upstream.call(async |instance| match servers.answer(&instance) {
            None => Ok(()),
            Some(failure) => Err(Attempt::retry("refused").because(failure)),
        });
        answer.await.unwrap();
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    assert!(servers.got(0) <= 2 + 3, "{} attempts at the dead one", servers.got(0));
}

#[tokio::test(start_paused = true)]
async fn an_ejection_shows_in_the_snapshot_and_wakes_who_reads_the_changes() {
    let servers = Servers::new(3, &Balance::round_robin());
    let mut changes = servers.upstream.changes();
    assert_eq!(changes.next().await.unwrap().diff.added.len(), 3);
    servers.ill(1, Some(Failure::Connect));
    servers.load(10).await;
    let update = changes.next().await.unwrap();
    assert!(update.diff.is_empty());
    assert!(update.snapshot.is_ejected(&key(1)) && !update.snapshot.is_ejected(&key(0)));
    assert_eq!((update.snapshot.len(), update.snapshot.usable_len()), (3, 3));
    assert_eq!(update.snapshot.iter().count(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_events_end_with_the_view_even_if_a_pick_outlives_it() {
    let Servers { upstream, .. } = Servers::new(3, &Balance::round_robin());
    let (mut events, picked) = (upstream.events(), upstream.pick().unwrap());
    drop(upstream);
    assert_eq!(tokio::time::timeout(SECOND, events.next()).await, Ok(None));
    picked.report(Outcome::failure(Failure::Connect));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_tried_all_others_does_not_fall_back_on_an_ejected_one() {
    let servers = Servers::new(3, &Balance::round_robin());
    servers.ill(0, Some(Failure::Connect));
    servers.load(10).await;
    let tried = [key(1), key(2)];
    for _ in 0..100 {
        let picked = servers.upstream.pick_with(&PickContext::new().tried(&tried)).unwrap();
        assert_ne!(picked.key(), key(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_instances_that_join_are_ejected_and_leave_leave_nothing_behind() {
    let view = Arc::new(View::new(Selector::new(), &Balance::round_robin()));
    let apply = |upserts, removals| view.apply(&ViewChange { upserts, removals, ..ViewChange::default() });
    let nothing: Arc<dyn Source> = Arc::new(Nothing(crate::Error::invalid("none")));
    let upstream = Upstream::new(Target::try_from("orders").unwrap(), Arc::clone(&view), false, move || {
        Arc::clone(&nothing)
    });
    apply((0..4).map(instance).collect(), Vec::new());
    let mut left = Vec::new();
    for id in 1_000..2_000 {
        let joined = instance(id);
        left.push(Arc::downgrade(&joined));
        apply(vec![joined], Vec::new());
        while !upstream.snapshot().is_ejected(&key(id)) {
            let picked = upstream.pick().unwrap();
            let is_it = picked.key() == key(id);
            picked.report(if is_it { Outcome::failure(Failure::Connect) } else { Outcome::success() });
        }
        // Every second one has a probe out when it leaves.
        tokio::time::advance(34 * SECOND).await;
        let probe = (id % 2 == 0).then(|| upstream.pick().unwrap());
        assert!(probe.as_ref().is_none_or(|probe| probe.key() == key(id)));
        apply(Vec::new(), vec![key(id)]);
        assert_eq!(upstream.snapshot().ejected().count(), 0);
    }
    // A replaced version is let go by the next pick and freed with the next change.
    upstream.pick().unwrap().report(Outcome::success());
    apply(vec![instance(4)], vec![key(3)]);
    assert_eq!((upstream.snapshot().len(), view.live().members.slots()), (4, 5), "slots are used again");
    assert_eq!(left.iter().filter(|left| left.strong_count() > 0).count(), 0);
    let outliers = view.outliers().unwrap();
    assert_eq!(outliers.judge().machine.tracked().count(), 0);
    assert!(!outliers.is_anything_out());
}

#[tokio::test(start_paused = true)]
async fn a_pick_that_has_something_to_do_does_not_wait_for_a_long_change() {
    let view = Arc::new(View::new(Selector::new(), &Balance::round_robin()));
    view.apply(&ViewChange { upserts: (0..10).map(instance).collect(), ..ViewChange::default() });
    let nothing: Arc<dyn Source> = Arc::new(Nothing(crate::Error::invalid("none")));
    let upstream = Upstream::new(Target::try_from("orders").unwrap(), Arc::clone(&view), false, move || {
        Arc::clone(&nothing)
    });
    for _ in 0..100 {
        upstream.pick().unwrap().report(Outcome::failure(Failure::Server));
    }
    let panics = || view.outliers().unwrap().judge().machine.panics();
    assert!(panics());
    tokio::time::advance(40 * SECOND).await;
    let writer = view.writer();
    let (picks, runtime) = (upstream.clone(), tokio::runtime::Handle::current());
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // For its clock.
        let _runtime = runtime.enter();
        drop(picks.pick().unwrap());
        done.send(()).unwrap();
    });
    is_done.recv_timeout(10 * SECOND).expect("a pick doesn't wait");
    assert!(panics(), "that its end is due is left to the next one");
    drop(writer);
    let ejected = upstream.snapshot().ejected().next().cloned();
    assert_eq!(Some(upstream.pick().unwrap().key()), ejected);
    assert!(!panics());
}

#[tokio::test(start_paused = true)]
async fn a_low_success_rate_is_found_by_counts_alone() {
    let servers = Servers::new(10, &Balance::round_robin());
    let mut turn = 0;
    // Every second request to one instance fails, never five in a row.
    for at in 0..4_000 {
        let picked = servers.upstream.pick().unwrap();
        let is_ill = picked.key() == key(4) && {
            turn += 1;
            turn % 2 == 0
        };
        picked.report(if is_ill { Outcome::failure(Failure::Server) } else { Outcome::success() });
        tokio::time::advance(Duration::from_millis(at % 2 * 10)).await;
    }
    let snapshot = servers.upstream.snapshot();
    assert_eq!(snapshot.ejected().collect::<Vec<_>>(), [&key(4)]);
}
