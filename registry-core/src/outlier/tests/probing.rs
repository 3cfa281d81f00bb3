//! Probes in place of requests.

use std::{
    collections::HashSet,
    sync::{
        Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    Freshness, Probe, Target, TcpProbe, Upstream, ViewEvents,
    balance::Outcome,
    outlier::Prober,
    upstream::{Nothing, Source},
    view::{View, ViewChange, ViewConfig, ViewSink},
};

/// What each instance answers; the others never do.
#[derive(Debug, Default)]
struct Answers {
    answers: Mutex<HashMap<InstanceKey, Answer>>,
    asked: Mutex<Vec<InstanceKey>>,
    at_once: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Well,
    Fails(Failure),
    Panics,
}

#[derive(Clone, Debug, Default)]
struct Asker(Arc<Answers>);

#[async_trait]
impl Probe for Asker {
    async fn probe(&self, instance: &Instance) -> Result<(), Failure> {
        self.0.asked.lock().unwrap().push(instance.key());
        let answer = self.0.answers.lock().unwrap().get(&instance.key()).copied();
        self.0.most.fetch_max(self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _one_less = OneLess(&self.0.at_once);
        tokio::time::sleep(Duration::from_millis(10)).await;
        match answer {
            None => std::future::pending().await,
            Some(Answer::Well) => Ok(()),
            Some(Answer::Fails(failure)) => Err(failure),
            Some(Answer::Panics) => panic!("so be it"),
        }
    }
}

struct OneLess<'a>(&'a AtomicUsize);

impl Drop for OneLess<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A source that notes who was reported.
#[derive(Default)]
struct Noting(Mutex<HashSet<InstanceKey>>);

impl Source for Noting {
    fn attach(&self, _: Weak<dyn ViewSink>) {}

    fn fail(&self, key: &InstanceKey) {
        self.0.lock().unwrap().insert(key.clone());
    }

    fn freshness(&self) -> Freshness {
        Nothing(crate::Error::invalid("none")).freshness()
    }

    fn events(&self) -> ViewEvents {
        ViewEvents::new(None)
    }
}

struct Probed {
    upstream: Upstream,
    view: Weak<View>,
    source: Arc<Noting>,
    answers: Arc<Answers>,
    task: JoinHandle<()>,
}

/// An upstream of so many instances whose ejected ones are probed.
fn probed(count: u32, config: impl FnOnce(Ejection) -> Ejection) -> Probed {
    let asker = Asker::default();
    let ejection = config(Ejection::new().probe(asker.clone()));
    let view = Arc::new(View::with(ViewConfig { ejection, ..ViewConfig::default() }));
    view.apply(&ViewChange { upserts: (0..count).map(instance).collect(), ..ViewChange::default() });
    let source = Arc::new(Noting::default());
    let weak: Weak<dyn Source> = Arc::<Noting>::downgrade(&source);
    let task = tokio::spawn(Prober::new(&view, weak).unwrap().run());
    let start = Arc::<Noting>::clone(&source);
    let weak_view = Arc::downgrade(&view);
    let upstream =
        Upstream::new(Target::try_from("orders").unwrap(), view, false, move || Arc::<Noting>::clone(&start));
    Probed { upstream, view: weak_view, source, answers: asker.0, task }
}

impl Probed {
    fn answer(&self, id: u32, answer: Answer) {
        self.answers.answers.lock().unwrap().insert(key(id), answer);
    }

    /// Requests until this one is ejected.
    fn eject(&self, id: u32) {
        while !self.is_ejected(id) {
            let picked = self.upstream.pick().unwrap();
            let is_it = picked.key() == key(id);
            picked.report(if is_it { Outcome::failure(Failure::Connect) } else { Outcome::success() });
        }
    }

    fn is_ejected(&self, id: u32) -> bool {
        self.upstream.snapshot().is_ejected(&key(id))
    }

    fn asked(&self) -> usize {
        self.answers.asked.lock().unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_probes_and_no_request_meets_an_ejected_instance() {
    let probed = probed(5, |ejection| ejection);
    probed.answer(0, Answer::Fails(Failure::Server));
    // The task has begun.
    tokio::task::yield_now().await;
    probed.eject(0);
    for _ in 0..4_000 {
        assert_ne!(probed.upstream.pick().unwrap().key(), key(0));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(probed.asked(), 3, "after 30, 60 and 90 s, in 200 s");
    probed.answer(0, Answer::Well);
    tokio::time::sleep(135 * SECOND).await;
    assert!(!probed.is_ejected(0));
    assert_eq!(probed.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_takes_too_long_has_failed_and_one_that_panics_has_no_verdict() {
    let probed = probed(5, |ejection| ejection.probe_timeout(2 * SECOND));
    tokio::task::yield_now().await;
    probed.eject(0);
    tokio::time::sleep(34 * SECOND).await;
    assert_eq!(probed.asked(), 1);
    tokio::time::sleep(50 * SECOND).await;
    assert_eq!(probed.asked(), 1, "the second step takes a minute");
    probed.answer(0, Answer::Panics);
    tokio::time::sleep(25 * SECOND).await;
    assert!(!probed.is_ejected(0), "five in a row without a verdict");
    assert_eq!(probed.asked(), 6);
    assert!(!probed.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn at_most_four_are_asked_at_the_same_time() {
    let probed = probed(100, |ejection| ejection.probe_timeout(10 * SECOND));
    tokio::task::yield_now().await;
    (0..10).for_each(|id| probed.eject(id));
    tokio::time::sleep(35 * SECOND).await;
    assert_eq!((probed.asked(), probed.answers.most.load(Ordering::SeqCst)), (4, 4));
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!((probed.asked(), probed.answers.most.load(Ordering::SeqCst)), (10, 4));
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_refuses_is_reported_and_one_that_answers_is_left_alone() {
    let probed = probed(5, |ejection| ejection);
    probed.answer(1, Answer::Fails(Failure::Connect));
    probed.answer(2, Answer::Well);
    probed.answer(3, Answer::Fails(Failure::Server));
    let suspects = Arc::new(HashSet::from([key(1), key(2), key(3), key(4)]));
    let view = probed.view.upgrade().unwrap();
    view.apply(&ViewChange { suspects: Some(suspects), ..ViewChange::default() });
    drop(view);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(*probed.source.0.lock().unwrap(), HashSet::from([key(1)]));
    assert_eq!(probed.asked(), 4);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(probed.asked(), 8, "once per interval");
    let view = probed.view.upgrade().unwrap();
    view.apply(&ViewChange::default());
    drop(view);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(probed.asked(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_new_suspect_waits_for_one_round_of_the_others_however_long_these_never_answered() {
    let probed = probed(101, |ejection| ejection);
    let suspect = |ids: std::ops::Range<u32>| {
        let suspects = Some(Arc::new(ids.map(key).collect()));
        let view = probed.view.upgrade().unwrap();
        view.apply(&ViewChange { suspects, ..ViewChange::default() });
    };
    suspect(0..100);
    // Four at a time, each for a second: a round takes 25 s.
    tokio::time::sleep(300 * SECOND).await;
    suspect(0..101);
    tokio::time::sleep(51 * SECOND).await;
    assert!(probed.answers.asked.lock().unwrap().contains(&key(100)));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_upstream_even_while_it_probes() {
    for closes in [false, true] {
        let probed = probed(5, |ejection| ejection.probe_timeout(600 * SECOND));
        tokio::task::yield_now().await;
        probed.eject(0);
        tokio::time::sleep(34 * SECOND).await;
        assert_eq!(probed.asked(), 1);
        assert!(!probed.task.is_finished());
        if closes {
            probed.view.upgrade().unwrap().close();
        } else {
            drop(probed.upstream);
        }
        tokio::time::timeout(SECOND, probed.task).await.unwrap().unwrap();
        assert_eq!(
            Arc::strong_count(&probed.answers),
            1 + usize::from(closes),
            "only the configuration has it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn requests_probe_if_the_task_has_ended() {
    let probed = probed(5, |ejection| ejection);
    tokio::task::yield_now().await;
    probed.task.abort();
    tokio::task::yield_now().await;
    probed.eject(0);
    tokio::time::sleep(34 * SECOND).await;
    assert_eq!(probed.upstream.pick().unwrap().key(), key(0));
}

#[tokio::test]
async fn a_connection_is_proof_enough_for_the_tcp_probe() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let at = |host: &str| Instance::new("orders", format!("http://{host}:{port}")).unwrap();
    assert_eq!(TcpProbe::new().probe(&at("127.0.0.1")).await, Ok(()));
    assert_eq!(TcpProbe::new().probe(&at("localhost")).await, Ok(()));
    drop(listener);
    assert_eq!(TcpProbe::new().probe(&at("127.0.0.1")).await, Err(Failure::Connect));
}
