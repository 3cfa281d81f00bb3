//! The guard of one pick.

use std::{fmt, ops::Deref, sync::Arc};

use super::home::Way;
use crate::{
    balance::{Balancing, Outcome, Slot, Ticket},
    model::Instance,
    outlier::ProbeId,
};

/// A picked instance, until the request to it has ended.
///
/// Derefs to the [`Instance`]. Hold it until the last byte of the answer, as policies count what is in
/// flight; then [`report`](Self::report) how it went. Dropping it ends the pick without a verdict.
#[must_use = "the pick ends when this is dropped"]
pub struct Picked {
    instance: Arc<Instance>,
    /// The bits of its slot. Two halves that have just been written one by one can't be read as one word, which is how a
    /// guard is moved, before both have reached the cache.
    slot: u64,
    /// Given by the balancer, if it observes and the pick hasn't ended.
    ticket: Option<Ticket>,
    /// Whether it is the one request that tries an ejected instance, and hasn't ended.
    probe: Option<ProbeId>,
    /// Whom to tell.
    way: Way,
}

impl Picked {
    #[inline]
    pub(super) fn new(instance: Arc<Instance>, slot: u64, ticket: Option<Ticket>, way: Way) -> Self {
        Self { instance, slot, ticket, probe: None, way }
    }

    #[inline]
    fn slot(&self) -> Slot {
        Slot::from_bits(self.slot)
    }

    /// The one request that tries an ejected instance.
    pub(super) fn probe(mut self, probe: ProbeId) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Whether it is the one request that tries an ejected instance.
    pub(super) fn is_probe(&self) -> bool {
        self.probe.is_some()
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
    // Compiled into its caller, as is making a guard: see `Upstream::pick_with`.
    #[inline(always)]
    pub fn report(mut self, outcome: Outcome) {
        self.end(&outcome);
    }

    /// Ends the pick without a verdict, as no request was sent. Dropping it does too, except for the one pick that tries
    /// an [ejected](crate::Ejection) instance: after a few of those that were dropped the instance is restored, as nobody
    /// seems to report; this one counts as if it had never been, and a pick a second later tries.
    pub fn unused(mut self) {
        self.give_back(false);
    }

    #[inline(never)]
    fn end(&mut self, outcome: &Outcome) {
        let is_judged = self.way.home(|home| {
            if let Some(ticket) = self.ticket {
                home.end(self.slot(), ticket, Some(outcome));
            }
            home.is_judged(self.slot(), outcome, self.probe)
        });
        self.ticket = None;
        let probe = self.probe.take();
        if is_judged == Some(true)
            && let Some(home) = self.way.home(Arc::clone)
        {
            home.judge(&self.instance, self.slot(), outcome, probe);
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
        if let Some(home) = self.way.home(Arc::clone) {
            home.answered(self.slot(), probe);
        }
    }

    /// Ends a probe, if it is one, without a verdict; whether its request was sent.
    #[inline]
    fn give_back(&mut self, was_sent: bool) {
        if let Some(probe) = self.probe.take()
            && let Some(home) = self.way.home(Arc::clone)
        {
            home.give_back(self.slot(), probe, was_sent);
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
        if let Some(ticket) = self.ticket.take() {
            self.way.home(|home| home.end(self.slot(), ticket, None));
        }
        self.give_back(true);
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picked").field(&self.instance).finish()
    }
}

/// The guard of a pick that stays on the stack.
pub(super) struct Noted<'a> {
    balancer: &'a Balancing,
    slot: Slot,
    ticket: Ticket,
}

impl<'a> Noted<'a> {
    pub(super) fn new(balancer: &'a Balancing, slot: Slot) -> Self {
        Self { balancer, slot, ticket: balancer.begin(slot) }
    }
}

impl Drop for Noted<'_> {
    // Not compiled into the caller of `with_pick`: most policies don't observe.
    #[inline(never)]
    fn drop(&mut self) {
        self.balancer.end(self.slot, self.ticket, None);
    }
}
