//! Choosing one instance of many.
//!
//! A [`Balancer`] lives as long as the view it balances and holds what is learnt about instances. At each
//! change of the view, off the pick path, it makes a [`Picker`]: the rule for that one version. Picks then
//! only read. The pipeline around a policy is the same for all:
//!
//! 1. the members: instances that serve, else the best of the rest, so that something is always tried;
//! 2. if the client's zone is known and six or more serve, those of its zone; if too few of them are well, a part of the
//!    requests goes to the others, and if there are none, all do;
//! 3. the policy draws one;
//! 4. a suspect is drawn once more, so that held instances get less traffic (a lone one under round robin: none); one
//!    that warms up is drawn again, at most 4 times, unless its share is reached;
//! 5. an instance the caller has tried is drawn again at most 4 times, then the next untried one is taken; if
//!    those have all been tried, one of another zone or a draining one is; if all have, one is repeated.
//!
//! An instance of weight 0 gets no traffic under any policy, as long as another one serves.

mod candidates;
mod choose;
mod context;
mod cost;
mod hashing;
mod in_flight;
mod lane;
mod least_request;
mod maglev;
mod outcome;
mod peak_ewma;
mod random;
mod ring;
mod roster;
mod round_robin;
mod rule;
mod slot_table;
#[cfg(test)]
mod tests;
mod weighted;

use std::{fmt, str::FromStr, sync::Arc};

pub(crate) use choose::{Spill, choose, reconsider};
pub use context::{Draw, PickContext};
pub(crate) use hashing::{hash_of_instance, rehash};
pub(crate) use in_flight::Meter;
pub(crate) use lane::Lanes;
use least_request::LeastRequest;
use maglev::Maglev;
pub use outcome::{Failure, Outcome};
pub use peak_ewma::PeakEwma;
pub(crate) use random::Dice;
pub use ring::RingHash;
use round_robin::RoundRobin;
use rule::StandIn;
pub(crate) use rule::{Balancing, Rule};
use weighted::WeightedRandom;

use crate::Error;
pub use crate::snapshot::{Members, Slot};

/// Balances one view; holds what it learns of instances, by [`Slot`], across versions.
pub trait Balancer: fmt::Debug + Send + Sync + 'static {
    /// Makes the rule for one version of the view. Called at each change, by one caller at a time, in order,
    /// and not while picking: but a version isn't visible before this returns, so the work must not grow with
    /// the number of members by much. Where requests are shared between two zones, it is called for each of the two
    /// lists.
    ///
    /// Whoever changes the view holds its lock for writers meanwhile, and that may be a pick, or the report of an
    /// outcome, that ejects an instance. So this must neither pick from the same client nor report to it: it might wait
    /// for that lock forever.
    ///
    /// # Panics
    /// One that panics is logged once, and instances take turns, as under [`Balance::round_robin`], until it has made a
    /// rule for a later version.
    fn picker(&self, members: &Members) -> Arc<dyn Picker>;

    /// Whether [`begin`](Self::begin) and [`end`](Self::end) have any effect; fixed for the balancer's life.
    /// If not, they aren't called.
    fn observes(&self) -> bool {
        false
    }

    /// A pick was handed out. Must neither block nor allocate.
    fn begin(&self, slot: Slot) -> Ticket {
        let _ = slot;
        Ticket::default()
    }

    /// That pick was given back, by any thread, with its outcome if the caller told. Called once per
    /// [`begin`](Self::begin), with its ticket. The slot may belong to another instance by now: then the
    /// generation differs and the outcome doesn't count.
    fn end(&self, slot: Slot, ticket: Ticket, outcome: Option<&Outcome>) {
        let _ = (slot, ticket, outcome);
    }
}

/// Picks from one version of a view.
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// The position of the chosen member; there is at least one. Must neither block nor allocate, nor take
    /// time in proportion to the number of members. A position past the end counts as the last one.
    ///
    /// Called again with a higher [`attempt`](Draw::attempt) if the choice can't be used: a policy that would
    /// choose the same again must then choose the next best.
    ///
    /// # Panics
    /// A panic is the caller's of that pick, and of no other: the view goes on.
    fn pick(&self, draw: &Draw<'_>) -> usize;
}

/// What a [`Balancer`] notes at the beginning of a pick, to have it back at its end: for example the clock,
/// or the shard that was counted up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// Which policy an upstream uses; the default is [`round_robin`](Self::round_robin).
///
/// ```
/// use registry_core::balance::Balance;
///
/// let balance: Balance = "weighted_random".parse()?;
/// assert_eq!(balance, Balance::weighted_random());
/// assert!("roundrobin".parse::<Balance>().is_err());
/// # Ok::<(), registry_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Balance(Policy);

#[derive(Clone, Default)]
enum Policy {
    #[default]
    RoundRobin,
    Random,
    WeightedRandom,
    LeastRequest,
    PeakEwma(PeakEwma),
    Maglev,
    RingHash(RingHash),
    Custom(&'static str, Arc<dyn Fn() -> Arc<dyn Balancer> + Send + Sync>),
}

const POLICIES: [Balance; 7] = [
    Balance::round_robin(),
    Balance::random(),
    Balance::weighted_random(),
    Balance::least_request(),
    Balance::peak_ewma(),
    Balance::maglev(),
    Balance::ring_hash(),
];

impl Balance {
    /// Each thread takes one instance after the other, beginning at a random one. Ignores weights above 0.
    ///
    /// Per thread, because a counter that two threads share costs more than all the rest of the pick.
    #[must_use]
    pub const fn round_robin() -> Self {
        Self(Policy::RoundRobin)
    }

    /// Each instance with the same probability. Ignores weights above 0.
    #[must_use]
    pub const fn random() -> Self {
        Self(Policy::Random)
    }

    /// Each instance with a probability in proportion to its weight.
    #[must_use]
    pub const fn weighted_random() -> Self {
        Self(Policy::WeightedRandom)
    }

    /// The one with fewer requests in flight, relative to its weight, of two random ones; for requests that take
    /// unequally long. A pick is in flight until [`Picked`](crate::Picked) is dropped or reported.
    ///
    /// Each thread compares what it has begun itself, as a counter that all threads share would cost more than the
    /// rest of the pick: with many threads and few requests per instance the choice is nearly random. An instance that
    /// fails fast looks idle: use it with the ejection of outliers, or use [`peak_ewma`](Self::peak_ewma).
    ///
    /// While an instance is idle, it isn't compared with a heavier one, so that weights hold at low load too.
    #[must_use]
    pub const fn least_request() -> Self {
        Self(Policy::LeastRequest)
    }

    /// The one that is expected to answer faster of two random ones: what its latency has been lately, with peaks
    /// counting at once and fading over 10 s, times the requests it has in flight and one. Recommended for requests
    /// and answers; not for streams or long polls, whose length says nothing about the instance.
    ///
    /// Learns only from picks that are [reported](crate::Picked::report): by [`Outcome::took`], or else by the time
    /// since the pick. A failure costs at least 5 s. Weights say how often an instance is one of the two. What is
    /// learnt of an instance lasts until its endpoints or its publication change. [`PeakEwma`] has the knobs.
    #[must_use]
    pub const fn peak_ewma() -> Self {
        Self(Policy::PeakEwma(PeakEwma::new()))
    }

    /// Requests of one [key](PickContext::hash_key) go to one instance, by a look-up table (Maglev). Every instance
    /// has its share of keys, by weight, to within 1 %. All clients that know the same instances agree. Without a
    /// key, a random one in proportion to weight.
    ///
    /// When one of `n` comes or goes, `1/n` of the keys have to move; with 100 instances 1.5 times as many do, with
    /// 1,000 seven times as many.
    ///
    /// The table depends on ids and weights only. It is built anew when these change, by the task that follows the
    /// registry, before the change is visible to picks: 1 ms for 10 instances, 3 ms for 1,000, 70 ms and 4 MB for
    /// 10,000. An ejected instance stays in it and is passed over; but if the client's
    /// [zone](crate::ClientConfig::zone) is known, the table is built anew at each ejection and return too, and that
    /// possibly by the thread whose pick or outcome leads to it. If thousands of instances come and go all the time,
    /// [`ring_hash`](Self::ring_hash) costs less.
    #[must_use]
    pub const fn maglev() -> Self {
        Self(Policy::Maglev)
    }

    /// Requests of one [key](PickContext::hash_key) go to one instance, by points on a ring (ketama). When one
    /// instance comes or goes, only its own keys move; but shares are uneven, by 8 % (one standard deviation) for
    /// up to 3,125 instances. All clients that know the same instances agree. Without a key, a random one in about
    /// proportion to weight.
    ///
    /// An instance of the median weight has 160 points, others in proportion to theirs, at least 1 and at most 4,096.
    /// With more than 3,125 instances it is half of that, with more than 6,250 a quarter, and so on. So one more or less
    /// at these numbers moves other keys too, and so does a change of one's weight, or of who is there, that makes
    /// another weight the median: with equal weights it never does. [`RingHash`] can bound the load of an instance.
    #[must_use]
    pub const fn ring_hash() -> Self {
        Self(Policy::RingHash(RingHash::new()))
    }

    /// A policy of your own; `make` is called once per view.
    pub fn custom(name: &'static str, make: impl Fn() -> Arc<dyn Balancer> + Send + Sync + 'static) -> Self {
        Self(Policy::Custom(name, Arc::new(make)))
    }

    /// The name that [`FromStr`] takes, or the one given to [`custom`](Self::custom).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Policy::RoundRobin => "round_robin",
            Policy::Random => "random",
            Policy::WeightedRandom => "weighted_random",
            Policy::LeastRequest => "least_request",
            Policy::PeakEwma(_) => "peak_ewma",
            Policy::Maglev => "maglev",
            Policy::RingHash(_) => "ring_hash",
            Policy::Custom(name, _) => name,
        }
    }

    /// What one view balances by.
    pub(crate) fn balancing(&self) -> Balancing {
        match &self.0 {
            Policy::RoundRobin => Balancing::RoundRobin(RoundRobin::default()),
            Policy::Random => Balancing::Random,
            Policy::WeightedRandom => Balancing::WeightedRandom(WeightedRandom::default()),
            Policy::LeastRequest => Balancing::LeastRequest(LeastRequest::default()),
            Policy::PeakEwma(peak) => Balancing::PeakEwma(peak.balancer()),
            Policy::Maglev => Balancing::Maglev(Maglev::default()),
            Policy::RingHash(ring) => Balancing::RingHash(ring.balancer()),
            Policy::Custom(_, make) => {
                let balancer = make();
                Balancing::Custom { observes: balancer.observes(), balancer, stand_in: StandIn::default() }
            }
        }
    }
}

impl From<PeakEwma> for Balance {
    fn from(peak: PeakEwma) -> Self {
        Self(Policy::PeakEwma(peak))
    }
}

impl From<RingHash> for Balance {
    fn from(ring: RingHash) -> Self {
        Self(Policy::RingHash(ring))
    }
}

/// The same policy with the same settings; a custom one equals only its clones.
impl PartialEq for Balance {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Policy::Custom(_, a), Policy::Custom(_, b)) => Arc::ptr_eq(a, b),
            (Policy::Custom(..), _) | (_, Policy::Custom(..)) => false,
            (Policy::PeakEwma(a), Policy::PeakEwma(b)) => a == b,
            (Policy::RingHash(a), Policy::RingHash(b)) => a == b,
            _ => self.name() == other.name(),
        }
    }
}

impl Eq for Balance {}

impl std::hash::Hash for Balance {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Balance({})", self.name())
    }
}

impl FromStr for Balance {
    type Err = Error;

    /// Takes the name of a policy of this crate.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) that lists the names.
    fn from_str(name: &str) -> Result<Self, Error> {
        POLICIES.into_iter().find(|policy| policy.name() == name).ok_or_else(|| {
            let valid: Vec<_> = POLICIES.iter().map(Self::name).collect();
            Error::invalid(format!("no balancing policy is called {name:?}; one of {}", valid.join(", ")))
        })
    }
}
