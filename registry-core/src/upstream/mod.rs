//! What users hold of a discovered service: pick, call, watch.

mod budget;
mod call;
mod call_error;
mod changes;
mod fixed;
mod held;
mod home;
mod picked;
mod source;
#[cfg(test)]
mod tests;
mod unusable;

use std::{
    fmt,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

pub(crate) use self::home::Home;
use self::{
    budget::Budget,
    home::{Homes, Way},
    picked::Noted,
};
pub use self::{
    call::{Attempt, CallOptions},
    call_error::{AttemptCause, CallError, Exhaustion, FailedAttempt, TimeLimit},
    changes::{Changes, Update},
    held::{Held, OpenPick},
    picked::Picked,
    unusable::{NoneUsable, Unusable},
};
pub(crate) use self::{fixed::Nothing, source::Source};
use crate::{
    Error, ErrorKind, Freshness, ViewEvents,
    balance::{Meter, PickContext, Slot, Ticket},
    metrics,
    model::{Instance, ServiceName, Status, Target},
    outlier::Outliers,
    snapshot::{Member, Snapshot},
    view::{View, ViewSink},
};

/// How long [`Upstream::ready`] waits in silence.
const PATIENCE: Duration = Duration::from_secs(10);

/// The live view of one discovered service: its instances, and one to send the next request to.
///
/// Cheap to clone; all clones share one view, which is kept up to date in the background for as long as one
/// of them (or of their changes) lives. Picking is synchronous and reads memory only: it goes on,
/// with the last good view, while the registry can't be reached; [`freshness`](Self::freshness) tells.
#[derive(Clone)]
pub struct Upstream {
    /// The one of `shared`, a hop nearer.
    view: Arc<View>,
    shared: Arc<Shared>,
    /// What picks keep instead of `shared`.
    homes: Homes,
    /// The one of `view`, nearer still.
    seat: usize,
    /// Whether picks ask the source if the view is too old. Most upstreams serve for ever and save the look
    /// at the clock.
    refuses_expired: bool,
    /// Whether the balancer wants to hear of picks.
    observed: bool,
    /// Whether it does no more than to count them, and where is known from choosing.
    metered: bool,
    /// Whether failures count, so that every pick needs to know whom to tell.
    ejects: bool,
}

/// What all clones share.
pub(crate) struct Shared {
    target: Target,
    view: Arc<View>,
    source: OnceLock<Arc<dyn Source>>,
    start: Box<dyn Fn() -> Arc<dyn Source> + Send + Sync>,
    budget: Budget,
}

impl Upstream {
    /// An upstream over a view that nothing feeds yet; `start` makes what does, at the first use.
    pub(crate) fn new(
        target: Target,
        view: Arc<View>,
        refuses_expired: bool,
        start: impl Fn() -> Arc<dyn Source> + Send + Sync + 'static,
    ) -> Self {
        if let Some(outliers) = view.outliers() {
            outliers.name(target.service());
        }
        let shared = Arc::new(Shared {
            target,
            view: Arc::clone(&view),
            source: OnceLock::new(),
            start: Box::new(start),
            budget: Budget::new(),
        });
        let homes = Homes::new(&shared);
        let (seat, balancing) = (view.seat(), view.balancing());
        let (observed, metered) = (balancing.observes(), balancing.is_metered());
        let ejects = view.outliers().is_some();
        Self { view, shared, homes, seat, refuses_expired, observed, metered, ejects }
    }

    /// Starts what feeds the view, unless it was started. Needs a tokio runtime.
    pub(crate) fn start(&self) -> &Arc<dyn Source> {
        self.shared.start()
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        self.shared.target.service()
    }

    /// What was asked for.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// Picks an instance for one request, without blocking or allocating. Hold the result until the request's
    /// last byte, then [`report`](Picked::report) how it went, or just drop it.
    ///
    /// While an instance is [ejected](crate::Ejection), the first pick after its time gets it, to try whether it is well
    /// again, whatever the policy would choose, unless its request has [been tried](PickContext::tried) elsewhere; until then,
    /// each pick reads the clock.
    ///
    /// Costs a reference count more than [`with_pick`](Self::with_pick), of the instance: two threads that pick the
    /// same few instances contend for it, and don't with `with_pick`.
    ///
    /// # Errors
    /// [`NoInstance`](ErrorKind::NoInstance) if none is known, [`NotReady`](ErrorKind::NotReady) if nothing was
    /// ever heard of the service (wait with [`ready`](Self::ready)), or if the view has expired and is configured not to
    /// serve then.
    ///
    /// # Panics
    /// On a lazily started upstream's first use, outside a tokio runtime.
    #[inline(always)]
    pub fn pick(&self) -> Result<Picked, Error> {
        self.pick_with(const { &PickContext::new() })
    }

    /// Picks with what is known about the request: a hash key, instances already tried, a zone.
    ///
    /// # Errors
    /// As [`pick`](Self::pick).
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    #[inline(always)]
    pub fn pick_with(&self, context: &PickContext<'_>) -> Result<Picked, Error> {
        // Compiled into its caller with everything that is rare out of the way: each move of a guard that was just written
        // costs as much as three reads from memory, as processors can't hand over half-written words.
        self.check_usable()?;
        if self.ejects
            && let Some(outliers) = self.view.outliers()
            && outliers.is_anything_out()
            && let Some(picked) = self.probe(outliers, context)
        {
            return Ok(picked);
        }
        let chosen = if self.metered { self.own_metered(context) } else { self.own(context) };
        let Some((instance, slot)) = chosen else { return Err(self.nothing()) };
        let ticket = if self.metered { Some(Meter::ticket()) } else { self.begin(Slot::from_bits(slot)) };
        let is_followed = self.ejects || self.observed || self.view.has_suspects();
        let way = if is_followed { self.homes.way() } else { Way::Nowhere };
        Ok(Picked::new(instance, slot, ticket, way))
    }

    /// The instance that is due to be tried again, for this one pick.
    #[cold]
    #[inline(never)]
    fn probe(&self, outliers: &Outliers, context: &PickContext<'_>) -> Option<Picked> {
        if !context.get_tried().is_empty() {
            return None;
        }
        let (instance, slot, probe) = outliers.claim(&self.view)?;
        Some(Picked::new(instance, slot.to_bits(), self.begin(slot), self.homes.way()).probe(probe))
    }

    /// Tells the balancer of a pick, if it wants to know.
    #[inline]
    fn begin(&self, slot: Slot) -> Option<Ticket> {
        if self.observed { Some(self.view.balancing().begin(slot)) } else { None }
    }

    /// An instance and the bits of its slot: two words, as they fit into registers. A guard built in here would be
    /// copied three times on its way out, each time waiting for the writes before.
    fn own(&self, context: &PickContext<'_>) -> Option<(Arc<Instance>, u64)> {
        self.view.pick(self.seat, context, |member| {
            member.map(|member| (Arc::clone(&member.instance), member.slot.to_bits()))
        })
    }

    /// [`own`](Self::own) of a policy that counts: counted, which is what [`Meter::ticket`] says.
    fn own_metered(&self, context: &PickContext<'_>) -> Option<(Arc<Instance>, u64)> {
        self.view.pick_metered::<true, _, _>(
            self.seat,
            context,
            self,
            |_, member, meter| {
                meter.begin();
                Some((Arc::clone(&member.instance), member.slot.to_bits()))
            },
            Self::own_unusual,
        )
    }

    #[cold]
    #[inline(never)]
    fn own_unusual(&self, member: Option<&Member>) -> Option<(Arc<Instance>, u64)> {
        let member = member?;
        let _: Ticket = self.view.balancing().begin(member.slot);
        Some((Arc::clone(&member.instance), member.slot.to_bits()))
    }

    /// Picks an instance and passes it to `f`: the cheapest form. The pick ends, without a verdict, when `f`
    /// returns.
    ///
    /// # Errors
    /// As [`pick`](Self::pick).
    ///
    /// # Panics
    /// As [`pick`](Self::pick), and if `f` does.
    #[inline]
    pub fn with_pick<R>(&self, f: impl FnOnce(&Instance) -> R) -> Result<R, Error> {
        self.check_usable()?;
        if self.metered {
            return self.with_metered_pick(f);
        }
        self.view.pick(self.seat, const { &PickContext::new() }, |member| {
            let Some(member) = member else { return Err(self.nothing()) };
            let _noted = self.observed.then(|| Noted::new(self.view.balancing(), member.slot));
            Ok(f(&member.instance))
        })
    }

    /// Not compiled into the caller of [`with_pick`](Self::with_pick), where it would be in the way of the default policy.
    #[inline(never)]
    fn with_metered_pick<R>(&self, f: impl FnOnce(&Instance) -> R) -> Result<R, Error> {
        self.view.pick_metered::<false, _, _>(
            self.seat,
            const { &PickContext::new() },
            (self, f),
            |(_, f), member, meter| {
                let _counted = meter.begun();
                Ok(f(&member.instance))
            },
            |(upstream, f), member| upstream.with_unusual_pick(f, member),
        )
    }

    #[cold]
    #[inline(never)]
    fn with_unusual_pick<R>(
        &self,
        f: impl FnOnce(&Instance) -> R,
        member: Option<&Member>,
    ) -> Result<R, Error> {
        let Some(member) = member else { return Err(self.nothing()) };
        let _noted = Noted::new(self.view.balancing(), member.slot);
        Ok(f(&member.instance))
    }

    /// The present view; it doesn't change any more.
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.shared.snapshot();
        if snapshot.version() == 0 {
            self.start();
            return self.shared.snapshot();
        }
        snapshot
    }

    /// The view and each of its changes, from now on: the first item has everything as added.
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub fn changes(&self) -> Changes {
        self.start();
        Changes::new(Arc::clone(&self.shared))
    }

    /// Waits until at least `n` instances are [`Serving`](Status::Serving); `ready(0)` waits for the first
    /// view, which may be empty. For ever if need be, such as where the name is misspelt: after 10 s it warns once in the
    /// log. [`ready_within`](Self::ready_within) gives up.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the client was closed before.
    ///
    /// # Cancel safety
    /// Only waits; can be dropped at any time.
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub async fn ready(&self, n: usize) -> Result<(), Error> {
        self.start();
        let mut wake = self.shared.view.subscribe();
        let closed = || {
            let message = format!("{} can't become ready: the client is closed", self.service());
            Error::new(ErrorKind::Closed, message)
        };
        let is_ready = |snapshot: &Snapshot| snapshot.version() > 0 && snapshot.usable_len() >= n;
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        let mut is_told = false;
        loop {
            let open = wake.borrow_and_update().is_some();
            if is_ready(&self.shared.snapshot()) {
                return Ok(());
            }
            if !open {
                return Err(closed());
            }
            tokio::select! {
                changed = wake.changed() => changed.map_err(|_| closed())?,
                () = &mut patience, if !is_told => {
                    is_told = true;
                    let snapshot = self.shared.snapshot();
                    let hint = match snapshot.len() {
                        0 => "is anybody registered under this name, in this namespace?",
                        _ => "fewer are usable than wanted",
                    };
                    tracing::warn!(
                        service = %self.service(),
                        wanted = n,
                        usable = snapshot.usable_len(),
                        known = snapshot.len(),
                        view = self.shared.standing(),
                        "still waiting for instances; {hint}"
                    );
                }
            }
        }
    }

    /// [`ready`](Self::ready), but gives up after `within`.
    ///
    /// # Errors
    /// As [`ready`](Self::ready); [`NotReady`](ErrorKind::NotReady) when the time is over.
    ///
    /// # Cancel safety
    /// Only waits; can be dropped at any time.
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub async fn ready_within(&self, n: usize, within: Duration) -> Result<(), Error> {
        match tokio::time::timeout(within, self.ready(n)).await {
            Ok(ready) => ready,
            Err(_) => {
                let (service, standing) = (self.service(), self.shared.standing());
                let message = match n {
                    0 => format!("there is no view of {service} after {within:?}; {standing}"),
                    _ => {
                        let usable = self.shared.snapshot().usable_len();
                        format!("{service} has {usable} of {n} usable instances after {within:?}; {standing}")
                    }
                };
                Err(Error::new(ErrorKind::NotReady, message))
            }
        }
    }

    /// How old the view is and where it comes from, checked against the clock now.
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.start().freshness()
    }

    /// What happens to the view beyond plain changes: stale, fresh again, a suspicious shrink, an ejection, …
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub fn events(&self) -> ViewEvents {
        let events = self.start().events();
        match self.view.outliers() {
            Some(outliers) => events.and(outliers.events()),
            None => events,
        }
    }

    /// Whether picks may use the view.
    #[inline]
    fn check_usable(&self) -> Result<(), Error> {
        if self.refuses_expired { self.check_expired() } else { Ok(()) }
    }

    #[cold]
    fn check_expired(&self) -> Result<(), Error> {
        if self.start().may_serve() {
            return Ok(());
        }
        metrics::pick_failed(self.service(), ErrorKind::NotReady);
        Err(Error::new(
            ErrorKind::NotReady,
            format!("the view of {} is too old to pick from; {}", self.service(), self.shared.standing()),
        ))
    }

    /// Why there was nothing to pick. Starts the source if that is the reason.
    #[cold]
    fn nothing(&self) -> Error {
        let (service, snapshot) = (self.service(), self.shared.snapshot());
        if snapshot.version() == 0 {
            self.start();
            metrics::pick_failed(service, ErrorKind::NotReady);
            return Error::new(
                ErrorKind::NotReady,
                format!("nothing is known about {service} yet; {}", self.shared.standing()),
            );
        }
        metrics::pick_failed(service, ErrorKind::NoInstance);
        let count = |status| snapshot.iter().filter(|instance| instance.status() == status).count();
        Error::new(
            ErrorKind::NoInstance,
            format!(
                "no instance of {service} can be picked: {} known, {} ejected, {} draining, {} down; {}",
                snapshot.len(),
                snapshot.ejected().count(),
                count(Status::Draining),
                count(Status::Down),
                self.shared.standing()
            ),
        )
    }
}

impl Shared {
    fn start(&self) -> &Arc<dyn Source> {
        self.source.get_or_init(|| {
            let source = (self.start)();
            let view: Arc<dyn ViewSink> = Arc::<View>::clone(&self.view);
            source.attach(Arc::downgrade(&view));
            source
        })
    }

    fn snapshot(&self) -> Snapshot {
        self.view.live().snapshot.clone()
    }

    /// How far the view can be trusted, for messages.
    fn standing(&self) -> String {
        let Some(source) = self.source.get() else { return "discovery has not started".to_owned() };
        let freshness = source.freshness();
        match (freshness.age, freshness.last_error) {
            (Some(age), None) => format!("the view is {}, {age:?} old", freshness.state),
            (Some(age), Some(error)) => {
                format!("the view is {}, {age:?} old, last error: {error:#}", freshness.state)
            }
            (None, None) => format!("the view is {}", freshness.state),
            (None, Some(error)) => format!("the view is {}, last error: {error:#}", freshness.state),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("target", &self.shared.target)
            .field("snapshot", &self.shared.snapshot())
            .finish_non_exhaustive()
    }
}
