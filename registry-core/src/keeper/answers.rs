//! What the answers about the lease mean: granted, renewed, revoked. Those about records are in
//! [`outcomes`](super::outcomes).

use std::time::Duration;

use tokio::time::Instant;

use super::{
    input::{LeaseNo, Moment, OpId, Reply},
    lease::{About, InFlight, LeaseState, Tenure},
    phase::{Deregistration, LossCause, Phase, RegistrationEvent},
    retry::Attempt,
    state::{KeeperState, Throttled},
    times::{MIN_TTL, SHORTEST_LOOK, Times},
};
use crate::{
    Error, ErrorClass, ErrorKind,
    backend::{Lifetime, Proof, Renewal},
    backoff::{BLOCKED_RETRY, RETRY_AFTER_CAP, spread},
    model::InstanceKey,
};

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
                self.withdrawn(op, &keys, &outcomes, now.mono);
            }
            (About::Renew(lease), Reply::Renewed(result)) => self.renewed(op, lease, sent, result, now.mono),
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
        self.heard(result.as_ref().err(), now);
        let expected = matches!(self.lease, LeaseState::Granting { op: Some(waiting), .. } if waiting == op);
        let lifetime = match result {
            Ok(lifetime) => lifetime,
            Err(error) => {
                if expected {
                    self.refused_lease(&error, now);
                }
                return;
            }
        };
        let (times, look_every) = match lifetime {
            Lifetime::Leased { ttl } => (Some(Times::new(ttl)), None),
            Lifetime::Verified { every } => (None, Some(every.max(SHORTEST_LOOK))),
            Lifetime::Permanent => (None, None),
        };
        let tenure = Tenure {
            lease,
            times,
            proof: self.capabilities.proof,
            sent,
            renew_at: times.map(|times| sent + times.period(&mut self.rng)),
            renewing: None,
            failures: 0,
            was_cut: false,
            audit_at: None,
            auditing: None,
            look_every,
            looked: sent,
        };
        let unusable = if !expected {
            Some(None)
        } else if times.is_some_and(|times| times.ttl < MIN_TTL) {
            Some(times.map(|times| too_short(times.ttl)))
        } else if tenure.safe().is_some_and(|safe| safe <= now) {
            Some(Some(Error::new(ErrorKind::Timeout, "the grant took longer than it lasts")))
        } else {
            None
        };
        if let Some(error) = unusable {
            let retired = self.retire(&tenure, now);
            self.retired.push(retired);
            if let Some(error) = error {
                self.refused_lease(&error, now);
            }
            return;
        }
        self.backoff.succeed(now);
        self.denials.succeed(now);
        self.last_error = None;
        self.lease = if op < self.slept_over && times.is_some() {
            LeaseState::Doubt(Tenure { renew_at: Some(now), ..tenure })
        } else {
            LeaseState::Held(tenure)
        };
        self.schedule_audit(now);
        // What kept the lease away no longer keeps the entries away.
        for entry in self.entries.values_mut().filter(|e| e.refusals == 0) {
            entry.retry_at = None;
        }
    }

    fn refused_lease(&mut self, error: &Error, now: Instant) {
        self.last_error = Some(error.clone());
        let class = error.kind().class();
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        if matches!(class, ErrorClass::Transient | ErrorClass::Data) {
            let delay = self.back_off(error, now);
            self.lease = LeaseState::Granting { op: None, retry_at: now + delay };
            for entry in self.entries.values_mut().filter(|e| !e.parked) {
                entry.cause = Some(error.clone());
            }
            keys.iter().for_each(|key| self.touch(key));
            return;
        }
        let refusals = self.backoff.failures();
        self.backoff.fail(now, false, None, &mut self.rng);
        let delay = slow_retry(class, refusals, &mut self.rng);
        self.lease = LeaseState::Blocked { retry_at: now + delay };
        let waiting: Vec<_> = keys.into_iter().filter(|key| !self.entries[key].parked).collect();
        self.block(&waiting, error, None);
    }

    fn renewed(
        &mut self,
        op: OpId,
        lease: LeaseNo,
        sent: Instant,
        result: Result<Renewal, Error>,
        now: Instant,
    ) {
        let Some(tenure) = self.tenure_mut().filter(|t| t.lease == lease) else { return };
        // Sent before we slept, and another one is on its way: what it proved is past, but bad news stays true.
        let stale = tenure.renewing != Some(op);
        if !stale {
            tenure.renewing = None;
        }
        let renewal = match result {
            Ok(renewal) => renewal,
            Err(error) if error.kind() == ErrorKind::LeaseLost => {
                self.last_error = Some(error);
                self.lose_lease(LossCause::Revoked, now);
                return;
            }
            Err(_) if stale => return,
            Err(error) => {
                self.renewal_failed(sent, error, now);
                return;
            }
        };
        if stale {
            self.lost_in_renewal(sent, renewal.lost, false, now);
            return;
        }
        tenure.sent = sent;
        let was_cut = std::mem::take(&mut tenure.was_cut);
        if let (Some(_), Some(ttl)) = (tenure.times, renewal.ttl) {
            tenure.times = Some(Times::new(ttl));
        }
        if tenure.safe().is_some_and(|safe| safe <= now) {
            // The answer was so late that it proves nothing any more.
            self.lose_lease(LossCause::Expired, now);
            return;
        }
        let was_away = tenure.failures > 0 || matches!(self.lease, LeaseState::Doubt(_));
        if let LeaseState::Doubt(tenure) = &self.lease {
            self.lease = LeaseState::Held(tenure.clone());
        }
        self.last_error = None;
        self.backoff.succeed(now);
        self.denials.succeed(now);
        // One that never failed says nothing of writes, of which fewer may be wanted.
        if was_away && self.throttled.is_some() && self.was_answered(&renewal) {
            self.takes_more(sent);
        }
        let missed = self.credit(sent, &renewal);
        self.schedule_renewal(sent, &renewal, missed, now);
        self.lost_in_renewal(sent, renewal.lost, was_cut, now);
    }

    /// The registry no longer knows these. A beat can't speak of a publication that was answered after it was sent,
    /// though: it may have overtaken that one. The next beat can.
    ///
    /// If the registry `was_cut` off before, it has probably forgotten everybody, and its clients come back one by one.
    fn lost_in_renewal(&mut self, sent: Instant, mut lost: Vec<InstanceKey>, was_cut: bool, now: Instant) {
        if self.capabilities.proof != Proof::Session {
            let is_older = |at: Option<Instant>| at.is_none_or(|at| at <= sent);
            lost.retain(|key| {
                self.entries.get(key).is_none_or(|e| is_older(e.last_ok) && is_older(e.answered))
            });
        }
        // Whoever was known to be lost before waits already.
        let news = |key: &&InstanceKey| {
            was_cut && self.entries.get(*key).is_some_and(|e| e.is_published() && e.op.is_none())
        };
        let news: Vec<InstanceKey> = lost.iter().filter(news).cloned().collect();
        self.gone(&lost, now);
        let times = self.tenure().and_then(|tenure| tenure.times).filter(|_| !news.is_empty());
        let Some(times) = times else { return };
        let at = now + times.spread_after_retries().mul_f64(self.rng.f64());
        for key in &news {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.retry_at = entry.retry_at.max(Some(at));
            }
        }
    }

    fn renewal_failed(&mut self, sent: Instant, error: Error, now: Instant) {
        let Some(tenure) = self.tenure_mut() else { return };
        let failures = tenure.failures;
        tenure.failures = failures.saturating_add(1);
        tenure.was_cut = true;
        let times = tenure.times;
        let attempt = Attempt::failed(&error);
        let mut pause =
            times.map_or(Duration::from_secs(1), |times| times.retry(failures, attempt, &mut self.rng));
        if let (Attempt::Throttled, Some(asked)) = (attempt, error.retry_after()) {
            // Whoever is asked to wait as long as others still comes apart from them.
            let asked = asked.min(RETRY_AFTER_CAP) + pause;
            let left = self.first_safe().map(|safe| safe.saturating_duration_since(now) / 2);
            let most = left.map_or(asked, |half| half.mul_f64(1.0 - self.rng.f64() / 4.0));
            pause = pause.max(asked.min(most));
        }
        if error.kind().is_throttled()
            && let Some(round) = &mut self.throttled
        {
            round.refused = now;
        }
        self.last_error = Some(error);
        self.renew_again(sent, now, pause);
        self.doubt();
    }

    /// Prolongs the claims that a renewal proves; whether any was missed.
    fn credit(&mut self, sent: Instant, renewal: &Renewal) -> bool {
        let Some(tenure) = self.tenure().cloned() else { return false };
        let mut cleared = Vec::new();
        let mut suspects = Vec::new();
        let mut missed = false;
        for (key, entry) in self.entries.iter_mut().filter(|(_, e)| e.is_published()) {
            if renewal.missed.contains(key) {
                missed = true;
                if entry.phase == Phase::Live {
                    entry.phase = Phase::Suspect;
                    suspects.push((key.clone(), RegistrationEvent::Suspect));
                }
                continue;
            }
            if renewal.lost.contains(key) {
                continue;
            }
            // Where beats are its own, a record published after the renewal was sent has the younger proof.
            let own = entry.last_ok.filter(|_| tenure.proof == Proof::Heartbeat);
            let since = own.map_or(sent, |ok| ok.max(sent));
            entry.last_ok = Some(since);
            entry.safe = tenure.times.map(|times| times.safe(since));
            if entry.phase == Phase::Suspect {
                entry.phase = Phase::Live;
                cleared.push((key.clone(), RegistrationEvent::Cleared));
            }
            self.touched.insert(key.clone());
        }
        self.emit(suspects);
        self.emit(cleared);
        missed
    }

    fn schedule_renewal(&mut self, sent: Instant, renewal: &Renewal, missed: bool, now: Instant) {
        let Some(times) = self.tenure().and_then(|t| t.times) else { return };
        let own = times.period(&mut self.rng);
        let at = sent + renewal.renew_after.map_or(own, |wish| times.wished_period(wish));
        let Some(tenure) = self.tenure_mut() else { return };
        let failures = std::mem::take(&mut tenure.failures);
        if missed {
            // Those that were missed can't wait for a whole period.
            tenure.failures = failures.saturating_add(1);
            let pause = times.retry(failures, Attempt::Partial, &mut self.rng);
            self.renew_again(sent, now, pause);
        }
        if let Some(tenure) = self.tenure_mut() {
            tenure.renew_at =
                if missed { tenure.renew_at.map(|retry| retry.min(at.max(now))) } else { Some(at) };
        }
    }

    fn revoked(&mut self, op: OpId, lease: LeaseNo, result: &Result<(), Error>, now: Instant) {
        self.heard(result.as_ref().err(), now);
        let gone = match result {
            Ok(()) => true,
            Err(error) => matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::NotFound),
        };
        let closing = matches!(&self.lease, LeaseState::Closing(closing) if closing.op == Some(op));
        if gone {
            if closing {
                self.lease = LeaseState::Idle;
            }
            self.lease_is_gone(lease, Deregistration::Confirmed, now);
            return;
        }
        let retry_at =
            now + result.as_ref().err().map_or(Duration::ZERO, |error| self.give_back_later(error, now));
        let waiting = self.retired.iter_mut().find(|r| r.op == Some(op));
        let retired = match (&mut self.lease, waiting) {
            (LeaseState::Closing(own), _) if closing => Some(own),
            (_, waiting) => waiting,
        };
        if let Some(retired) = retired {
            retired.op = None;
            retired.retry_at = retry_at;
        }
    }

    /// A refusal won't pass in seconds; anything else is tried again like every call.
    fn give_back_later(&mut self, error: &Error, now: Instant) -> Duration {
        match error.kind().class() {
            ErrorClass::Auth | ErrorClass::Fatal => spread(BLOCKED_RETRY, 0.2, &mut self.rng),
            ErrorClass::Transient | ErrorClass::Data => self.back_off(error, now),
        }
    }

    pub(super) fn back_off(&mut self, error: &Error, now: Instant) -> Duration {
        let throttled = error.kind().is_throttled();
        let is_bare = throttled && error.retry_after().is_none();
        if let Some(round) = self.throttled.as_mut().filter(|round| is_bare && round.ends > now) {
            // Drawn once for all, or a moment's refusal of many instances would count as a long one of one.
            round.refused = now;
            return round.ends - now;
        }
        let pause = self.backoff.fail(now, throttled, error.retry_after(), &mut self.rng);
        if is_bare {
            self.throttled = Some(Throttled { refused: now, ends: now + pause });
        }
        pause
    }

    /// A call that was sent at `sent` went well: if nothing was refused as too much since, what waits for the end of
    /// such a pause needn't wait any longer. A wait that the registry asked for is kept.
    pub(super) fn takes_more(&mut self, sent: Instant) {
        let Some(round) = self.throttled.filter(|round| round.refused < sent) else { return };
        self.throttled = None;
        for entry in self.entries.values_mut().filter(|e| e.retry_at == Some(round.ends)) {
            entry.retry_at = None;
        }
    }

    /// Whether a renewal that went well was answered for anything at all: with a beat for each instance, one of none is
    /// none.
    fn was_answered(&self, renewal: &Renewal) -> bool {
        let counts = |key| !renewal.missed.contains(key);
        self.capabilities.proof == Proof::Session
            || !renewal.lost.is_empty()
            || self.entries.iter().any(|(key, entry)| entry.is_published() && counts(key))
    }
}

/// The pause after a refusal: a minute where somebody has to mend something, from a second on where a credential may
/// be renewed.
pub(super) fn slow_retry(class: ErrorClass, refusals: u32, rng: &mut fastrand::Rng) -> Duration {
    match class {
        ErrorClass::Auth => {
            let step = Duration::from_secs(1 << refusals.min(6)).min(BLOCKED_RETRY);
            spread(step, 0.2, rng)
        }
        ErrorClass::Transient | ErrorClass::Data | ErrorClass::Fatal => spread(BLOCKED_RETRY, 0.2, rng),
    }
}

fn too_short(ttl: Duration) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "the registry granted a time to live of {ttl:?}; at least {MIN_TTL:?} are needed to renew in time"
        ),
    )
}
