//! Who is ejected: a pure function of what is heard.
//!
//! ```text
//!            a criterion is met             there is room
//!   Closed ─────────────────────► Failing ────────────────► Ejected ◄──────────────┐
//!     ▲ ▲                            │                         │ its time is over:  │ failed: next step;
//!     │ └──── a success, a better ───┘                         │ one pick claims it │ dropped, never ended:
//!     │       interval, or no failure for long                 ▼                    │ another one may
//!     └──────────────────── succeeded ──────────────────── HalfOpen ───────────────┘
//! ```
//!
//! A failing instance is picked as before: it waits for room among the ejected, of whom there is a limited number. Only
//! [`Input::Members`] ejects, as only the writer of the view knows for certain who is still there. Panic begins when too
//! few are neither failing nor ejected, and ends no sooner than an interval later.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{Ejection, EjectionCause};
use crate::{
    balance::{Failure, Slot},
    model::InstanceKey,
};

/// After how long a probe that hasn't ended is given up, so that another pick may try.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// Least time from a probe that ended without a verdict to the next.
pub(super) const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// After this many probes without a verdict in a row an instance is restored: nobody seems to report successes.
pub(super) const UNPROVEN: u32 = 5;

/// What is known of one instance that has failed.
#[derive(Debug)]
struct Entry {
    slot: Slot,
    key: InstanceKey,
    state: State,
    /// Failures since the last success, by weight.
    streak: u32,
    /// Failures in this interval.
    failures: u32,
    /// Ejections in a row.
    times: u32,
    /// When it was last restored.
    restored: Instant,
    last_failure: Instant,
    /// Probes without a verdict in a row.
    unproven: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed,
    Failing { since: Instant, cause: EjectionCause },
    Ejected { until: Instant },
    HalfOpen { since: Instant, probe: Probe },
}

/// One request that tries whether an instance is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe(pub(super) u32);

/// What happens to a machine.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// A request ended. Of successes only those need to be told that [`Machine::heeds`] asks for.
    Outcome { slot: Slot, key: &'a InstanceKey, failure: Option<Failure>, probe: Option<Probe> },
    /// A probe ended without a verdict.
    Unproven { slot: Slot, probe: Probe },
    /// Somebody could try an instance, though none of these.
    Claim { tried: &'a [InstanceKey] },
    /// An interval is over: the successes of each instance that has been there throughout.
    Interval { successes: Vec<(Slot, u32)> },
    /// The instances of the view: how many serve, ejected or not, how many are down, and which of those
    /// that are [tracked](Machine::tracked) no longer serve.
    Members { serving: usize, down: usize, gone: Vec<Slot> },
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// [`Input::Members`] is due: somebody may be ejected.
    Settle,
    Eject {
        key: InstanceKey,
        cause: EjectionCause,
        lasts: Duration,
    },
    Restore {
        key: InstanceKey,
    },
    /// Send one request there.
    Try {
        slot: Slot,
        key: InstanceKey,
        probe: Probe,
    },
    PanicBegins {
        usable: usize,
        of: usize,
    },
    PanicEnds,
}

#[derive(Debug)]
pub(super) struct Machine {
    config: Ejection,
    /// By the index of the slot. Only instances that have failed.
    entries: HashMap<u32, Entry>,
    serving: usize,
    down: usize,
    /// When this interval began: with the first failure.
    interval: Option<Instant>,
    panic: Option<Instant>,
    probes: u32,
    random: fastrand::Rng,
}

impl Machine {
    pub(super) fn new(config: Ejection, seed: u64) -> Self {
        Self {
            config,
            entries: HashMap::new(),
            serving: 0,
            down: 0,
            interval: None,
            panic: None,
            probes: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes one input.
    pub(super) fn step(&mut self, input: Input<'_>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Outcome { slot, key, failure, probe } => match (probe, failure) {
                (Some(probe), failure) => self.end_probe(slot, probe, failure, now, &mut actions),
                (None, Some(failure)) => self.fail(slot, key, failure, now),
                (None, None) => self.succeed(slot),
            },
            Input::Unproven { slot, probe } => self.give_back(slot, probe, now, &mut actions),
            Input::Claim { tried } => self.claim(tried, now, &mut actions),
            Input::Interval { successes } => self.judge(&successes, now),
            Input::Members { serving, down, gone } => {
                (self.serving, self.down) = (serving, down);
                for slot in gone {
                    self.entries.remove(&slot.index);
                }
                self.make_room(now, &mut actions);
                self.eject_failing(now, &mut actions);
            }
        }
        self.check_panic(now, &mut actions);
        if self.room() > 0 && self.entries.values().any(Entry::is_failing) {
            actions.push(Action::Settle);
        }
        actions
    }

    /// Whether a success of this instance has to be told.
    pub(super) fn heeds(&self, slot: Slot) -> bool {
        self.entry(slot).is_some_and(|entry| match entry.state {
            State::Closed | State::Failing { .. } => entry.streak > 0,
            State::Ejected { .. } | State::HalfOpen { .. } => false,
        })
    }

    /// Whether an [`Input::Interval`] is due.
    pub(super) fn interval_is_over(&self, now: Instant) -> bool {
        self.interval.is_some_and(|began| now >= began + self.config.interval)
    }

    /// From when on [`Input::Claim`] has an effect; `None` if never.
    pub(super) fn due(&self) -> Option<Instant> {
        let probes = self.entries.values().filter_map(|entry| match entry.state {
            State::Closed | State::Failing { .. } => None,
            State::Ejected { until } => Some(until),
            State::HalfOpen { since, .. } => Some(since + PROBE_LIMIT),
        });
        let recovered = self.panic.filter(|_| !self.is_short()).map(|since| since + self.config.interval);
        let stale = self.panic.and_then(|_| self.entries.values().filter_map(|e| self.expiry(e)).min());
        probes.chain(recovered).chain(stale).min()
    }

    /// All instances that have failed.
    pub(super) fn tracked(&self) -> impl Iterator<Item = (Slot, &InstanceKey)> {
        self.entries.values().map(|entry| (entry.slot, &entry.key))
    }

    pub(super) fn ejected(&self) -> impl Iterator<Item = &InstanceKey> {
        self.entries.values().filter(|entry| entry.is_out()).map(|entry| &entry.key)
    }

    /// Whether ejection is ignored.
    pub(super) fn panics(&self) -> bool {
        self.panic.is_some()
    }

    fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(&slot.index).filter(|entry| entry.slot == slot)
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(&slot.index).filter(|entry| entry.slot == slot)
    }

    fn succeed(&mut self, slot: Slot) {
        let Some(entry) = self.entry_mut(slot) else { return };
        match entry.state {
            State::Closed => entry.streak = 0,
            State::Failing { cause, .. } => {
                entry.streak = 0;
                if cause == EjectionCause::Consecutive {
                    entry.state = State::Closed;
                }
            }
            State::Ejected { .. } | State::HalfOpen { .. } => {}
        }
    }

    fn fail(&mut self, slot: Slot, key: &InstanceKey, failure: Failure, now: Instant) {
        self.interval.get_or_insert(now);
        let enough = self.config.consecutive;
        let entry = self.entries.entry(slot.index).or_insert_with(|| Entry::new(slot, key, now));
        if entry.slot != slot {
            // The index passes on with the generation one higher; what differs otherwise is an answer from before.
            if entry.slot.generation.wrapping_sub(slot.generation) < u32::MAX / 2 {
                return;
            }
            *entry = Entry::new(slot, key, now);
        }
        if entry.is_out() {
            return;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last_failure = now;
        let weight = match failure {
            Failure::Connect => enough.div_ceil(2),
            Failure::Timeout | Failure::Server => 1,
            // Says that it is busy, not that it is broken.
            Failure::Throttled => 0,
        };
        entry.streak = entry.streak.saturating_add(weight);
        if entry.streak >= enough && entry.state == State::Closed {
            entry.state = State::Failing { since: now, cause: EjectionCause::Consecutive };
        }
    }

    /// Judges an interval: first by the success rate, then by the share of failures, as A50 does.
    fn judge(&mut self, successes: &[(Slot, u32)], now: Instant) {
        let rate = |(slot, successes): &(Slot, u32)| {
            let failures = self.entry(*slot).map_or(0, |entry| entry.failures);
            let volume = successes.saturating_add(failures);
            (*slot, volume, f64::from(*successes) / f64::from(volume.max(1)))
        };
        let rates: Vec<_> = successes.iter().map(rate).collect();
        let with_volume = |least: u32| rates.iter().filter(move |(_, volume, _)| *volume >= least);
        let mut met = Vec::new();
        let hosts = with_volume(self.config.rate_volume).count();
        if hosts >= self.config.rate_hosts {
            let mean =
                with_volume(self.config.rate_volume).map(|(_, _, rate)| rate).sum::<f64>() / hosts as f64;
            let square = |rate: &f64| (rate - mean) * (rate - mean);
            let variance = with_volume(self.config.rate_volume).map(|(_, _, rate)| square(rate)).sum::<f64>()
                / hosts as f64;
            let limit = mean - self.config.deviations * variance.sqrt();
            let low = with_volume(self.config.rate_volume).filter(|(_, _, rate)| *rate < limit);
            met.extend(low.map(|(slot, _, _)| (*slot, EjectionCause::SuccessRate)));
        }
        if with_volume(self.config.share_volume).count() >= self.config.share_hosts {
            let high =
                with_volume(self.config.share_volume).filter(|(_, _, rate)| 1.0 - rate >= self.config.share);
            met.extend(high.map(|(slot, _, _)| (*slot, EjectionCause::Share)));
        }
        let (base, interval) = (self.config.base, self.config.interval);
        self.entries.retain(|_, entry| {
            entry.failures = 0;
            let cause = met.iter().find(|(slot, _)| *slot == entry.slot).map(|(_, cause)| *cause);
            match (entry.state, cause) {
                (State::Closed, Some(cause)) => entry.state = State::Failing { since: now, cause },
                (State::Failing { cause: EjectionCause::Consecutive, .. }, _)
                    if now < entry.last_failure + base => {}
                (State::Failing { .. }, None) => entry.state = State::Closed,
                _ => {}
            }
            // Nothing left to remember.
            entry.state != State::Closed || entry.streak > 0 || entry.times_now(interval, now) > 0
        });
        self.interval = Some(now);
    }

    fn claim(&mut self, tried: &[InstanceKey], now: Instant, actions: &mut Vec<Action>) {
        if self.panic.is_some() {
            let stale: Vec<u32> = self
                .entries
                .values()
                .filter(|e| self.expiry(e).is_some_and(|at| at <= now))
                .map(|e| e.slot.index)
                .collect();
            for index in stale {
                self.entries.remove(&index);
            }
        }
        for entry in self.entries.values_mut() {
            if let State::HalfOpen { since, .. } = entry.state
                && now >= since + PROBE_LIMIT
            {
                entry.state = State::Ejected { until: now };
            }
        }
        let due = |entry: &&mut Entry| matches!(entry.state, State::Ejected { until } if until <= now);
        let waiting = self.entries.values_mut().filter(due).filter(|entry| !tried.contains(&entry.key));
        if let Some(entry) = waiting.min_by_key(|entry| entry.until()) {
            self.probes = self.probes.wrapping_add(1);
            let probe = Probe(self.probes);
            entry.state = State::HalfOpen { since: now, probe };
            actions.push(Action::Try { slot: entry.slot, key: entry.key.clone(), probe });
        }
    }

    fn end_probe(
        &mut self,
        slot: Slot,
        ended: Probe,
        failure: Option<Failure>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.entries.get_mut(&slot.index).filter(|entry| entry.is_tried_by(slot, ended))
        else {
            return;
        };
        if failure.is_some() {
            entry.times = entry.times.saturating_add(1);
            entry.unproven = 0;
            let lasts = lasts(&self.config, entry.times, &mut self.random);
            entry.state = State::Ejected { until: now + lasts };
            actions.push(Action::Eject { key: entry.key.clone(), cause: EjectionCause::Probe, lasts });
        } else {
            entry.restore(now, actions);
        }
    }

    fn give_back(&mut self, slot: Slot, ended: Probe, now: Instant, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&slot.index).filter(|entry| entry.is_tried_by(slot, ended))
        else {
            return;
        };
        entry.unproven += 1;
        if entry.unproven >= UNPROVEN {
            entry.restore(now, actions);
        } else {
            entry.state = State::Ejected { until: now + PROBE_PAUSE };
        }
    }

    /// Restores those who are too many, as the view has shrunk: first who would be tried first.
    fn make_room(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let surplus = self.count_out().saturating_sub(self.config.room(self.serving));
        let mut out: Vec<_> = self.entries.values_mut().filter(|entry| entry.is_out()).collect();
        out.sort_by_key(|entry| (entry.until(), entry.slot.index));
        for entry in out.into_iter().take(surplus) {
            entry.restore(now, actions);
        }
    }

    fn eject_failing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let room = self.room();
        let mut failing: Vec<_> = self.entries.values_mut().filter(|entry| entry.is_failing()).collect();
        failing.sort_by_key(|entry| (entry.until(), entry.slot.index));
        for entry in failing.into_iter().take(room) {
            let State::Failing { cause, .. } = entry.state else { continue };
            entry.times = entry.times_now(self.config.interval, now).saturating_add(1);
            entry.streak = 0;
            entry.unproven = 0;
            let lasts = lasts(&self.config, entry.times, &mut self.random);
            entry.state = State::Ejected { until: now + lasts };
            actions.push(Action::Eject { key: entry.key.clone(), cause, lasts });
        }
    }

    fn check_panic(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match (self.panic, self.is_short()) {
            (None, true) => {
                self.panic = Some(now);
                let (usable, of) = (self.usable(), self.serving + self.down);
                actions.push(Action::PanicBegins { usable, of });
            }
            (Some(since), false) if now >= since + self.config.interval => {
                self.panic = None;
                actions.push(Action::PanicEnds);
            }
            _ => {}
        }
    }

    /// Whether too few are usable.
    fn is_short(&self) -> bool {
        let bad = self.entries.values().any(|entry| entry.is_out() || entry.is_failing());
        bad && (self.usable() as f64) < (self.serving + self.down) as f64 * self.config.panic
    }

    fn usable(&self) -> usize {
        let bad = self.entries.values().filter(|entry| entry.is_out() || entry.is_failing()).count();
        self.serving.saturating_sub(bad)
    }

    fn count_out(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_out()).count()
    }

    /// How many more may be ejected.
    fn room(&self) -> usize {
        self.config.room(self.serving).saturating_sub(self.count_out())
    }

    /// When a failing instance that doesn't fail any more is forgotten.
    fn expiry(&self, entry: &Entry) -> Option<Instant> {
        entry.is_failing().then(|| entry.last_failure + self.config.base)
    }
}

/// How long the ejection takes that is the `times`-th in a row.
fn lasts(config: &Ejection, times: u32, random: &mut fastrand::Rng) -> Duration {
    config.base.saturating_mul(times).min(config.longest.max(config.base)).mul_f64(1.0 + 0.1 * random.f64())
}

impl Entry {
    fn new(slot: Slot, key: &InstanceKey, now: Instant) -> Self {
        Self {
            slot,
            key: key.clone(),
            state: State::Closed,
            streak: 0,
            failures: 0,
            times: 0,
            restored: now,
            last_failure: now,
            unproven: 0,
        }
    }

    fn is_failing(&self) -> bool {
        matches!(self.state, State::Failing { .. })
    }

    fn is_out(&self) -> bool {
        matches!(self.state, State::Ejected { .. } | State::HalfOpen { .. })
    }

    fn is_tried_by(&self, slot: Slot, by: Probe) -> bool {
        self.slot == slot && matches!(self.state, State::HalfOpen { probe, .. } if probe == by)
    }

    /// What the entry's state counts from, for an order among equals.
    fn until(&self) -> Instant {
        match self.state {
            State::Closed => self.last_failure,
            State::Failing { since, .. } | State::HalfOpen { since, .. } => since,
            State::Ejected { until } => until,
        }
    }

    fn restore(&mut self, now: Instant, actions: &mut Vec<Action>) {
        (self.state, self.streak, self.failures, self.unproven) = (State::Closed, 0, 0, 0);
        self.restored = now;
        actions.push(Action::Restore { key: self.key.clone() });
    }

    /// Ejections in a row, less one for each interval that it has done well since.
    fn times_now(&self, interval: Duration, now: Instant) -> u32 {
        let well = now.saturating_duration_since(self.restored).as_nanos() / interval.as_nanos().max(1);
        self.times.saturating_sub(u32::try_from(well).unwrap_or(u32::MAX))
    }
}
