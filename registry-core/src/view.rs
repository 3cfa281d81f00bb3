//! The seam between the reflector, which knows what is true, and the upstream, which picks.
//!
//! A [`View`] is one (target, selector, balancer). The writer's side is a lock around the [`Store`]; the
//! reader's side is one atomic pointer to the present snapshot and its picker, of which each thread holds a copy
//! ([`near`]), so that a pick neither locks nor waits. A batch of changes is published as one snapshot.

mod near;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::Instant};

use self::near::{Seat, moved};
pub(crate) use self::near::{ViewId, at_home};
use crate::{
    ViewEvent,
    balance::{Balance, Balancing, Dice, Members, Meter, PickContext, Rule, Spill, choose, reconsider},
    intake::{Damping, Intake, Subset},
    model::{Instance, InstanceKey, Selector},
    outlier::{Ejection, Outliers},
    snapshot::{Member, Pool, SlowStart, Snapshot, Store},
    upstream::Home,
};

/// One step of a guarded view: applied whole, removals before upserts.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewChange {
    /// Added or changed instances, each key once.
    pub(crate) upserts: Vec<Arc<Instance>>,
    /// Instances that are gone.
    pub(crate) removals: Vec<InstanceKey>,
    /// The complete set of held instances after this change; `None` if there is none.
    pub(crate) suspects: Option<Arc<HashSet<InstanceKey>>>,
    /// The registry's revision after this change.
    pub(crate) revision: Option<u64>,
}

/// Where a reflector publishes its view.
pub(crate) trait ViewSink: Send + Sync {
    /// Publishes one snapshot. The first call, even without any instance, says that the registry has answered
    /// (or that a view from disk serves). Changes come in order, from one caller at a time; doesn't block.
    fn apply(&self, change: &ViewChange);

    /// Publishes what was held back until now; when to call again, unless a change comes first.
    fn tick(&self) -> Option<Instant> {
        None
    }

    /// Nothing will come any more: whoever waits for changes is told so.
    fn close(&self) {}
}

/// What distinguishes the views of one target.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewConfig {
    pub(crate) selector: Selector,
    pub(crate) balance: Balance,
    pub(crate) ejection: Ejection,
    pub(crate) damping: Damping,
    pub(crate) subset: Subset,
    /// The client's zone, if zones count.
    pub(crate) zone: Option<String>,
    pub(crate) slow_start: SlowStart,
    /// The client's own random number.
    pub(crate) seed: u64,
}

/// What an upstream sees of one target.
pub(crate) struct View {
    /// For instances of other zones; `None` if zones don't count.
    far: Option<Balancing>,
    /// `None` if nothing is ever ejected.
    outliers: Option<Arc<Outliers>>,
    /// Whether [`tick`](ViewSink::tick) has anything to do, ever.
    ticks: bool,
    writer: Mutex<Writer>,
    live: ArcSwap<Live>,
    /// Whom picks report to.
    home: Arc<Home>,
    seat: Arc<Seat>,
    /// Whether the live version has suspects.
    suspects: AtomicBool,
    /// The version that is live, for those who wait; `None` once the view is closed.
    wake: watch::Sender<Option<u64>>,
}

/// The writer's side of a view.
#[derive(Default)]
pub(crate) struct Writer {
    intake: Intake,
    store: Store,
    version: u64,
    revision: Option<u64>,
    /// Versions that were replaced and that some thread may still hold. Kept until none does, so that the last
    /// pick that lets go of a large one needn't take it apart. At most one per thread, and the last.
    replaced: Vec<Arc<Live>>,
}

impl Writer {
    /// An instance that takes requests, or would if it weren't ejected.
    pub(crate) fn serving_member(&self, key: &InstanceKey) -> Option<&Member> {
        self.store.serving_member(key)
    }
}

/// What readers load in one step.
pub(crate) struct Live {
    /// What picks choose from; the snapshot has it too, but further away. Empty while they `spill`.
    pub(crate) members: Members,
    rule: Rule,
    spill: Option<Arc<Spill>>,
    /// The one of the view, which is the same for all versions.
    home: Arc<Home>,
    pub(crate) snapshot: Snapshot,
}

impl Live {
    fn new(snapshot: Snapshot, far: Option<&Balancing>, home: &Arc<Home>) -> Self {
        let (balancing, home) = (home.balancing(), Arc::clone(home));
        let near = snapshot.active();
        // Where zones count it isn't known of which list the ejected ones would be: their keys move meanwhile.
        let passed_over = snapshot.passed_over().filter(|_| far.is_none());
        let (members, rule) = (near.clone(), balancing.rule(near, passed_over));
        let Some((share, balancing)) = snapshot.spill().zip(far) else {
            return Self { members, rule, spill: None, home, snapshot };
        };
        let others = snapshot.pool(Pool::Far);
        let far = (others.clone(), balancing.rule(others, None));
        let spill = Spill { share, near: (members, rule.clone()), far };
        Self { members: Members::default(), rule, spill: Some(Arc::new(spill)), home, snapshot }
    }

    /// The same instances in a later snapshot.
    fn renewed(&self, snapshot: Snapshot) -> Self {
        let Self { members, rule, spill, home, snapshot: _ } = self;
        let home = Arc::clone(home);
        Self { members: members.clone(), rule: rule.clone(), spill: spill.clone(), home, snapshot }
    }

    /// Chooses an instance; `None` only if none is known at all.
    #[inline(always)]
    pub(crate) fn choose(&self, context: &PickContext<'_>, dice: &Dice) -> Option<&Member> {
        choose(&self.members, &self.rule, context, &self.snapshot, &self.spill, dice)
    }

    /// As [`choose`](Self::choose); and where requests to the instance are counted, as the policy has just looked there.
    /// `OWNS` says whether the caller will keep the instance. If anything is unusual, what to
    /// [choose by](Self::choose_after).
    #[inline(always)]
    pub(crate) fn choose_metered<const OWNS: bool>(
        &self,
        context: &PickContext<'_>,
        dice: &Dice,
    ) -> Result<(&Member, Meter<'_>), Option<usize>> {
        match &self.rule {
            Rule::LeastRequest(least) if context.get_tried().is_empty() => {
                least.pick_metered::<OWNS>(&self.members, dice).map_err(Some)
            }
            _ => Err(None),
        }
    }

    /// [`choose`](Self::choose), where the policy may have chosen a position already.
    #[cold]
    #[inline(never)]
    pub(crate) fn choose_after(
        &self,
        context: &PickContext<'_>,
        dice: &Dice,
        at: Option<usize>,
    ) -> Option<&Member> {
        let Self { members, rule, snapshot, .. } = self;
        match at {
            Some(at) if members.is_trusted(at) => members.member(at),
            Some(at) if !members.is_empty() => reconsider(members, rule, context, snapshot, dice, at),
            _ => self.choose(context, dice),
        }
    }
}

impl View {
    /// A view that ejects as by default.
    pub(crate) fn new(selector: Selector, balance: &Balance) -> Self {
        Self::with(ViewConfig { selector, balance: balance.clone(), ..ViewConfig::default() })
    }

    pub(crate) fn with(config: ViewConfig) -> Self {
        let ViewConfig { selector, balance, ejection, damping, subset, zone, slow_start, seed } = config;
        let outliers = ejection.is_on().then(|| Arc::new(Outliers::new(&ejection, zone.is_some())));
        let home = Arc::new(Home::new(balance.balancing(), outliers.as_ref()));
        let live = Live::new(Snapshot::unfilled(), None, &home);
        let intake = Intake::new(selector, damping, subset, seed);
        let store = Store::new(zone.as_deref(), slow_start.window());
        Self {
            far: zone.is_some().then(|| home.balancing().beside()),
            outliers,
            ticks: intake.has_deadlines() || slow_start != SlowStart::Off,
            writer: Mutex::new(Writer { intake, store, ..Writer::default() }),
            live: ArcSwap::from_pointee(live),
            home,
            seat: Seat::take(),
            suspects: AtomicBool::new(false),
            wake: watch::Sender::new(Some(0)),
        }
    }

    /// The present snapshot and its picker, without a lock or a shared write.
    pub(crate) fn live(&self) -> arc_swap::Guard<Arc<Live>> {
        self.live.load()
    }

    /// What [`pick`](Self::pick) takes.
    pub(crate) fn seat(&self) -> usize {
        self.seat.number()
    }

    /// Whether the shrink guard holds any instance.
    #[inline]
    pub(crate) fn has_suspects(&self) -> bool {
        self.suspects.load(Ordering::Relaxed)
    }

    /// Who keeps count of failures, unless nothing is ever ejected.
    #[inline]
    pub(crate) fn outliers(&self) -> Option<&Arc<Outliers>> {
        self.outliers.as_ref()
    }

    #[inline]
    pub(crate) fn balancing(&self) -> &Balancing {
        self.home.balancing()
    }

    /// Whom picks from this view report to.
    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    fn publish(&self, live: Live, replaced: &mut Vec<Arc<Live>>) {
        self.suspects.store(live.snapshot.has_suspects(), Ordering::Relaxed);
        replaced.push(self.live.swap(Arc::new(live)));
        moved();
        replaced.retain(|live| Arc::strong_count(live) > 1);
    }

    /// Publishes who is ejected now.
    pub(crate) fn settle_with(&self, mut writer: MutexGuard<'_, Writer>) {
        let Some(outliers) = &self.outliers else { return };
        if outliers.settle(&mut writer.store) {
            self.advance(&mut writer);
        }
        let news = outliers.tell();
        drop(writer);
        outliers.log(&news);
    }

    fn log(&self, news: &[ViewEvent]) {
        if let Some(outliers) = &self.outliers {
            outliers.log(news);
        }
    }

    /// Publishes the next version and wakes who waits for it.
    fn advance(&self, writer: &mut Writer) {
        let Writer { store, version, revision, replaced, .. } = writer;
        *version += 1;
        let snapshot = store.snapshot(*version, *revision);
        self.publish(Live::new(snapshot, self.far.as_ref(), &self.home), replaced);
        self.wake.send_if_modified(|wake| {
            let open = wake.is_some();
            *wake = wake.map(|_| *version);
            open
        });
    }

    /// Wakes when another version is live, and when the view is closed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<u64>> {
        self.wake.subscribe()
    }
}

impl View {
    /// The writer's lock, which is held for long while a large version is built.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's lock, unless somebody has it.
    pub(crate) fn try_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Stores what the intake lets through, and publishes it. What is to be logged then is logged without a lock, as
    /// whoever takes the log may pick from this view.
    #[must_use]
    fn enter(&self, writer: &mut Writer, change: &ViewChange, now: Instant) -> Vec<ViewEvent> {
        let Writer { store, version, revision, .. } = &mut *writer;
        // The first batch is an answer, even if it is empty.
        let mut changed = *version == 0;
        for key in &change.removals {
            changed |= store.remove(key);
        }
        changed |= store.suspect(change.suspects.as_ref());
        if *version == 0 {
            store.reserve(change.upserts.len());
        }
        // Whoever was there before us needn't warm up.
        let warms_from = (*version > 0).then_some(now);
        for instance in &change.upserts {
            changed |= store.upsert(instance, warms_from);
        }
        if changed && let Some(outliers) = &self.outliers {
            outliers.settle(store);
        }
        let moved = change.revision.is_some() && change.revision != *revision;
        *revision = change.revision.or(*revision);
        if changed {
            self.advance(writer);
        } else if moved {
            // The same instances at a later revision: nobody needs to wake up for that.
            let Writer { store, version, revision, replaced, .. } = writer;
            let snapshot = store.snapshot(*version, *revision);
            let live = self.live.load().renewed(snapshot);
            self.publish(live, replaced);
        }
        let outliers = self.outliers.as_ref().filter(|_| changed);
        outliers.map(|outliers| outliers.tell()).unwrap_or_default()
    }
}

impl ViewSink for View {
    fn apply(&self, change: &ViewChange) {
        let (mut writer, now) = (self.writer(), Instant::now());
        let change = writer.intake.take(change, now);
        let news = self.enter(&mut writer, &change, now);
        drop(writer);
        self.log(&news);
    }

    fn tick(&self) -> Option<Instant> {
        if !self.ticks {
            return None;
        }
        let (mut writer, now) = (self.writer(), Instant::now());
        let due = writer.intake.due(now);
        let news = due.map(|due| self.enter(&mut writer, &due, now)).unwrap_or_default();
        if writer.store.cool(now) {
            self.advance(&mut writer);
        }
        let next = writer.intake.deadline().into_iter().chain(writer.store.deadline()).min();
        drop(writer);
        self.log(&news);
        next
    }

    /// Ends all waiting; picks go on with the last snapshot.
    fn close(&self) {
        let mut writer = self.writer();
        let rest = writer.intake.rest();
        let news = rest.map(|rest| self.enter(&mut writer, &rest, Instant::now())).unwrap_or_default();
        drop(writer);
        self.log(&news);
        self.wake.send_replace(None);
        if let Some(outliers) = &self.outliers {
            outliers.close();
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // A pick that outlives the view keeps count of failures, but nothing happens any more.
        if let Some(outliers) = &self.outliers {
            outliers.close();
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("balancing", self.balancing())
            .field("snapshot", &self.live().snapshot)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl View {
    /// The balancer, if it wants to hear of picks.
    pub(crate) fn observer(&self) -> Option<&Balancing> {
        Some(self.balancing()).filter(|balancing| balancing.observes())
    }
}
