//! Which instances stand out within one interval.
//!
//! The two algorithms of Envoy's outlier detection, with the details of gRPC's proposal A50. Of those that are nearly all
//! alike somebody is always some deviations below the mean: so the success rate asks for a difference that matters and
//! that chance doesn't make, too.

use super::{Ejection, EjectionCause};
use crate::balance::Slot;

/// How far below the mean of all a success rate must be at least.
const GAP: f64 = 0.1;
/// How far in standard errors: those of an instance that is like all, with as many requests.
const ERRORS: f64 = 5.0;
/// Fewer failures than this within an interval are chance.
const FAILURES: u32 = 5;

/// The requests to one instance within an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume {
    pub(super) slot: Slot,
    pub(super) successes: u32,
    pub(super) failures: u32,
}

impl Volume {
    fn all(self) -> u32 {
        self.successes.saturating_add(self.failures)
    }

    fn rate(self) -> f64 {
        f64::from(self.successes) / f64::from(self.all().max(1))
    }
}

/// Those that stand out, and by what: first by the success rate, then by the share of failures.
pub(super) fn outliers(config: &Ejection, volumes: &[Volume]) -> Vec<(Slot, EjectionCause)> {
    let busy = |least: u32| volumes.iter().copied().filter(move |volume| volume.all() >= least);
    let mut found = Vec::new();
    let hosts = busy(config.rate_volume).count();
    if hosts >= config.rate_hosts {
        let mean = busy(config.rate_volume).map(Volume::rate).sum::<f64>() / hosts as f64;
        let square = |volume: Volume| (volume.rate() - mean).powi(2);
        let deviation = (busy(config.rate_volume).map(square).sum::<f64>() / hosts as f64).sqrt();
        let limit = mean - (config.deviations * deviation).max(GAP);
        let error = |volume: Volume| (mean * (1.0 - mean) / f64::from(volume.all())).sqrt();
        let is_low = |volume: &Volume| {
            volume.failures >= FAILURES
                && volume.rate() < limit
                && volume.rate() < mean - ERRORS * error(*volume)
        };
        let low = busy(config.rate_volume).filter(is_low);
        found.extend(low.map(|volume| (volume.slot, EjectionCause::SuccessRate)));
    }
    if busy(config.share_volume).count() >= config.share_hosts {
        let high = busy(config.share_volume).filter(|volume| 1.0 - volume.rate() >= config.share);
        found.extend(high.map(|volume| (volume.slot, EjectionCause::Share)));
    }
    found
}
