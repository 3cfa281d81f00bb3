//! Transitions that several inputs cause.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    entry::{Belief, Loss, Want},
    input::{Action, LeaseNo},
    lease::{LeaseState, Retired, Tenure},
    phase::{Deregistration, LossCause, Phase, RegistrationEvent},
    retry::LONGEST,
    state::{KeeperState, LATE},
    times::Times,
};
use crate::{Error, ErrorClass, backoff::spread, model::InstanceKey};

/// When to look for late writes under a lease that doesn't expire.
const FALLBACK_LOOK: Duration = Duration::from_secs(5);

impl KeeperState {
    pub(super) fn emit(&mut self, events: Vec<(InstanceKey, RegistrationEvent)>) {
        if !events.is_empty() {
            self.touched.extend(events.iter().map(|(key, _)| key.clone()));
            self.actions.push(Action::Emit(events));
        }
    }

    pub(super) fn touch(&mut self, key: &InstanceKey) {
        self.touched.insert(key.clone());
    }

    /// Held → Doubt: every live instance becomes suspect; in Doubt already, those that went live meanwhile. A lease that
    /// nobody renews stays as it is: no time ends it, and no renewal would settle the doubt. Its instances are suspect
    /// until the next look, if anybody looks.
    pub(super) fn doubt(&mut self) {
        match &self.lease {
            LeaseState::Held(tenure) if tenure.times.is_some() => {
                self.lease = LeaseState::Doubt(tenure.clone());
            }
            LeaseState::Held(tenure) if tenure.look_every.is_some() => {}
            LeaseState::Doubt(_) => {}
            _ => return,
        }
        let mut suspects = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.phase == Phase::Live {
                entry.phase = Phase::Suspect;
                suspects.push((key.clone(), RegistrationEvent::Suspect));
            }
        }
        self.emit(suspects);
    }

    /// The lease is gone: every published instance is lost, in the same step the next grant begins.
    pub(super) fn lose_lease(&mut self, cause: LossCause, now: Instant) {
        let Some(tenure) = self.tenure().cloned() else { return };
        let expired = matches!(cause, LossCause::Expired | LossCause::Withheld);
        let pause = if expired {
            self.pause_after_expiry(&tenure, now)
        } else {
            // One that merely forgot us gets us at once; one that forgets again and again doesn't.
            let spread = tenure.times.filter(|_| tenure.was_cut).map(Times::spread_after_retries);
            let once = spread.unwrap_or_default().mul_f64(self.rng.f64());
            self.denials.fail(now, false, None, &mut self.rng).max(once)
        };
        self.lease = LeaseState::Granting { op: None, retry_at: now + pause };
        if expired {
            // It may still exist at the registry; revoked once nothing hangs on it any more.
            let retired = self.retire(&tenure, now);
            self.retired.push(retired);
        } else {
            self.actions.push(Action::Forget { lease: tenure.lease });
        }
        let mut keys = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.may_hold(tenure.lease) {
                entry.belief = if expired { Belief::Unknown } else { Belief::Nothing };
            }
            if entry.is_published() {
                keys.push(key.clone());
            }
        }
        self.lose(&keys, cause, now);
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        keys.iter().for_each(|key| self.settle(key, Deregistration::Confirmed, now));
    }

    /// The clients of a registry that was away come back one by one. Who waits for another attempt to renew has drawn that
    /// pause already, and a second one upon it would be too long.
    pub(super) fn pause_after_expiry(&mut self, tenure: &Tenure, now: Instant) -> Duration {
        let spread = tenure.times.map_or(Duration::ZERO, Times::spread);
        self.backoff.spread_over(spread);
        match tenure.renew_at.filter(|at| tenure.renewing.is_none() && *at > now) {
            Some(at) => at.saturating_duration_since(now).min(LONGEST),
            None => spread.mul_f64(self.rng.f64()),
        }
    }

    /// What is left of a lease that is given up.
    pub(super) fn retire(&self, tenure: &Tenure, now: Instant) -> Retired {
        let lasts = tenure.times.map(|times| times.ttl.mul_f64(self.capabilities.grace));
        let until = lasts.map(|lasts| now + lasts);
        Retired { lease: tenure.lease, op: None, retry_at: now, lasts, until }
    }

    /// What a call about a lease says of the registry: whether the time of the leases that were given up runs there.
    pub(super) fn heard(&mut self, error: Option<&Error>, now: Instant) {
        let away = error.is_some_and(|error| error.kind().class() == ErrorClass::Transient);
        if away && matches!(self.lease, LeaseState::Held(_)) {
            // Renewals get through, so it is only this call that doesn't.
            return;
        }
        let closing = match &mut self.lease {
            LeaseState::Closing(closing) => Some(closing),
            _ => None,
        };
        for retired in self.retired.iter_mut().chain(closing) {
            if away {
                retired.stands_still();
            } else {
                retired.runs(now);
            }
        }
    }

    /// Live, Suspect, or Blocked with an older record standing → Lost, under the next epoch.
    pub(super) fn lose(&mut self, keys: &[InstanceKey], cause: LossCause, now: Instant) {
        let mut lost = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.is_published()) else { continue };
            let last_ok_age = entry.last_ok.map_or(Duration::ZERO, |ok| now.saturating_duration_since(ok));
            lost.push((key.clone(), RegistrationEvent::Lost { epoch: entry.epoch, cause, last_ok_age }));
            entry.phase = Phase::Lost;
            entry.published = false;
            entry.epoch += 1;
            entry.safe = None;
            entry.loss = Some(Loss { at: now, cause, lasting_told: false });
            entry.retry_at = None;
        }
        self.emit(lost);
    }

    /// Any → Blocked; told once per entry into the phase. A record that stands keeps standing, and its loss is told.
    pub(super) fn block(&mut self, keys: &[InstanceKey], cause: &Error, retry_at: Option<Instant>) {
        let mut blocked = Vec::new();
        for key in keys {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.is_wanted()) else { continue };
            entry.cause = Some(cause.clone());
            entry.retry_at = retry_at;
            if entry.phase != Phase::Blocked {
                entry.phase = Phase::Blocked;
                blocked.push((key.clone(), RegistrationEvent::Blocked { cause: cause.clone() }));
            }
        }
        keys.iter().for_each(|key| self.touch(key));
        self.emit(blocked);
    }

    /// Nothing can hang on this lease any more: the registry said so, or its time is over.
    pub(super) fn lease_is_gone(&mut self, lease: LeaseNo, known_by: Deregistration, now: Instant) {
        self.retired.retain(|r| r.lease != lease);
        self.actions.push(Action::Forget { lease });
        let none_left = self.retired.is_empty()
            && !matches!(self.lease, LeaseState::Held(_) | LeaseState::Doubt(_) | LeaseState::Closing(_));
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        for key in &keys {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let here = matches!(entry.belief, Belief::Stored { lease: on, .. } if on == lease);
            // With the last lease gone nothing of ours can be left, not even what is still on its way.
            if here || (none_left && entry.belief == Belief::Unknown) {
                entry.belief = Belief::Nothing;
            }
            if none_left && !entry.is_wanted() {
                entry.op = None;
                entry.belief = Belief::Nothing;
            }
            self.settle(key, known_by, now);
        }
    }

    /// The record is gone for good, as asked: tell, and keep a tombstone where a late write could bring it back.
    pub(super) fn settle(&mut self, key: &InstanceKey, outcome: Deregistration, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Want::Absent { told, gone, .. } = &mut entry.want else { return };
        if entry.op.is_some() || entry.belief != Belief::Nothing {
            return;
        }
        let is_first = gone.replace(gone.unwrap_or(now)).is_none();
        let told = *told;
        // What refused this removal has no say about another, of a write that lands late.
        (entry.refusals, entry.retry_at) = (0, None);
        let keep = entry.may_return(now) && self.tenure().is_some();
        if !told {
            self.tell_deregistered(key, outcome);
        }
        if keep && is_first {
            self.look_at_tombstones(now);
        }
        if !keep {
            self.entries.remove(key);
            self.touch(key);
        }
    }

    /// A write wasn't answered, so it may land at any time: over a newer one, or after the removal. Look soon, and
    /// again until it can't any more, whether or not this registry needs audits otherwise.
    pub(super) fn expect_late_write(&mut self, key: &InstanceKey, now: Instant) {
        let late_until = now + LATE * self.config.ttl;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.late_until = Some(late_until);
        }
        if let Some(tenure) = self.tenure_mut() {
            let look = now + tenure.times.map_or(FALLBACK_LOOK, Times::attempt);
            tenure.audit_at = Some(tenure.audit_at.map_or(look, |at| at.min(look)));
        }
    }

    /// Looks within a time to live, whether or not this registry needs audits otherwise.
    fn look_at_tombstones(&mut self, now: Instant) {
        let look = now + spread(self.config.ttl.min(self.config.audit_every), 0.2, &mut self.rng);
        if let Some(tenure) = self.tenure_mut() {
            tenure.audit_at = Some(tenure.audit_at.map_or(look, |at| at.min(look)));
        }
    }

    pub(super) fn tell_deregistered(&mut self, key: &InstanceKey, outcome: Deregistration) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.phase = Phase::Absent;
            if let Want::Absent { told, .. } = &mut entry.want {
                *told = true;
            }
        }
        self.emit(vec![(key.clone(), RegistrationEvent::Deregistered { outcome })]);
    }
}
