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
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::near::{Seat, moved};
use crate::{
    balance::{Balance, Balancer, Balancing, Dice, Members, PickContext, Rule, choose},
    model::{Instance, InstanceKey, Selector},
    outlier::{self, Ejection, Outliers},
    snapshot::{Member, Snapshot, Store},
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

    /// Nothing will come any more: whoever waits for changes is told so.
    fn close(&self) {}
}

/// What an upstream sees of one target.
pub(crate) struct View {
    selector: Selector,
    balancing: Arc<Balancing>,
    /// `None` if nothing is ever ejected.
    outliers: Option<Arc<Outliers>>,
    writer: Mutex<Writer>,
    live: ArcSwap<Live>,
    seat: Arc<Seat>,
    /// Whether the live version has suspects.
    suspects: AtomicBool,
    /// The version that is live, for those who wait; `None` once the view is closed.
    wake: watch::Sender<Option<u64>>,
}

#[derive(Default)]
struct Writer {
    store: Store,
    version: u64,
    revision: Option<u64>,
    /// Versions that were replaced and that some thread may still hold. Kept until none does, so that the last
    /// pick that lets go of a large one needn't take it apart. At most one per thread, and the last.
    replaced: Vec<Arc<Live>>,
}

/// What readers load in one step.
pub(crate) struct Live {
    /// What picks choose from; the snapshot has it too, but further away.
    pub(crate) members: Members,
    rule: Rule,
    pub(crate) snapshot: Snapshot,
}

impl Live {
    fn new(snapshot: Snapshot, rule: Rule) -> Self {
        Self { members: snapshot.active().clone(), rule, snapshot }
    }

    /// Chooses an instance; `None` only if none is known at all.
    #[inline(always)]
    pub(crate) fn choose(&self, context: &PickContext<'_>, dice: &Dice) -> Option<&Member> {
        choose(&self.members, &self.rule, context, &self.snapshot, dice)
    }
}

impl View {
    /// A view that ejects as by default.
    pub(crate) fn new(selector: Selector, balance: &Balance) -> Self {
        Self::with_ejection(selector, balance, &Ejection::default())
    }

    pub(crate) fn with_ejection(selector: Selector, balance: &Balance, ejection: &Ejection) -> Self {
        let balancing = Arc::new(balance.balancing());
        let snapshot = Snapshot::unfilled();
        let rule = balancing.rule(&snapshot);
        Self {
            selector,
            balancing,
            outliers: ejection.is_on().then(|| Arc::new(Outliers::new(ejection))),
            writer: Mutex::default(),
            live: ArcSwap::from_pointee(Live::new(snapshot, rule)),
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

    pub(crate) fn balancing(&self) -> &Arc<Balancing> {
        &self.balancing
    }

    /// The balancer, if it wants to hear of picks.
    #[inline]
    pub(crate) fn observer(&self) -> Option<&dyn Balancer> {
        self.balancing.observer()
    }

    fn publish(&self, live: Live, replaced: &mut Vec<Arc<Live>>) {
        self.suspects.store(live.snapshot.has_suspects(), Ordering::Relaxed);
        replaced.push(self.live.swap(Arc::new(live)));
        moved();
        replaced.retain(|live| Arc::strong_count(live) > 1);
    }

    /// Publishes who is ejected now.
    pub(crate) fn settle(&self) {
        let Some(outliers) = &self.outliers else { return };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if outliers.settle(&mut writer.store) {
            self.advance(&mut writer);
        }
        let news = outliers.tell();
        drop(writer);
        // Without a lock, as whoever takes the log may pick from this view.
        outlier::log(&news);
    }

    /// Publishes the next version and wakes who waits for it.
    fn advance(&self, writer: &mut Writer) {
        let Writer { store, version, revision, replaced } = writer;
        *version += 1;
        let snapshot = store.snapshot(*version, *revision);
        let rule = self.balancing.rule(&snapshot);
        self.publish(Live::new(snapshot, rule), replaced);
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

impl ViewSink for View {
    fn apply(&self, change: &ViewChange) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
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
        for instance in &change.upserts {
            changed |= if self.selector.matches(instance) {
                store.upsert(instance)
            } else {
                store.remove(&instance.key())
            };
        }
        if changed && let Some(outliers) = &self.outliers {
            outliers.settle(store);
        }
        let moved = change.revision.is_some() && change.revision != *revision;
        *revision = change.revision.or(*revision);
        if changed {
            self.advance(&mut writer);
        } else if moved {
            // The same instances at a later revision: nobody needs to wake up for that.
            let Writer { store, version, revision, replaced } = &mut *writer;
            let rule = self.live.load().rule.clone();
            let snapshot = store.snapshot(*version, *revision);
            self.publish(Live::new(snapshot, rule), replaced);
        }
        let news = self.outliers.as_ref().filter(|_| changed).map(|outliers| outliers.tell());
        drop(writer);
        outlier::log(&news.unwrap_or_default());
    }

    /// Ends all waiting; picks go on with the last snapshot.
    fn close(&self) {
        self.wake.send_replace(None);
        if let Some(outliers) = &self.outliers {
            outliers.close();
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("selector", &self.selector)
            .field("balancing", &self.balancing)
            .field("snapshot", &self.live().snapshot)
            .finish_non_exhaustive()
    }
}
