//! The task that probes the ejected in place of requests. One per upstream, if a probe is configured; ends with the
//! upstream or with its client.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Outliers, Probe, ProbeId};
use crate::{
    balance::{Failure, Slot},
    model::{Instance, InstanceKey},
    upstream::Source,
    view::View,
};

/// Instances of one upstream that are asked at the same time.
const AT_ONCE: usize = 4;

/// Whom to ask, and why.
struct Question {
    instance: Arc<Instance>,
    /// `None` for one that is held in doubt.
    ejected: Option<(Slot, ProbeId)>,
}

/// How it ended; `None` if the probe panicked.
type Answer = (Question, Option<Result<(), Failure>>);

/// One per upstream; see the module.
pub(crate) struct Prober {
    view: Weak<View>,
    source: Weak<dyn Source>,
    outliers: Arc<Outliers>,
    probe: Arc<dyn Probe>,
    within: Duration,
    /// How often one that is held in doubt is asked.
    every: Duration,
    asked: HashMap<InstanceKey, Instant>,
    /// Those that are held in doubt and whose turn it is, each once.
    waiting: VecDeque<Arc<Instance>>,
}

impl Prober {
    /// What probes the view's ejected instances, if that is configured.
    pub(crate) fn new(view: &Arc<View>, source: Weak<dyn Source>) -> Option<Self> {
        let outliers = Arc::clone(view.outliers()?);
        let probe = Arc::clone(&outliers.config.probe.as_ref()?.0);
        let (within, every) = (outliers.config.probe_timeout, outliers.config.interval);
        let (asked, waiting) = (HashMap::new(), VecDeque::new());
        Some(Self { view: Arc::downgrade(view), source, outliers, probe, within, every, asked, waiting })
    }

    /// Probes until the view is dropped or closed.
    pub(crate) async fn run(mut self) {
        let Some(mut wake) = self.view.upgrade().map(|view| view.subscribe()) else { return };
        let outliers = Arc::clone(&self.outliers);
        // From now on picks leave it to this task, until it ends, even by a panic.
        let _turn = outliers.take_turn();
        let mut running = FuturesUnordered::new();
        loop {
            let Some(view) = self.view.upgrade() else { return };
            if wake.borrow_and_update().is_none() {
                return;
            }
            let now = Instant::now();
            self.look_for_suspects(&view, now);
            while running.len() < AT_ONCE
                && let Some(question) = self.next(&view, now)
            {
                running.push(self.ask(question));
            }
            drop(view);
            let is_full = running.len() >= AT_ONCE;
            let next_suspect = self.asked.values().map(|asked| *asked + self.every).min();
            let due = outliers.next_due().into_iter().chain(next_suspect).min();
            tokio::select! {
                Some(answer) = running.next() => self.take(answer),
                open = wake.changed() => {
                    if open.is_err() {
                        return;
                    }
                }
                () = outliers.moved.notified() => {}
                () = sleep_until(due.unwrap_or(now)), if due.is_some() && !is_full => {}
            }
        }
    }

    /// Queues those that are held in doubt, each at most once per interval, and once all that were queued before have
    /// had their turn: many that don't answer take longer than that.
    fn look_for_suspects(&mut self, view: &View, now: Instant) {
        let live = view.live();
        let snapshot = &live.snapshot;
        self.asked.retain(|key, _| snapshot.is_suspect(key));
        self.waiting.retain(|instance| snapshot.is_suspect(&instance.key()));
        if !snapshot.has_suspects() || !self.waiting.is_empty() {
            return;
        }
        let is_due = |instance: &&Arc<Instance>| {
            self.asked.get(&instance.key()).is_none_or(|asked| now >= *asked + self.every)
        };
        self.waiting.extend(snapshot.suspects().filter(is_due).cloned());
    }

    /// Whom to ask next: the ejected whose time is over, then those that are held in doubt.
    fn next(&mut self, view: &View, now: Instant) -> Option<Question> {
        if let Some((instance, slot, probe)) = self.outliers.claim_now(view) {
            return Some(Question { instance, ejected: Some((slot, probe)) });
        }
        let instance = self.waiting.pop_front()?;
        self.asked.insert(instance.key(), now);
        Some(Question { instance, ejected: None })
    }

    fn ask(&self, question: Question) -> BoxFuture<'static, Answer> {
        let (probe, within) = (Arc::clone(&self.probe), self.within);
        let ask = async move {
            let asked = AssertUnwindSafe(probe.probe(&question.instance)).catch_unwind();
            let answer = match timeout(within, asked).await {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(_)) => None,
                Err(_) => Some(Err(Failure::Timeout)),
            };
            (question, answer)
        };
        ask.boxed()
    }

    fn take(&self, (question, answer): Answer) {
        let Question { instance, ejected } = question;
        if answer.is_none() {
            tracing::error!(instance = %instance.key(), "a probe panicked");
        }
        match (ejected, answer) {
            (Some((slot, probe)), answer) => {
                let Some(view) = self.view.upgrade() else { return };
                match answer {
                    Some(answer) => self.outliers.report(&view, &instance, slot, answer.err(), Some(probe)),
                    None => self.outliers.give_back(&view, slot, probe, true),
                }
            }
            (None, Some(Err(Failure::Connect))) => {
                if let Some(source) = self.source.upgrade() {
                    source.fail(&instance.key());
                }
            }
            (None, _) => {}
        }
    }
}
