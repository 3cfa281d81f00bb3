//! Leaving out instances that keep failing, for a while.
//!
//! ```text
//!   Picked::report ──success──► Tally (no lock) ──once an interval──┐
//!                  └─failure────────────────────────────────────────┴► Machine ──► events
//!   View::apply ───who is there──────────────────────────────────────►   │
//!   Upstream::pick ──is a probe due?──────────────────────────────────►   └─ who is ejected ──► Store
//! ```
//!
//! [`machine`] decides; this module carries its actions out. There is no task unless a probe is configured ([`prober`]):
//! time passes with reports, and with picks while something is ejected. Locks are taken in the order writer of the view, machine.

mod config;
mod criteria;
mod entry;
mod machine;
mod probe;
mod prober;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

pub use self::{
    config::{Ejection, EjectionCause},
    probe::{Probe, TcpProbe},
};
pub(crate) use self::{machine::ProbeId, prober::Prober};
use self::{
    machine::{Action, Input, Machine},
    tally::{Read, Tally},
};
use crate::{
    ViewEvent,
    balance::{Failure, Slot},
    feed::{Feed, Reader},
    metrics::{self, Level},
    model::{Instance, InstanceKey, ServiceName},
    snapshot::{Pool, Store},
    view::{View, Writer},
};

/// [`Outliers::due`] if nothing will be.
const NEVER: u64 = u64::MAX;

/// Who of one view is ejected, and why.
#[derive(Debug)]
pub(crate) struct Outliers {
    config: Ejection,
    /// Whether it matters who fails before it is ejected: where zones count.
    zoned: bool,
    tally: Tally,
    /// When a pick should look in, in nanoseconds after `start`.
    due: AtomicU64,
    start: Instant,
    /// Whether a task probes, and picks needn't.
    has_prober: AtomicBool,
    /// Wakes that task when something else may be due.
    moved: Notify,
    judge: Mutex<Judge>,
    events: Feed<ViewEvent>,
    /// Whose instances they are, for counting; unknown until there is an upstream.
    service: OnceLock<ServiceName>,
    figures: Mutex<Figures>,
    ejected: Level,
    panicking: Level,
}

/// What metrics are to be told, in order, though without a lock: a recorder may pick.
#[derive(Debug, Default)]
struct Figures {
    /// How many are ejected, and whether that is ignored.
    next: Option<(usize, bool)>,
    /// Whether somebody is telling, who tells what comes meanwhile too.
    is_told: bool,
}

#[derive(Debug)]
struct Judge {
    machine: Machine,
    read: Read,
    /// How many slots have room in the tally.
    counted: usize,
    /// The machine's moves when the next due time was computed, and when the store was told who is ejected.
    timed: u64,
    due: Option<Instant>,
    stored: u64,
    /// The machine's shifts when the store was told last who fails.
    shifted: u64,
    /// What happened and wasn't told yet, as it isn't published.
    news: Vec<ViewEvent>,
}

impl Outliers {
    pub(crate) fn new(config: &Ejection, zoned: bool) -> Self {
        Self {
            config: config.clone(),
            zoned,
            tally: Tally::default(),
            due: AtomicU64::new(NEVER),
            start: Instant::now(),
            has_prober: AtomicBool::new(false),
            moved: Notify::new(),
            judge: Mutex::new(Judge {
                machine: Machine::new(config.clone(), fastrand::u64(..)),
                read: Read::default(),
                counted: 0,
                timed: 0,
                due: None,
                stored: 0,
                shifted: 0,
                news: Vec::new(),
            }),
            events: Feed::new(),
            service: OnceLock::new(),
            figures: Mutex::default(),
            ejected: Level::default(),
            panicking: Level::default(),
        }
    }

    /// Tells whose instances they are.
    pub(crate) fn name(&self, service: &ServiceName) {
        self.service.get_or_init(|| service.clone());
    }

    /// A request succeeded that wasn't a probe; whether [`report`](Self::report) has to be told. Takes no lock.
    #[inline]
    pub(crate) fn count(&self, slot: Slot) -> bool {
        self.tally.count(slot)
    }

    /// A request ended.
    pub(crate) fn report(
        &self,
        view: &View,
        instance: &Instance,
        slot: Slot,
        failure: Option<Failure>,
        probe: Option<ProbeId>,
    ) {
        let now = Instant::now();
        let mut judge = self.judge();
        let mut actions = Vec::new();
        if failure.is_some() {
            let live = view.live();
            let slots = live.snapshot.active().slots();
            if slots > judge.counted {
                self.tally.grow(slots);
                judge.counted = slots;
            }
            if judge.machine.interval_is_over(now) {
                let successes = self.tally.read(&live.snapshot, &mut judge.read);
                actions = judge.machine.step(Input::Interval { successes }, now);
            }
        }
        let key = instance.key();
        let outcome = Input::Outcome { slot, key: &key, failure, probe };
        actions.extend(judge.machine.step(outcome, now));
        self.tally.heed(slot.index, judge.machine.heeds(slot.index));
        self.carry_out(view, judge, &actions);
    }

    /// The answer to a probe has begun, and looks well.
    pub(crate) fn answered(&self, view: &View, slot: Slot, probe: ProbeId) {
        let mut judge = self.judge();
        let actions = judge.machine.step(Input::Answered { slot, probe }, Instant::now());
        self.carry_out(view, judge, &actions);
    }

    /// A probe ended without a verdict; whether its request was sent.
    pub(crate) fn give_back(&self, view: &View, slot: Slot, probe: ProbeId, was_sent: bool) {
        let mut judge = self.judge();
        let input = if was_sent { Input::Unproven { slot, probe } } else { Input::Unsent { slot, probe } };
        let actions = judge.machine.step(input, Instant::now());
        self.carry_out(view, judge, &actions);
    }

    /// Whether anything may be due at any time. Costs a read of what rarely changes.
    #[inline]
    pub(crate) fn is_anything_out(&self) -> bool {
        self.due.load(Ordering::Relaxed) != NEVER
    }

    /// The instance that one request should be sent to now, to try whether it is well again.
    pub(crate) fn claim(&self, view: &View) -> Option<(Arc<Instance>, Slot, ProbeId)> {
        if self.nanos(Instant::now()) < self.due.load(Ordering::Relaxed) {
            return None;
        }
        // Whoever holds one of them may be claiming, or build a large version; a pick doesn't wait. It stays due: the
        // next one tries again.
        let writer = view.try_writer()?;
        let judge = self.judge.try_lock().ok()?;
        self.claim_with(view, writer, judge)
    }

    /// The instance to be probed now.
    fn claim_now(&self, view: &View) -> Option<(Arc<Instance>, Slot, ProbeId)> {
        let writer = view.writer();
        let judge = self.judge();
        self.claim_with(view, writer, judge)
    }

    fn claim_with(
        &self,
        view: &View,
        writer: MutexGuard<'_, Writer>,
        mut judge: MutexGuard<'_, Judge>,
    ) -> Option<(Arc<Instance>, Slot, ProbeId)> {
        let actions = judge.machine.step(Input::Claim, Instant::now());
        self.time(&mut judge);
        self.note(&mut judge, &actions);
        let settles = self.calls_for_settling(&judge, &actions);
        drop(judge);
        // Nobody can have left meanwhile: the writer takes who leaves off the machine before it lets go of its lock.
        let claimed = actions.iter().find_map(|action| match action {
            Action::Try { slot, key, probe } => {
                let member = writer.serving_member(key).filter(|member| member.slot == *slot)?;
                Some((Arc::clone(&member.instance), *slot, *probe))
            }
            _ => None,
        });
        if settles {
            view.settle_with(writer);
        }
        claimed
    }

    /// From when on [`claim_now`](Self::claim_now) has an effect.
    fn next_due(&self) -> Option<Instant> {
        self.judge().machine.due()
    }

    /// Until the guard is dropped, picks leave probing to its holder.
    fn take_turn(&self) -> Turn<'_> {
        self.has_prober.store(true, Ordering::Relaxed);
        self.time(&mut self.judge());
        Turn(self)
    }

    /// Tells who is there, and marks in the store who is ejected; whether that changed anything. The caller has
    /// the writer's lock.
    pub(crate) fn settle(&self, store: &mut Store) -> bool {
        let mut judge = self.judge();
        let gone =
            |(slot, key): (Slot, &InstanceKey)| (store.serving_slot(key) != Some(slot)).then_some(slot);
        let gone = judge.machine.tracked().filter_map(gone).collect();
        let members = Input::Members { serving: store.taking(), down: store.len(Pool::Down), gone };
        let actions = judge.machine.step(members, Instant::now());
        self.note(&mut judge, &actions);
        let mut spills = false;
        if self.zoned {
            if judge.shifted != judge.machine.shifts() {
                judge.shifted = judge.machine.shifts();
                self.time(&mut judge);
            }
            // In a panic they count as well, as the ejected do.
            let is_blamed = !judge.machine.panics();
            spills = store.fail(judge.machine.failing().filter(|_| is_blamed));
        }
        if judge.stored == judge.machine.moves() {
            return spills;
        }
        judge.stored = judge.machine.moves();
        let ejected: HashSet<_> = judge.machine.ejected().cloned().collect();
        self.figures().next = Some((ejected.len(), judge.machine.panics()));
        store.eject(ejected, !judge.machine.panics()) || spills
    }

    /// Tells what has happened, after it was published. The caller has the writer's lock, so that events come in order,
    /// and has what is returned [logged](Self::log) without it.
    #[must_use]
    pub(crate) fn tell(&self) -> Vec<ViewEvent> {
        let news = std::mem::take(&mut self.judge().news);
        news.iter().for_each(|event| self.events.send(event));
        news
    }

    /// Logs and counts what [`tell`](Self::tell) told. The caller has no lock.
    pub(crate) fn log(&self, news: &[ViewEvent]) {
        log(news);
        let Some(service) = self.service.get() else { return };
        news.iter().for_each(|event| metrics::ejection(service, event));
        while let Some((ejected, panics)) = self.next_figures() {
            metrics::ejected(&self.ejected, service, ejected);
            metrics::panicking(&self.panicking, service, panics);
            self.figures().is_told = false;
        }
    }

    fn next_figures(&self) -> Option<(usize, bool)> {
        let mut figures = self.figures();
        if figures.is_told {
            return None;
        }
        let next = figures.next.take();
        figures.is_told = next.is_some();
        next
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens from now on; ends when the view does.
    pub(crate) fn events(&self) -> Reader<ViewEvent> {
        self.events.subscribe()
    }

    pub(crate) fn close(&self) {
        self.events.close();
    }

    /// Takes the lock of the machine by value, as publishing takes the writer's first.
    fn carry_out(&self, view: &View, mut judge: MutexGuard<'_, Judge>, actions: &[Action]) {
        self.note(&mut judge, actions);
        let settles = self.calls_for_settling(&judge, actions);
        drop(judge);
        if settles {
            view.settle_with(view.writer());
        }
    }

    fn calls_for_settling(&self, judge: &Judge, actions: &[Action]) -> bool {
        let others_fail = self.zoned && judge.shifted != judge.machine.shifts();
        others_fail || actions.iter().any(|action| !matches!(action, Action::Try { .. }))
    }

    /// Computes when a pick should look in.
    fn time(&self, judge: &mut Judge) {
        judge.timed = judge.machine.moves();
        let due = judge.machine.due();
        if due != std::mem::replace(&mut judge.due, due) {
            self.moved.notify_one();
        }
        let due = due.filter(|_| !self.has_prober.load(Ordering::Relaxed));
        self.due.store(due.map_or(NEVER, |due| self.nanos(due)), Ordering::Relaxed);
    }

    fn note(&self, judge: &mut Judge, actions: &[Action]) {
        if judge.timed != judge.machine.moves() {
            self.time(judge);
        }
        judge.news.extend(actions.iter().filter_map(|action| match action.clone() {
            Action::Settle | Action::Try { .. } => None,
            Action::Eject { key, cause, lasts } => Some(ViewEvent::Ejected { key, cause, lasts }),
            Action::Restore { key } => Some(ViewEvent::Restored { key }),
            Action::PanicBegins { usable, of } => Some(ViewEvent::PanicBegan { usable, of }),
            Action::PanicEnds => Some(ViewEvent::PanicEnded),
        }));
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(NEVER - 1)
    }
}

/// See [`Outliers::take_turn`].
struct Turn<'a>(&'a Outliers);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.has_prober.store(false, Ordering::Relaxed);
        self.0.time(&mut self.0.judge());
    }
}

fn log(news: &[ViewEvent]) {
    for event in news {
        match event {
            ViewEvent::Ejected { key, cause, lasts } => {
                tracing::warn!(instance = %key, %cause, ?lasts, "an instance is ejected");
            }
            ViewEvent::Restored { key } => tracing::info!(instance = %key, "an instance is restored"),
            ViewEvent::PanicBegan { usable, of } => {
                tracing::warn!(usable, of, "too few instances are usable: ejection is ignored");
            }
            ViewEvent::PanicEnded => tracing::info!("enough instances are usable: ejection counts again"),
            _ => {}
        }
    }
}
