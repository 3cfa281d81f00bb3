//! When instances are ejected.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{
    machine::PROBE_LIMIT,
    probe::{AnyProbe, Probe},
};
use crate::{Error, client::FAR};

/// The shortest of all times.
const INSTANT: Duration = Duration::from_millis(1);

/// When an instance that keeps failing is left out for a while, and how it comes back; on by default.
///
/// Judged is what [`Picked::report`](crate::Picked::report) and [`Upstream::call`](crate::Upstream::call) tell, per
/// upstream of this process; nothing is shared with others. An ejected instance gets no pick for
/// [`base`](Self::base) × the times it was ejected in a row; then exactly one pick is sent there as a probe: success
/// restores the instance, failure ejects it for longer; of a stream that goes on, its
/// [beginning](crate::Picked::answered) is a success. If less than [`panic`](Self::panic) of the instances are usable,
/// ejection is ignored until more are: then the fault is probably not theirs.
///
/// The criteria and their numbers are those of Envoy's outlier detection and of gRPC's (proposal A50).
///
/// ```
/// use std::time::Duration;
/// use registry_core::Ejection;
///
/// let patient = Ejection::new().consecutive(10).base(Duration::from_secs(5));
/// assert!(patient.is_on());
/// assert!(!"off".parse::<Ejection>()?.is_on());
/// # Ok::<(), registry_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Ejection {
    pub(super) on: bool,
    pub(super) consecutive: u32,
    pub(super) share: f64,
    pub(super) share_volume: u32,
    pub(super) share_hosts: usize,
    pub(super) deviations: f64,
    pub(super) rate_volume: u32,
    pub(super) rate_hosts: usize,
    pub(super) interval: Duration,
    pub(super) base: Duration,
    pub(super) longest: Duration,
    pub(super) most: f64,
    pub(super) panic: f64,
    pub(super) probe: Option<AnyProbe>,
    pub(super) probe_timeout: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            on: true,
            consecutive: 5,
            share: 0.85,
            share_volume: 50,
            share_hosts: 5,
            deviations: 1.9,
            rate_volume: 100,
            rate_hosts: 5,
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            most: 0.1,
            panic: 0.5,
            probe: None,
            probe_timeout: Duration::from_secs(1),
        }
    }
}

impl Ejection {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is ever ejected.
    pub fn off() -> Self {
        Self { on: false, ..Self::default() }
    }

    /// Whether anything is ejected at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Failures in a row that eject; 5, at least 1. A refused connection counts as half of them, so that two in a row
    /// are enough: it can't be the request's fault, and one alone may be a full backlog.
    pub fn consecutive(mut self, failures: u32) -> Self {
        self.consecutive = failures.max(1);
        self
    }

    /// The share of failures within an [`interval`](Self::interval) that ejects: 0.85, between 0 and 1. Needs `volume`
    /// requests to the instance (50), and `hosts` instances that had as many (5): with fewer, chance decides.
    pub fn share(mut self, share: f64, volume: u32, hosts: usize) -> Self {
        (self.share, self.share_volume, self.share_hosts) =
            (fraction(share, 0.85), volume.max(1), hosts.max(1));
        self
    }

    /// How many standard deviations (1.9) below the mean of all an instance's share of successes within an
    /// [`interval`](Self::interval) must be to eject it. Needs `volume` requests to the instance (100), and `hosts`
    /// instances that had as many (5). And needs, whatever the deviations, five failures and a share that is 0.1 and
    /// five standard errors below the mean: among instances that are alike one is always the worst.
    pub fn success_rate(mut self, deviations: f64, volume: u32, hosts: usize) -> Self {
        self.deviations = if deviations.is_finite() { deviations.max(0.0) } else { 1.9 };
        (self.rate_volume, self.rate_hosts) = (volume.max(1), hosts.max(1));
        self
    }

    /// Over which time failures are counted, and how long an instance must do well to be ejected for less long the
    /// next time; 10 s, from 1 ms to a year. A panic lasts that long too, at least.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(INSTANT, FAR);
        self
    }

    /// How long the first ejection lasts; 30 s, from 1 ms to a year. The second in a row lasts twice as long, and so on, each
    /// up to a tenth longer by chance, so that clients don't come back all at once.
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base.clamp(INSTANT, FAR);
        self
    }

    /// The longest ejection; 300 s, at least the [`base`](Self::base), at most a year.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest.min(FAR);
        self
    }

    /// The largest share of the instances that may be ejected at the same time: 0.1, between 0 and 1. Of three or more
    /// it is always one at least, of fewer none.
    pub fn most(mut self, share: f64) -> Self {
        self.most = fraction(share, 0.1);
        self
    }

    /// The share of the instances that must be usable, or else ejection is ignored: 0.5, between 0 and 1; 0 turns this
    /// off. Not usable are the ejected, those that would be if there were room, and those that say that they are
    /// [`Down`](crate::Status::Down).
    pub fn panic(mut self, share: f64) -> Self {
        self.panic = fraction(share, 0.5);
        self
    }

    /// Lets a background task of the upstream probe ejected instances in place of a request, so that no caller meets one
    /// that is still ill; none by default, as who answers a probe may still fail requests. The same task asks instances
    /// that the shrink guard holds in doubt, once per [`interval`](Self::interval), and removes who refuses.
    ///
    /// Only upstreams of a [`Client`](crate::Client) have such a task.
    pub fn probe(mut self, probe: impl Probe) -> Self {
        self.probe = Some(AnyProbe(Arc::new(probe)));
        self
    }

    /// How long a probe of [`probe`](Self::probe) may take; 1 s, from 1 ms to a year. One that takes longer has failed.
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout.clamp(INSTANT, FAR);
        self
    }

    /// After how long a probe is given up: no sooner than that of a task has failed.
    pub(super) fn probe_limit(&self) -> Duration {
        PROBE_LIMIT.max(self.probe_timeout + Duration::from_secs(1))
    }

    /// How many of `serving` instances may be ejected.
    pub(super) fn room(&self, serving: usize) -> usize {
        if serving < 3 { 0 } else { ((serving as f64 * self.most) as usize).max(1) }
    }
}

/// A number that isn't one is the default.
fn fraction(share: f64, default: f64) -> f64 {
    if share.is_nan() { default } else { share.clamp(0.0, 1.0) }
}

impl FromStr for Ejection {
    type Err = Error;

    /// Takes `on`, the defaults, or `off`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for anything else.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "on" => Ok(Self::new()),
            "off" => Ok(Self::off()),
            _ => Err(Error::invalid(format!("ejection is {text:?}; it must be on or off"))),
        }
    }
}

/// Why an instance was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EjectionCause {
    /// Too many failures in a row.
    Consecutive,
    /// Too large a share of failures within an interval.
    Share,
    /// Far fewer successes than the others within an interval.
    SuccessRate,
    /// The request that tried whether it is well again failed.
    Probe,
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consecutive => "consecutive failures",
            Self::Share => "share of failures",
            Self::SuccessRate => "success rate",
            Self::Probe => "failed probe",
        })
    }
}
