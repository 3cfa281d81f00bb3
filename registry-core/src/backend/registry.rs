//! Publishing: a registry grants leases, and instances are published under them.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    Error,
    model::{Incarnation, Instance, InstanceKey, RecordVersion},
};

/// A registry that instances can be published in.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Grants a lease.
    ///
    /// - Must make progress in bounded time; the core gives up on a call after its own deadline by dropping it.
    /// - An orphan (the answer was lost) may remain at the registry; it expires by itself.
    /// - A registry without leases grants a virtual one, without any traffic.
    ///
    /// # Errors
    /// Classified once, by the backend; [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a
    /// time to live the registry can't grant.
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error>;

    /// Whether the registry can hold this instance at all, as far as that can be told without asking it: asked before
    /// a registration or an update is accepted, so that its owner learns it at once. Takes no traffic.
    ///
    /// For limits that [`Capabilities::max_record`](super::Capabilities::max_record) can't express. What is accepted
    /// here must not be refused by [`Lease::publish`] for its content. By default everything is accepted.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) saying what to change.
    fn check(&self, instance: &Instance) -> Result<(), Error> {
        let _ = instance;
        Ok(())
    }
}

/// What a lease is asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The wanted time to live; the registry may grant another.
    pub ttl: Duration,
    /// The client life on whose behalf all records of the lease are written.
    pub incarnation: Incarnation,
}

impl Grant {
    /// A grant for one client life.
    #[must_use]
    pub fn new(ttl: Duration, incarnation: Incarnation) -> Self {
        Self { ttl, incarnation }
    }
}

/// One grant under which *many* instances are published: an etcd lease, a ZooKeeper session, a Nacos connection,
/// or a mere set of heartbeats.
///
/// All methods take `&self`: a publication runs while a renewal runs, and an old lease coexists with a new one.
/// A lease says how to renew, never when. Dropping a lease must not withdraw anything.
#[async_trait]
pub trait Lease: fmt::Debug + Send + Sync + 'static {
    /// How long records live without renewal, as *granted*.
    fn lifetime(&self) -> Lifetime;

    /// Creates or replaces records under this lease; one outcome per element, in order.
    ///
    /// - Uses one batch, or few, where the protocol can.
    /// - A record of the same key that our incarnation wrote is replaced, whichever lease it hangs on.
    /// - A record that another incarnation wrote is handled as [`Publish::on_duplicate`] says; refusal is an error
    ///   of kind [`Conflict`](crate::ErrorKind::Conflict).
    /// - A lease that the registry no longer knows gives [`LeaseLost`](crate::ErrorKind::LeaseLost).
    /// - One rejected record doesn't fail the others.
    async fn publish(&self, records: &[Publish]) -> Vec<Outcome>;

    /// Removes records that our incarnation wrote; one outcome per element, in order. Idempotent: a record that
    /// is gone, or that another incarnation owns by now, counts as removed and is left alone.
    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome>;

    /// Renews once. `deadline` is when the core stops waiting.
    ///
    /// - A late answer is never credited to a later renewal.
    /// - Backends that beat per instance return by the deadline and list whose answer did not come as `missed`.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::ErrorKind::LeaseLost) if the registry denies the whole lease; otherwise what kept the
    /// renewal from succeeding.
    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error>;

    /// Reads our records back; one answer per key, in order. The backend judges whose a record is.
    ///
    /// # Errors
    /// What kept the read from succeeding as a whole.
    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error>;

    /// Gives the lease back, which removes every record that still hangs on it. Idempotent: an unknown lease is
    /// success.
    ///
    /// # Errors
    /// What kept the registry from confirming.
    async fn revoke(&self) -> Result<(), Error>;
}

/// How records under a lease stay alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifetime {
    /// Until `ttl` after the last renewal; `ttl` is what the registry granted.
    Leased {
        /// The granted time to live.
        ttl: Duration,
    },
    /// As long as the registry's own checks say so (Consul's HTTP checks, persistent Nacos): the core looks, it
    /// doesn't beat.
    ///
    /// A look that gets no answer ([`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout)
    /// or [`Protocol`](crate::ErrorKind::Protocol)) makes the instances `Suspect`, and is repeated soon; once none was
    /// answered for twice `every` they are `Lost`, and published again as soon as that succeeds. A look that is refused as a
    /// whole is an answer: the registry is there, and may never let us read. A look that succeeds speaks for those alone
    /// that it finds: of one that is [`Unknown`](Presence::Unknown) the silence goes on, from its own last proof.
    Verified {
        /// How often to look; half a second at least.
        every: Duration,
    },
    /// Until removed (plain DNS).
    Permanent,
}

/// One record to publish.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publish {
    /// What to publish.
    pub instance: Arc<Instance>,
    /// Written beside it.
    pub version: RecordVersion,
    /// What to do about a record that another incarnation wrote under the same key.
    pub on_duplicate: OnDuplicate,
}

impl Publish {
    /// A record to publish.
    #[must_use]
    pub fn new(instance: Arc<Instance>, version: RecordVersion, on_duplicate: OnDuplicate) -> Self {
        Self { instance, version, on_duplicate }
    }
}

/// What becomes of a record under our key that another client life wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// Refuse with [`Conflict`](crate::ErrorKind::Conflict), and wait until the other record is gone. In Consul this sees
    /// only what is registered at the same agent: two clients at two agents both succeed.
    Reject,
    /// Replace it, by compare-and-set where the registry can. The default, as a restart inside the time to live
    /// meets its own predecessor.
    #[default]
    TakeOver,
}

/// What became of one element of a batch.
pub type Outcome = Result<(), Error>;

/// The answer to a successful renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewal {
    /// The time to live as granted now, if the answer says so.
    pub ttl: Option<Duration>,
    /// When the registry wants the next one, if it says so.
    pub renew_after: Option<Duration>,
    /// Instances the registry no longer knows although the lease lives; reported by each renewal until they are
    /// published again or withdrawn, as an answer may be lost. One whose publication was answered meanwhile may be among
    /// them, if the question has overtaken that: callers leave it out.
    pub lost: Vec<InstanceKey>,
    /// Instances whose renewal wasn't answered; all others were renewed.
    pub missed: Vec<InstanceKey>,
}

impl Renewal {
    /// A renewal of everything for `ttl`.
    #[must_use]
    pub fn granted(ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..Self::default() }
    }
}

/// Whose record stands under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Presence {
    /// Ours, under this lease, in this version.
    Ours {
        /// The version that was read.
        version: RecordVersion,
    },
    /// Another incarnation's, or one without any mark of ours.
    Foreign,
    /// None, or one of ours that hangs on another lease and will vanish with it.
    Missing,
    /// Ours, but the registry shows it to nobody, as its own check of the instance fails. Publishing it again tells
    /// whether it passes again; until then that fails.
    Failing,
    /// The registry couldn't tell, for whatever reason: this one's list didn't come, or may not be read. Where looks are all
    /// that tells ([`Lifetime::Verified`]) this is silence about the instance, which is `Lost` if it lasts. A backend whose
    /// registry refuses to tell of any says so by an error.
    Unknown,
}
