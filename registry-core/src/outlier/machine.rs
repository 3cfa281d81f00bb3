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
//! A probe that its caller couldn't send leads back to `Ejected` as if it had never been.
//!
//! The success of a probe that was given up restores all the same, as long as no later one has failed: an instance that
//! always takes longer than that would be out for ever otherwise. Its failure is ignored, as another one may be out.
//!
//! A probe that is a long stream would keep its instance out until it ends. So one whose answer has begun, and didn't turn
//! out a failure within a few seconds, has succeeded. Until then its end decides: many an answer begins well and isn't.
//!
//! A failing instance is picked as before: it waits for room among the ejected, of whom there is a limited number. Only
//! [`Input::Members`] ejects, as only the writer of the view knows for certain who is still there, and only it begins a
//! panic: when too few are neither failing nor ejected. A panic ends no sooner than an interval later.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    Ejection, EjectionCause,
    criteria::{Volume, outliers},
    entry::{Counts, Entry, State},
};
use crate::{
    balance::{Failure, Slot},
    model::InstanceKey,
};

/// After how long a probe that hasn't ended is given up, so that another pick may try.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// How long after the answer to a probe began it counts as a success, if it hasn't ended: long enough for most failures
/// that come after a good beginning, such as a status in trailers.
pub(super) const PROBE_ANSWER: Duration = Duration::from_secs(5);
/// Least time from a probe that ended without a verdict to the next.
pub(super) const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// After this many probes without a verdict in a row an instance is restored: nobody seems to report successes.
pub(super) const UNPROVEN: u32 = 5;

/// One request that tries whether an instance is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeId(pub(super) u32);

/// What happens to a machine.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// A request ended. Of successes only those need to be told that [`Machine::heeds`] asks for.
    Outcome { slot: Slot, key: &'a InstanceKey, failure: Option<Failure>, probe: Option<ProbeId> },
    /// The answer to a probe has begun, and looks well.
    Answered { slot: Slot, probe: ProbeId },
    /// A probe ended without a verdict.
    Unproven { slot: Slot, probe: ProbeId },
    /// A probe wasn't sent.
    Unsent { slot: Slot, probe: ProbeId },
    /// Somebody could try an instance.
    Claim,
    /// An interval is over: the successes of each instance that has been there throughout.
    Interval { successes: Vec<(Slot, u32)> },
    /// The instances of the view: how many serve, ejected or not, how many are down, and which of those
    /// that are [tracked](Machine::tracked) no longer serve.
    Members { serving: usize, down: usize, gone: Vec<Slot> },
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// [`Input::Members`] is due: somebody may be ejected, or a panic may begin.
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
        probe: ProbeId,
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
    counts: Counts,
    serving: usize,
    down: usize,
    /// When this interval began: with the first failure.
    interval: Option<Instant>,
    panic: Option<Instant>,
    /// Whether too few were usable after the last step.
    was_short: bool,
    probes: u32,
    random: fastrand::Rng,
}

impl Machine {
    pub(super) fn new(config: Ejection, seed: u64) -> Self {
        Self {
            config,
            entries: HashMap::new(),
            counts: Counts::default(),
            serving: 0,
            down: 0,
            interval: None,
            panic: None,
            was_short: false,
            probes: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes one input.
    pub(super) fn step(&mut self, input: Input<'_>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_certain = matches!(input, Input::Members { .. });
        match input {
            Input::Outcome { slot, key, failure, probe } => match (probe, failure) {
                (Some(probe), failure) => self.end_probe(slot, probe, failure, now, &mut actions),
                (None, Some(failure)) => self.fail(slot, key, failure, now),
                (None, None) => self.succeed(slot),
            },
            Input::Answered { slot, probe } => self.answered(slot, probe, now),
            Input::Unproven { slot, probe } => self.give_back(slot, probe, now, &mut actions),
            Input::Unsent { slot, probe } => self.take_back(slot, probe, now),
            Input::Claim => self.claim(now, &mut actions),
            Input::Interval { successes } => self.judge(&successes, now),
            Input::Members { serving, down, gone } => {
                (self.serving, self.down) = (serving, down);
                for slot in gone {
                    if let Some(entry) = self.entries.remove(&slot.index) {
                        self.counts.leave(entry.state());
                    }
                }
                self.make_room(now, &mut actions);
                self.eject_failing(now, &mut actions);
            }
        }
        self.check_panic(is_certain, now, &mut actions);
        let would_panic = self.panic.is_none() && self.is_short();
        if would_panic || self.room() > 0 && self.counts.failing > 0 {
            actions.push(Action::Settle);
        }
        actions
    }

    /// The instance with this index whose successes have to be told, if any.
    pub(super) fn heeds(&self, index: u32) -> Option<Slot> {
        let entry = self.entries.get(&index)?;
        (!entry.state().is_out() && entry.streak > 0).then_some(entry.slot)
    }

    /// Whether an [`Input::Interval`] is due.
    pub(super) fn interval_is_over(&self, now: Instant) -> bool {
        self.interval.is_some_and(|began| now >= began + self.config.interval)
    }

    /// From when on [`Input::Claim`] has an effect; `None` if never. Walks what is tracked: to be asked again only when
    /// [`moves`](Self::moves) has changed, and after a claim.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |entry: &Entry| match entry.state() {
            State::Closed => None,
            State::Failing { .. } => Some(entry.last_failure + self.config.base),
            State::Ejected { until } => Some(until),
            State::HalfOpen { answered: Some(at), .. } => Some(at + PROBE_ANSWER),
            State::HalfOpen { since, .. } => Some(since + self.config.probe_limit()),
        };
        let recovered = self.panic.filter(|_| !self.is_short()).map(|since| since + self.config.interval);
        self.entries.values().filter_map(due).chain(recovered).min()
    }

    /// Raised whenever somebody is ejected, tried or restored, and when a panic begins, abates or ends.
    pub(super) fn moves(&self) -> u64 {
        self.counts.moves
    }

    /// All instances that have failed.
    pub(super) fn tracked(&self) -> impl Iterator<Item = (Slot, &InstanceKey)> {
        self.entries.values().map(|entry| (entry.slot, &entry.key))
    }

    pub(super) fn ejected(&self) -> impl Iterator<Item = &InstanceKey> {
        self.entries.values().filter(|entry| entry.state().is_out()).map(|entry| &entry.key)
    }

    /// Those that would be ejected if there were room.
    pub(super) fn failing(&self) -> impl Iterator<Item = &InstanceKey> {
        self.entries.values().filter(|entry| entry.state().is_failing()).map(|entry| &entry.key)
    }

    /// Raised whenever the set of those that [fail](Self::failing) changes.
    pub(super) fn shifts(&self) -> u64 {
        self.counts.shifts
    }

    /// Whether ejection is ignored.
    pub(super) fn panics(&self) -> bool {
        self.panic.is_some()
    }

    fn succeed(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(&slot.index).filter(|entry| entry.slot == slot) else {
            return;
        };
        if entry.state().is_out() {
            return;
        }
        entry.streak = 0;
        if matches!(entry.state(), State::Failing { cause: EjectionCause::Consecutive, .. }) {
            entry.enter(State::Closed, &mut self.counts);
        }
    }

    fn fail(&mut self, slot: Slot, key: &InstanceKey, failure: Failure, now: Instant) {
        self.interval.get_or_insert(now);
        let enough = self.config.consecutive;
        let entry = self.entries.entry(slot.index).or_insert_with(|| Entry::new(slot, key, now));
        if entry.slot != slot {
            // An index passes on with the next higher generation. An answer from before it did doesn't count.
            if entry.slot.generation.wrapping_sub(slot.generation) < u32::MAX / 2 {
                return;
            }
            self.counts.leave(entry.state());
            *entry = Entry::new(slot, key, now);
        }
        if entry.state().is_out() {
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
        if entry.streak >= enough && entry.state() == State::Closed {
            let cause = EjectionCause::Consecutive;
            entry.enter(State::Failing { since: now, cause }, &mut self.counts);
        }
    }

    /// Judges an interval.
    fn judge(&mut self, successes: &[(Slot, u32)], now: Instant) {
        let volume = |(slot, successes): &(Slot, u32)| {
            let entry = self.entries.get(&slot.index).filter(|entry| entry.slot == *slot);
            let failures = entry.map_or(0, |entry| entry.failures);
            Volume { slot: *slot, successes: *successes, failures }
        };
        let volumes: Vec<_> = successes.iter().map(volume).collect();
        let outliers: HashMap<Slot, EjectionCause> = outliers(&self.config, &volumes).into_iter().collect();
        let (base, interval, counts) = (self.config.base, self.config.interval, &mut self.counts);
        self.entries.retain(|_, entry| {
            entry.failures = 0;
            match (entry.state(), outliers.get(&entry.slot)) {
                (State::Closed, Some(cause)) => {
                    entry.enter(State::Failing { since: now, cause: *cause }, counts);
                }
                (State::Failing { cause: EjectionCause::Consecutive, .. }, None)
                    if now < entry.last_failure + base => {}
                (State::Failing { .. }, None) => entry.enter(State::Closed, counts),
                _ => {}
            }
            // Nothing left to remember.
            entry.state() != State::Closed || entry.streak > 0 || entry.times_now(interval, now) > 0
        });
        self.interval = Some(now);
    }

    fn claim(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.forgive(now);
        let limit = self.config.probe_limit();
        let mut next: Option<&mut Entry> = None;
        for entry in self.entries.values_mut() {
            match entry.state() {
                State::HalfOpen { answered: Some(at), .. } if now >= at + PROBE_ANSWER => {
                    actions.push(entry.restore(&mut self.counts, now));
                }
                State::HalfOpen { since, answered: None, .. } if now >= since + limit => {
                    actions.extend(entry.unproven(&mut self.counts, now, now));
                }
                _ => {}
            }
            if matches!(entry.state(), State::Ejected { until } if until <= now)
                && next.as_ref().is_none_or(|next| entry.order() < next.order())
            {
                next = Some(entry);
            }
        }
        if let Some(entry) = next {
            self.probes = self.probes.wrapping_add(1);
            let probe = ProbeId(self.probes);
            entry.enter(State::HalfOpen { since: now, probe, answered: None }, &mut self.counts);
            actions.push(Action::Try { slot: entry.slot, key: entry.key.clone(), probe });
        }
    }

    fn end_probe(
        &mut self,
        slot: Slot,
        ended: ProbeId,
        failure: Option<Failure>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.entries.get_mut(&slot.index) else { return };
        if failure.is_none() {
            if entry.was_tried_by(slot, ended) {
                actions.push(entry.restore(&mut self.counts, now));
            }
            return;
        }
        if !entry.is_tried_by(slot, ended) {
            return;
        }
        entry.times = entry.times.saturating_add(1);
        (entry.unproven, entry.probes_before) = (0, self.probes);
        let lasts = lasts(&self.config, entry.times, &mut self.random);
        entry.enter(State::Ejected { until: now + lasts }, &mut self.counts);
        actions.push(Action::Eject { key: entry.key.clone(), cause: EjectionCause::Probe, lasts });
    }

    fn answered(&mut self, slot: Slot, by: ProbeId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&slot.index).filter(|entry| entry.is_tried_by(slot, by))
        else {
            return;
        };
        if let State::HalfOpen { since, probe, answered: None } = entry.state() {
            entry.enter(State::HalfOpen { since, probe, answered: Some(now) }, &mut self.counts);
        }
    }

    fn give_back(&mut self, slot: Slot, ended: ProbeId, now: Instant, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&slot.index).filter(|entry| entry.is_tried_by(slot, ended))
        else {
            return;
        };
        actions.extend(entry.unproven(&mut self.counts, now + PROBE_PAUSE, now));
    }

    fn take_back(&mut self, slot: Slot, unsent: ProbeId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&slot.index).filter(|entry| entry.is_tried_by(slot, unsent))
        {
            // Whatever kept this caller from sending it may keep the next one too: not at once.
            entry.enter(State::Ejected { until: now + PROBE_PAUSE }, &mut self.counts);
        }
    }

    /// Restores those who are too many, as the view has shrunk: first who would be tried first.
    fn make_room(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let surplus = self.counts.out.saturating_sub(self.config.room(self.serving));
        if surplus == 0 {
            return;
        }
        let mut out: Vec<_> = self.entries.values_mut().filter(|entry| entry.state().is_out()).collect();
        out.sort_by_key(|entry| entry.order());
        actions.extend(out.into_iter().take(surplus).map(|entry| entry.restore(&mut self.counts, now)));
    }

    /// Closes those that haven't failed for long: nothing is known of them any more.
    fn forgive(&mut self, now: Instant) {
        let base = self.config.base;
        let is_over = |entry: &&mut Entry| entry.state().is_failing() && now >= entry.last_failure + base;
        for entry in self.entries.values_mut().filter(is_over) {
            entry.streak = 0;
            entry.enter(State::Closed, &mut self.counts);
        }
    }

    fn eject_failing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let room = self.room();
        if room == 0 || self.counts.failing == 0 {
            return;
        }
        self.forgive(now);
        let mut failing: Vec<_> =
            self.entries.values_mut().filter(|entry| entry.state().is_failing()).collect();
        failing.sort_by_key(|entry| entry.order());
        for entry in failing.into_iter().take(room) {
            let State::Failing { cause, .. } = entry.state() else { continue };
            entry.times = entry.times_now(self.config.interval, now).saturating_add(1);
            (entry.streak, entry.unproven, entry.probes_before) = (0, 0, self.probes);
            let lasts = lasts(&self.config, entry.times, &mut self.random);
            entry.enter(State::Ejected { until: now + lasts }, &mut self.counts);
            actions.push(Action::Eject { key: entry.key.clone(), cause, lasts });
        }
    }

    fn check_panic(&mut self, may_begin: bool, now: Instant, actions: &mut Vec<Action>) {
        let is_short = self.is_short();
        self.counts.moves += u64::from(self.panic.is_some() && is_short != self.was_short);
        self.was_short = is_short;
        match self.panic {
            None if is_short && may_begin => {
                self.panic = Some(now);
                self.counts.moves += 1;
                actions.push(Action::PanicBegins { usable: self.usable(), of: self.serving + self.down });
            }
            Some(since) if !is_short && now >= since + self.config.interval => {
                self.panic = None;
                self.counts.moves += 1;
                actions.push(Action::PanicEnds);
            }
            _ => {}
        }
    }

    /// Whether too few are usable, and some of them because they fail.
    fn is_short(&self) -> bool {
        let needed = (self.serving + self.down) as f64 * self.config.panic;
        self.counts.out + self.counts.failing > 0 && (self.usable() as f64) < needed
    }

    fn usable(&self) -> usize {
        self.serving.saturating_sub(self.counts.out + self.counts.failing)
    }

    /// How many more may be ejected.
    fn room(&self) -> usize {
        self.config.room(self.serving).saturating_sub(self.counts.out)
    }
}

/// How long the ejection takes that is the `times`-th in a row.
fn lasts(config: &Ejection, times: u32, random: &mut fastrand::Rng) -> Duration {
    config.base.saturating_mul(times).min(config.longest.max(config.base)).mul_f64(1.0 + 0.1 * random.f64())
}
