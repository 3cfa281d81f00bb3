//! The guard of one pick.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Weak},
};

use super::Shared;
use crate::{
    balance::{Balancer, Balancing, Failure, Outcome, Slot, Ticket},
    model::Instance,
    outlier::{Outliers, ProbeId},
};

/// A picked instance, until the request to it has ended.
///
/// Derefs to the [`Instance`]. Hold it until the last byte of the answer, as policies count what is in
/// flight; then [`report`](Self::report) how it went. Dropping it ends the pick without a verdict.
#[must_use = "the pick ends when this is dropped"]
pub struct Picked {
    instance: Arc<Instance>,
    slot: Slot,
    /// Given by the balancer, if it observes and the pick hasn't ended.
    ticket: Option<Ticket>,
    /// Whether it is the one request that tries an ejected instance, and hasn't ended.
    probe: Option<ProbeId>,
    /// Whom to tell; nobody, if nobody wants to know. Saves two writes to a shared counter.
    home: Option<Arc<Home>>,
}

/// Where picks of one thread report to: a reference count that other threads rarely touch, as every pick
/// would otherwise write to one cache line. Keeps neither the view alive nor what feeds it.
#[repr(align(128))]
pub(super) struct Home {
    balancing: Arc<Balancing>,
    outliers: Option<Arc<Outliers>>,
    shared: Weak<Shared>,
}

impl Home {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            balancing: Arc::clone(shared.view.balancing()),
            outliers: shared.view.outliers().cloned(),
            shared: Arc::downgrade(shared),
        }
    }

    /// A pick ended with an outcome.
    #[inline]
    fn judge(&self, instance: &Instance, slot: Slot, outcome: &Outcome, probe: Option<ProbeId>) {
        let Some(outliers) = &self.outliers else { return };
        let failure = outcome.get_failure();
        if failure.is_none() && probe.is_none() && !outliers.count(slot) {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            outliers.report(&shared.view, instance, slot, failure, probe);
        }
    }

    #[cold]
    fn give_back(&self, slot: Slot, probe: ProbeId) {
        if let (Some(outliers), Some(shared)) = (&self.outliers, self.shared.upgrade()) {
            outliers.give_back(&shared.view, slot, probe);
        }
    }
}

impl Picked {
    #[inline]
    pub(super) fn new(instance: Arc<Instance>, slot: Slot, home: Option<Arc<Home>>) -> Self {
        let observer = home.as_ref().and_then(|home| home.balancing.observer());
        let ticket = observer.map(|balancer| balancer.begin(slot));
        Self { instance, slot, ticket, probe: None, home }
    }

    /// The one request that tries an ejected instance.
    pub(super) fn probe(mut self, probe: ProbeId) -> Self {
        self.probe = Some(probe);
        self
    }

    /// The instance, to keep it beyond the pick.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Ends the pick and says how the request went, for the policy to learn and for the instance to be ejected if it
    /// keeps failing (see [`Ejection`](crate::Ejection)). Report successes too, or an instance that was ejected isn't
    /// seen to be well again. A failure to connect also removes an instance that the registry's list no longer has and
    /// that is only held in doubt, if any was at the time of the pick.
    pub fn report(mut self, outcome: Outcome) {
        self.end(Some(&outcome));
        let probe = self.probe.take();
        let Some(home) = self.home.as_deref() else { return };
        home.judge(&self.instance, self.slot, &outcome, probe);
        if outcome.get_failure() == Some(Failure::Connect)
            && let Some(shared) = home.shared.upgrade()
            && let Some(source) = shared.source.get()
        {
            let key = self.instance.key();
            // Only held instances are affected; the source needn't hear of every refused connection of a bad
            // day.
            if shared.view.live().snapshot.is_suspect(&key) {
                source.fail(&key);
            }
        }
    }

    /// Says that the answer has begun and looks well, such as a response's head with a good status, while the pick goes
    /// on: for streams, which may take hours.
    ///
    /// It only matters if this pick is the one that tries an ejected instance. Then a verdict within 5 s decides as ever;
    /// after that the instance is restored, although the stream goes on. Without this call it stays out until the stream
    /// ends, or until five such picks took 30 s each.
    pub fn answered(&self) {
        if let Some(probe) = self.probe {
            self.begin_answer(probe);
        }
    }

    #[cold]
    fn begin_answer(&self, probe: ProbeId) {
        if let Some(home) = &self.home
            && let (Some(outliers), Some(shared)) = (&home.outliers, home.shared.upgrade())
        {
            outliers.answered(&shared.view, self.slot, probe);
        }
    }

    fn end(&mut self, outcome: Option<&Outcome>) {
        if let Some(ticket) = self.ticket.take()
            && let Some(balancer) = self.home.as_ref().and_then(|home| home.balancing.observer())
        {
            balancer.end(self.slot, ticket, outcome);
        }
    }
}

impl Deref for Picked {
    type Target = Instance;

    #[inline]
    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Drop for Picked {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.end(None);
        }
        if let Some(probe) = self.probe.take()
            && let Some(home) = &self.home
        {
            home.give_back(self.slot, probe);
        }
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picked").field(&self.instance).finish()
    }
}

/// The guard of a pick that stays on the stack.
pub(super) struct Noted<'a> {
    balancer: &'a dyn Balancer,
    slot: Slot,
    ticket: Ticket,
}

impl<'a> Noted<'a> {
    pub(super) fn new(balancer: &'a dyn Balancer, slot: Slot) -> Self {
        Self { balancer, slot, ticket: balancer.begin(slot) }
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.balancer.end(self.slot, self.ticket, None);
    }
}
