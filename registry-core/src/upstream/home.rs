//! Where picks report to.

use std::sync::{Arc, OnceLock, Weak};

use super::Shared;
use crate::{
    balance::{Balancing, Failure, Lanes, Outcome, Slot, Ticket},
    model::Instance,
    outlier::{Outliers, ProbeId},
    view::{ViewId, at_home},
};

/// Where picks from one view report to. Keeps neither the view alive nor what feeds it.
pub(crate) struct Home {
    balancing: Balancing,
    outliers: Option<Arc<Outliers>>,
    /// Of the upstream over the view.
    shared: OnceLock<Weak<Shared>>,
}

/// How the picks of one upstream find home.
#[derive(Clone)]
pub(super) enum Homes {
    /// By the name of their view.
    Named(ViewId),
    /// By holding it, with a reference count per thread, as every pick would otherwise write to one cache line.
    Held(Lanes<Arc<Post>>),
}

/// A reference count for one thread, which others rarely touch.
#[repr(align(128))]
pub(super) struct Post(Arc<Home>);

/// How one pick finds home.
pub(super) enum Way {
    /// Nobody wants to know how it went.
    Nowhere,
    /// Through what the thread that reports holds of the view. Saves two writes to a shared counter, a third of what a
    /// pick costs.
    Named(ViewId),
    /// For a balancer of others, which may rely on being told even after the view is gone, and may do anything then; and
    /// for views beyond those that threads have a place for.
    Held(Arc<Post>),
}

impl Homes {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let view = &shared.view;
        view.home().shared.get_or_init(|| Arc::downgrade(shared));
        let is_custom = view.balancing().is_custom();
        if let Some(view) = view.enlist().filter(|_| !is_custom) {
            return Self::Named(view);
        }
        Self::Held(Lanes::new(|| Arc::new(Post(Arc::clone(view.home())))))
    }

    #[inline]
    pub(super) fn way(&self) -> Way {
        match self {
            Self::Named(view) => Way::Named(*view),
            Self::Held(homes) => Way::Held(Arc::clone(homes.mine())),
        }
    }
}

impl Way {
    /// Passes whom to tell; `None` if nobody wants to know.
    #[inline]
    pub(super) fn home<R>(&self, f: impl FnOnce(&Arc<Home>) -> R) -> Option<R> {
        match self {
            Self::Nowhere => None,
            Self::Named(view) => at_home(*view, f),
            Self::Held(post) => Some(f(&post.0)),
        }
    }
}

impl Home {
    pub(crate) fn new(balancing: Balancing, outliers: Option<&Arc<Outliers>>) -> Self {
        Self { balancing, outliers: outliers.cloned(), shared: OnceLock::new() }
    }

    #[inline]
    pub(crate) fn balancing(&self) -> &Balancing {
        &self.balancing
    }

    /// A pick ended that the balancer was told of.
    #[inline]
    pub(super) fn end(&self, slot: Slot, ticket: Ticket, outcome: Option<&Outcome>) {
        self.balancing.end(slot, ticket, outcome);
    }

    /// A pick ended with an outcome; whether [`judge`](Self::judge) has to be told.
    #[inline]
    pub(super) fn is_judged(&self, slot: Slot, outcome: &Outcome, probe: Option<ProbeId>) -> bool {
        let counts = || self.outliers.as_ref().is_some_and(|outliers| outliers.count(slot));
        outcome.get_failure().is_some() || probe.is_some() || counts()
    }

    /// A pick ended with an outcome that may say something of its instance. May call what others wrote.
    #[cold]
    pub(super) fn judge(&self, instance: &Instance, slot: Slot, outcome: &Outcome, probe: Option<ProbeId>) {
        let Some(shared) = self.shared() else { return };
        let failure = outcome.get_failure();
        if let Some(outliers) = &self.outliers {
            outliers.report(&shared.view, instance, slot, failure, probe);
        }
        if failure == Some(Failure::Connect)
            && let Some(source) = shared.source.get()
        {
            let key = instance.key();
            // Only held instances are affected; the source needn't hear of every refused connection of a bad
            // day.
            if shared.view.live().snapshot.is_suspect(&key) {
                source.fail(&key);
            }
        }
    }

    /// The answer to a probe has begun, and looks well.
    #[cold]
    pub(super) fn answered(&self, slot: Slot, probe: ProbeId) {
        if let (Some(outliers), Some(shared)) = (&self.outliers, self.shared()) {
            outliers.answered(&shared.view, slot, probe);
        }
    }

    /// A probe ended without a verdict; whether its request was sent.
    #[cold]
    pub(super) fn give_back(&self, slot: Slot, probe: ProbeId, was_sent: bool) {
        if let (Some(outliers), Some(shared)) = (&self.outliers, self.shared()) {
            outliers.give_back(&shared.view, slot, probe, was_sent);
        }
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.get()?.upgrade()
    }
}
