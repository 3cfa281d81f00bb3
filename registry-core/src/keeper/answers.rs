//! What an answer means: the replies of the registry, one function each.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    entry::{Belief, Entry, OnMissing, Want},
    phase::{LossCause, Phase, RegistrationEvent},
    state::{About, InFlight, KeeperState, LeaseNo, LeaseState, Moment, OpId, Reply, Retired, Tenure},
    times::{MIN_TTL, Times},
};
use crate::{
    Error, ErrorClass, ErrorKind,
    backend::{Lifetime, Outcome, Presence, Proof, Renewal},
    backoff::{BLOCKED_RETRY, spread},
    model::InstanceKey,
};

/// First audit after an instance turned live.
const FIRST_AUDIT: Duration = Duration::from_secs(5);

impl KeeperState {
    pub(super) fn answer(&mut self, op: OpId, reply: Reply, now: Moment) {
        // Forgotten calls (before a restart) have no say.
        let Some(InFlight { sent, about }) = self.in_flight.remove(&op) else { return };
        match (about, reply) {
            (About::Grant(lease), Reply::Granted(result)) => self.granted(op, lease, sent, result, now.mono),
            (About::Publish(lease, about), Reply::Published(outcomes)) => {
                self.published(op, lease, sent, &about, outcomes, now.mono);
            }
            (About::Withdraw(keys), Reply::Withdrawn(outcomes)) => {
                self.withdrawn(op, &keys, &outcomes, now.mono)
            }
            (About::Renew(lease), Reply::Renewed(result)) => self.renewed(op, lease, sent, result, now),
            (About::Inspect(lease, about), Reply::Inspected(result)) => {
                self.inspected(op, lease, sent, &about, result, now.mono);
            }
            (About::Revoke(lease), Reply::Revoked(result)) => self.revoked(op, lease, &result, now.mono),
            (about, reply) => tracing::error!(?about, ?reply, "an answer of the wrong kind"),
        }
    }

    fn granted(
        &mut self,
        op: OpId,
        lease: LeaseNo,
        sent: Instant,
        result: Result<Lifetime, Error>,
        now: Instant,
    ) {
        let expected = matches!(self.lease, LeaseState::Granting { op: Some(waiting), .. } if waiting == op);
        let lifetime = match result {
            Ok(lifetime) => lifetime,
            Err(error) => {
                if expected {
                    self.refused_lease(error, now);
                }
                return;
            }
        };
        if !expected {
            self.retired.push(Retired { lease, op: None, retry_at: now, until: now + self.config.ttl });
            return;
        }
        let (times, look_every) = match lifetime {
            Lifetime::Leased { ttl } if ttl < MIN_TTL => {
                self.retired.push(Retired { lease, op: None, retry_at: now, until: now + ttl.max(MIN_TTL) });
                self.refused_lease(Self::too_short(ttl), now);
                return;
            }
            Lifetime::Leased { ttl } => (Some(Times::new(ttl)), None),
            Lifetime::Verified { every } => (None, Some(every)),
            Lifetime::Permanent => (None, None),
        };
        self.backoff.succeed(now);
        self.last_error = None;
        let renew_at = times.map(|times| sent + times.period(&mut self.rng));
        self.lease = LeaseState::Held(Tenure {
            lease,
            times,
            sent,
            renew_at,
            renewing: None,
            failures: 0,
            audit_at: None,
            auditing: None,
            look_every,
        });
        self.schedule_audit(now);
        // What kept the lease away no longer keeps the entries away.
        for entry in self.entries.values_mut().filter(|e| e.refusals == 0) {
            entry.retry_at = None;
        }
    }

    fn refused_lease(&mut self, error: Error, now: Instant) {
        self.last_error = Some(error.clone());
        let class = error.kind().class();
        if matches!(class, ErrorClass::Transient | ErrorClass::Data) {
            let delay = self.back_off(&error, now);
            self.lease = LeaseState::Granting { op: None, retry_at: now + delay };
            for entry in self.entries.values_mut() {
                entry.cause = Some(error.clone());
            }
            let keys: Vec<_> = self.entries.keys().cloned().collect();
            keys.iter().for_each(|key| self.touch(key));
            return;
        }
        let refusals = self.backoff.failures();
        self.backoff.fail(now, false, None, &mut self.rng);
        let delay = slow_retry(class, refusals, &mut self.rng);
        self.lease = LeaseState::Blocked { retry_at: now + delay };
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        self.block(&keys, &error, None);
    }

    fn published(
        &mut self,
        op: OpId,
        lease: LeaseNo,
        sent: Instant,
        about: &[(InstanceKey, u64, u64)],
        outcomes: Vec<Outcome>,
        now: Instant,
    ) {
        let current = self.tenure().filter(|t| t.lease == lease).cloned();
        let mut lease_lost = false;
        let mut born = Vec::new();
        let mut back = Vec::new();
        let short = about.len().saturating_sub(outcomes.len());
        let missing = std::iter::repeat_n(
            Err(Error::new(ErrorKind::Protocol, "the backend gave no outcome for this record")),
            short,
        );
        for ((key, epoch, sequence), outcome) in about.iter().zip(outcomes.into_iter().chain(missing)) {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.op == Some(op)) else { continue };
            entry.op = None;
            match outcome {
                Ok(()) => {
                    entry.belief = if current.is_some() {
                        Belief::Stored { lease, epoch: *epoch, sequence: *sequence }
                    } else {
                        Belief::Unknown
                    };
                    if !entry.is_wanted() {
                        continue;
                    }
                    if let Some(tenure) = &current {
                        let event = go_live(entry, tenure, self.capabilities.proof, sent, now);
                        match event {
                            Some(event @ RegistrationEvent::Recovered { .. }) => {
                                back.push((key.clone(), event))
                            }
                            Some(event) => born.push((key.clone(), event)),
                            None => {}
                        }
                    }
                    self.touch(key);
                }
                Err(error) => {
                    if error.kind().is_ambiguous() {
                        entry.belief = Belief::Unknown;
                        entry.ambiguous = true;
                    }
                    if error.kind() == ErrorKind::LeaseLost {
                        entry.belief = Belief::Nothing;
                        lease_lost |= current.is_some();
                    } else {
                        self.refused_record(key, &error, now);
                    }
                }
            }
            self.settle(key, now);
        }
        if !born.is_empty() || !back.is_empty() {
            self.backoff.succeed(now);
            if let Some(tenure) = self.tenure_mut() {
                let first = now + FIRST_AUDIT;
                tenure.audit_at = tenure.audit_at.map(|at| at.min(first));
            }
        }
        self.emit(born);
        self.emit(back);
        if lease_lost {
            self.lose_lease(LossCause::Revoked, now);
        }
    }

    /// One record was refused: that instance alone waits.
    fn refused_record(&mut self, key: &InstanceKey, error: &Error, now: Instant) {
        let delay = if error.kind().class() == ErrorClass::Transient {
            self.back_off(error, now)
        } else {
            Duration::ZERO
        };
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.cause = Some(error.clone());
        match error.kind().class() {
            ErrorClass::Transient => entry.retry_at = Some(now + delay),
            class => {
                let delay = slow_retry(class, entry.refusals, &mut self.rng);
                entry.refusals += 1;
                if !entry.is_wanted() {
                    entry.retry_at = Some(now + delay);
                } else {
                    if error.kind() == ErrorKind::Conflict {
                        entry.belief = Belief::Nothing;
                        self.lose(std::slice::from_ref(key), LossCause::Superseded, now);
                    }
                    // A refused update of a record that still stands leaves it standing, and says so.
                    self.block(std::slice::from_ref(key), error, Some(now + delay));
                }
            }
        }
        self.touch(key);
    }

    fn withdrawn(&mut self, op: OpId, keys: &[InstanceKey], outcomes: &[Outcome], now: Instant) {
        for (at, key) in keys.iter().enumerate() {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.op == Some(op)) else { continue };
            entry.op = None;
            let gone = match outcomes.get(at) {
                Some(Ok(())) => true,
                Some(Err(error)) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::LeaseLost),
                None => false,
            };
            if gone {
                entry.belief = Belief::Nothing;
                entry.refusals = 0;
            } else {
                let error = outcomes.get(at).and_then(|o| o.as_ref().err()).cloned();
                let error =
                    error.unwrap_or_else(|| Error::new(ErrorKind::Protocol, "the backend gave no outcome"));
                self.refused_record(key, &error, now);
            }
            self.settle(key, now);
        }
    }

    fn renewed(
        &mut self,
        op: OpId,
        lease: LeaseNo,
        sent: Instant,
        result: Result<Renewal, Error>,
        now: Moment,
    ) {
        let Some(tenure) = self.tenure_mut().filter(|t| t.lease == lease && t.renewing == Some(op)) else {
            return;
        };
        tenure.renewing = None;
        let renewal = match result {
            Ok(renewal) => renewal,
            Err(error) if error.kind() == ErrorKind::LeaseLost => {
                self.last_error = Some(error);
                self.lose_lease(LossCause::Revoked, now.mono);
                return;
            }
            Err(error) => {
                let failures = tenure.failures;
                tenure.failures = failures.saturating_add(1);
                let left = tenure.safe().map(|safe| safe.saturating_duration_since(now.mono));
                let mut delay = tenure.times.map_or(Duration::from_secs(1), |t| t.retry(failures));
                if let (true, Some(asked)) = (error.kind().is_throttled(), error.retry_after()) {
                    delay = delay.max(asked.min(left.unwrap_or(asked) / 2));
                }
                tenure.renew_at = Some(now.mono + delay);
                self.last_error = Some(error);
                self.doubt();
                return;
            }
        };
        tenure.failures = 0;
        tenure.sent = sent;
        if let Some(ttl) = renewal.ttl.filter(|ttl| *ttl >= MIN_TTL) {
            tenure.times = Some(Times::new(ttl));
        }
        let tenure = tenure.clone();
        let period = renewal.renew_after.or_else(|| tenure.times.map(|t| t.period(&mut self.rng)));
        if let Some(own) = self.tenure_mut() {
            own.renew_at = period.map(|period| sent + period);
        }
        if tenure.safe().is_some_and(|safe| safe <= now.mono) {
            // The answer was so late that it proves nothing any more.
            self.lose_lease(LossCause::Expired, now.mono);
            return;
        }
        self.lease = match std::mem::replace(&mut self.lease, LeaseState::Idle) {
            LeaseState::Doubt(tenure) => LeaseState::Held(tenure),
            other => other,
        };
        self.last_error = None;
        self.backoff.succeed(now.mono);
        let mut cleared = Vec::new();
        let mut suspects = Vec::new();
        for (key, entry) in &mut self.entries {
            if !entry.is_published() || renewal.lost.contains(key) {
                continue;
            }
            if renewal.missed.contains(key) {
                if entry.phase == Phase::Live {
                    entry.phase = Phase::Suspect;
                    suspects.push((key.clone(), RegistrationEvent::Suspect));
                }
                continue;
            }
            // A record published after the renewal was sent has the younger proof where beats are its own.
            let since = entry.last_ok.map_or(sent, |ok| ok.max(sent));
            entry.last_ok = Some(since);
            entry.safe = tenure.times.map(|times| times.safe(since));
            if self.capabilities.proof == Proof::Session {
                entry.last_ok = Some(sent);
                entry.safe = tenure.safe();
            }
            if entry.phase == Phase::Suspect {
                entry.phase = Phase::Live;
                cleared.push((key.clone(), RegistrationEvent::Cleared));
            }
        }
        let published: Vec<_> =
            self.entries.iter().filter(|(_, e)| e.is_published()).map(|(key, _)| key.clone()).collect();
        published.iter().for_each(|key| self.touch(key));
        self.emit(suspects);
        self.emit(cleared);
        self.gone(&renewal.lost, now.mono);
    }

    /// Records that vanished although the lease lives.
    fn gone(&mut self, keys: &[InstanceKey], now: Instant) {
        let mut respected = Vec::new();
        for key in keys {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            entry.belief = Belief::Nothing;
            if entry.policy.on_missing == OnMissing::Respect {
                respected.push(key.clone());
            }
        }
        self.lose(keys, LossCause::Missing, now);
        let cause =
            Error::new(ErrorKind::NotFound, "the record was deleted at the registry, which is respected");
        self.block(&respected, &cause, None);
        for key in &respected {
            if let Some(entry) = self.entries.get_mut(key) {
                // Only an update by the user brings it back.
                entry.retry_at = Some(now + Duration::from_secs(u64::from(u32::MAX)));
            }
        }
        keys.iter().for_each(|key| self.settle(key, now));
    }

    fn inspected(
        &mut self,
        op: OpId,
        lease: LeaseNo,
        sent: Instant,
        about: &[(InstanceKey, Belief)],
        result: Result<Vec<Presence>, Error>,
        now: Instant,
    ) {
        let Some(tenure) = self.tenure_mut().filter(|t| t.lease == lease && t.auditing == Some(op)) else {
            return;
        };
        tenure.auditing = None;
        let looked = tenure.look_every.is_some();
        let presences = match result {
            Ok(presences) => presences,
            Err(error) => {
                self.last_error = Some(error.clone());
                let delay = self.back_off(&error, now);
                if let Some(tenure) = self.tenure_mut() {
                    tenure.audit_at = Some(now + delay.max(Duration::from_secs(1)));
                }
                return;
            }
        };
        let mut missing = Vec::new();
        let mut foreign = Vec::new();
        for ((key, believed), presence) in about.iter().zip(presences) {
            // A record that was written or withdrawn since the question has its own answer.
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.op.is_none() && e.belief == *believed)
            else {
                continue;
            };
            match (presence, entry.want) {
                (Presence::Ours { .. }, Want::Absent { .. }) => entry.belief = Belief::Unknown,
                (Presence::Missing | Presence::Foreign, Want::Absent { .. }) => {
                    entry.belief = Belief::Nothing
                }
                (Presence::Ours { version }, Want::Present) => {
                    if (version.epoch, version.sequence) == (entry.epoch, entry.sequence) {
                        if looked {
                            entry.last_ok = Some(sent);
                        }
                    } else {
                        entry.belief = Belief::Unknown;
                    }
                }
                (Presence::Missing, Want::Present) => missing.push(key.clone()),
                (Presence::Foreign, Want::Present) => foreign.push(key.clone()),
                (Presence::Unknown, _) => {}
            }
        }
        self.gone(&missing, now);
        for key in &foreign {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.belief = Belief::Nothing;
            }
        }
        self.lose(&foreign, LossCause::Superseded, now);
        let cause = Error::new(ErrorKind::Conflict, "another process published under the same instance id");
        let retry = now + spread(BLOCKED_RETRY, 0.2, &mut self.rng);
        self.block(&foreign, &cause, Some(retry));
        self.schedule_audit(now);
        let absent: Vec<_> = about.iter().map(|(key, _)| key.clone()).collect();
        absent.iter().for_each(|key| self.settle(key, now));
    }

    fn revoked(&mut self, op: OpId, lease: LeaseNo, result: &Result<(), Error>, now: Instant) {
        let gone = match result {
            Ok(()) => true,
            Err(error) => matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::NotFound),
        };
        let delay = match result {
            Err(error) if !gone => self.back_off(error, now),
            _ => Duration::ZERO,
        };
        if let LeaseState::Closing { lease: closing, op: waiting, retry_at, .. } = &mut self.lease
            && *closing == lease
            && *waiting == Some(op)
        {
            *waiting = None;
            *retry_at = now + delay;
            if gone {
                self.lease = LeaseState::Idle;
            } else if self.entries.values().any(Entry::is_wanted) {
                // Wanted again before the registry confirmed: let the old lease go and start anew.
                self.lease = LeaseState::Granting { op: None, retry_at: now };
                self.retired.push(Retired { lease, op: None, retry_at: now, until: now + self.config.ttl });
            }
        }
        if !gone {
            for retired in self.retired.iter_mut().filter(|r| r.op == Some(op)) {
                retired.op = None;
                retired.retry_at = now + delay;
            }
            return;
        }
        self.lease_is_gone(lease, now);
    }

    /// Nothing can hang on this lease any more.
    pub(super) fn lease_is_gone(&mut self, lease: LeaseNo, now: Instant) {
        self.retired.retain(|r| r.lease != lease);
        self.forget(lease);
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        let no_lease_left = self.retired.is_empty() && self.tenure().is_none();
        for key in &keys {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let here = matches!(entry.belief, Belief::Stored { lease: on, .. } if on == lease);
            // With the last lease gone nothing of ours can be left, not even what is still on its way.
            if here || (no_lease_left && entry.belief == Belief::Unknown) {
                entry.belief = Belief::Nothing;
            }
            if no_lease_left && !entry.is_wanted() {
                entry.op = None;
                entry.belief = Belief::Nothing;
            }
        }
        keys.iter().for_each(|key| self.settle(key, now));
    }

    fn back_off(&mut self, error: &Error, now: Instant) -> Duration {
        self.backoff.fail(now, error.kind().is_throttled(), error.retry_after(), &mut self.rng)
    }
}

/// Registering, Lost or Blocked → Live (or Suspect, while the lease is in doubt).
fn go_live(
    entry: &mut Entry,
    tenure: &Tenure,
    proof: Proof,
    sent: Instant,
    now: Instant,
) -> Option<RegistrationEvent> {
    entry.refusals = 0;
    entry.cause = None;
    let since = if proof == Proof::Session { tenure.sent } else { sent };
    entry.last_ok = Some(since);
    entry.safe = tenure.times.map(|times| times.safe(since));
    if entry.is_published() {
        return None;
    }
    entry.phase = Phase::Live;
    let event = match entry.loss.take() {
        Some(loss) => RegistrationEvent::Recovered {
            old_epoch: entry.epoch - 1,
            epoch: entry.epoch,
            downtime: now.saturating_duration_since(loss.at),
        },
        None if entry.was_live => return None,
        None => RegistrationEvent::Registered { epoch: entry.epoch },
    };
    entry.was_live = true;
    Some(event)
}

/// The pause after a refusal: a minute where somebody has to mend something, from a second on where a credential may
/// be renewed.
fn slow_retry(class: ErrorClass, refusals: u32, rng: &mut fastrand::Rng) -> Duration {
    match class {
        ErrorClass::Auth => {
            let step = Duration::from_secs(1 << refusals.min(6)).min(BLOCKED_RETRY);
            spread(step, 0.2, rng)
        }
        _ => spread(BLOCKED_RETRY, 0.2, rng),
    }
}
