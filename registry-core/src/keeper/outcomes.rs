//! What the answers about records mean: published, withdrawn, inspected.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    answers::slow_retry,
    entry::{Belief, Entry, OnMissing, Want},
    input::{LeaseNo, OpId},
    lease::{LeaseState, Tenure},
    phase::{Deregistration, LossCause, Phase, RegistrationEvent},
    state::{KeeperState, LATE},
    times::SHORTEST_LOOK,
};
use crate::{
    Error, ErrorClass, ErrorKind,
    backend::{Outcome, Presence, Proof},
    backoff::{BLOCKED_RETRY, spread},
    model::InstanceKey,
};

/// First audit after an instance turned live.
const FIRST_AUDIT: Duration = Duration::from_secs(5);

/// One pause for all records that one answer refuses alike, so that they are tried again in one batch.
#[derive(Default)]
struct Pauses(Vec<(ErrorClass, Duration)>);

impl KeeperState {
    pub(super) fn published(
        &mut self,
        op: OpId,
        lease: LeaseNo,
        sent: Instant,
        about: &[(InstanceKey, u64, u64)],
        outcomes: Vec<Outcome>,
        now: Instant,
    ) {
        let current = self.tenure().filter(|t| t.lease == lease).cloned();
        let slept = op < self.slept_over;
        let copies_until = Some(sent + LATE * self.config.ttl);
        let mut pauses = Pauses::default();
        let mut lease_lost = false;
        let mut any_taken = false;
        let (mut born, mut back, mut suspects) = (Vec::new(), Vec::new(), Vec::new());
        for ((key, epoch, sequence), outcome) in about.iter().zip(complete(outcomes)) {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.op == Some(op)) else { continue };
            entry.op = None;
            if outcome.is_ok() {
                any_taken = true;
                entry.copies_until = copies_until;
                entry.answered = Some(now);
            }
            match (outcome, &current) {
                (Ok(()), Some(tenure)) if !slept => {
                    entry.belief = Belief::Stored { lease, epoch: *epoch, sequence: *sequence };
                    if !entry.is_wanted() || *sequence < entry.first_sequence {
                        continue;
                    }
                    match go_live(entry, tenure, sent, now) {
                        Some(event @ RegistrationEvent::Recovered { .. }) => back.push((key.clone(), event)),
                        Some(event) => born.push((key.clone(), event)),
                        None => {}
                    }
                    let doubted =
                        matches!(self.lease, LeaseState::Doubt(_)) && tenure.proof == Proof::Session;
                    if doubted && entry.phase == Phase::Live {
                        entry.phase = Phase::Suspect;
                        suspects.push((key.clone(), RegistrationEvent::Suspect));
                    }
                }
                // Its lease was given up, or we slept meanwhile: perhaps it stands, perhaps no more.
                (Ok(()), _) => entry.belief = Belief::Unknown,
                (Err(error), _) if error.kind() == ErrorKind::LeaseLost => {
                    entry.belief = Belief::Nothing;
                    lease_lost |= current.is_some();
                }
                (Err(error), _) => {
                    if error.kind().is_ambiguous() {
                        entry.belief = Belief::Unknown;
                        self.expect_late_write(key, now);
                    }
                    self.refused_record(key, &error, &mut pauses, now);
                }
            }
            self.touch(key);
            self.settle(key, Deregistration::Confirmed, now);
        }
        if any_taken {
            self.takes_more(sent);
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
        self.emit(suspects);
        if lease_lost {
            self.lose_lease(LossCause::Revoked, now);
        }
    }

    /// One record was refused: that instance alone waits.
    fn refused_record(&mut self, key: &InstanceKey, error: &Error, pauses: &mut Pauses, now: Instant) {
        let class = error.kind().class();
        let refusals = self.entries.get(key).map_or(0, |e| e.refusals);
        let known = pauses.0.iter().find(|(of, _)| *of == class).map(|(_, pause)| *pause);
        let pause = known.unwrap_or_else(|| match class {
            ErrorClass::Transient => self.back_off(error, now),
            _ => slow_retry(class, refusals, &mut self.rng),
        });
        if known.is_none() {
            pauses.0.push((class, pause));
        }
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.cause = Some(error.clone());
        entry.retry_at = Some(now + pause);
        if class == ErrorClass::Transient {
            return;
        }
        entry.refusals += 1;
        if !entry.is_wanted() {
            return;
        }
        if error.kind() == ErrorKind::Conflict {
            entry.belief = Belief::Nothing;
            self.lose(std::slice::from_ref(key), LossCause::Superseded, now);
        }
        // A refused update of a record that still stands leaves it standing, and says so.
        self.block(std::slice::from_ref(key), error, Some(now + pause));
    }

    pub(super) fn withdrawn(&mut self, op: OpId, keys: &[InstanceKey], outcomes: &[Outcome], now: Instant) {
        let mut pauses = Pauses::default();
        for (key, outcome) in keys.iter().zip(complete(outcomes.to_vec())) {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.op == Some(op)) else { continue };
            entry.op = None;
            match outcome {
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::LeaseLost) => {
                    if error.kind().is_ambiguous() {
                        // It may land on a registration that follows under the same key.
                        self.expect_late_write(key, now);
                    }
                    self.refused_record(key, &error, &mut pauses, now);
                }
                Ok(()) | Err(_) => {
                    entry.belief = Belief::Nothing;
                    entry.refusals = 0;
                }
            }
            self.settle(key, Deregistration::Confirmed, now);
        }
    }

    /// Records that vanished although the lease lives.
    pub(super) fn gone(&mut self, keys: &[InstanceKey], now: Instant) {
        let mut respected = Vec::new();
        for key in keys {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            if !entry.is_published() && entry.op.is_some() {
                // Known already, and its publication is on its way.
                continue;
            }
            entry.belief = Belief::Nothing;
            if entry.is_published() && entry.policy.on_missing == OnMissing::Respect {
                entry.parked = true;
                respected.push(key.clone());
            }
        }
        self.lose(keys, LossCause::Missing, now);
        let cause =
            Error::new(ErrorKind::NotFound, "the record was deleted at the registry, which is respected");
        self.block(&respected, &cause, None);
        keys.iter().for_each(|key| self.settle(key, Deregistration::Confirmed, now));
    }

    pub(super) fn inspected(
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
        let tenure = tenure.clone();
        let looked = tenure.look_every.is_some();
        let presences = match result {
            Ok(presences) => presences,
            Err(error) => return self.audit_failed(sent, error, now),
        };
        let (mut missing, mut foreign, mut failing) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = Vec::new();
        let untold = std::iter::repeat(Presence::Unknown);
        for ((key, believed), presence) in about.iter().zip(presences.into_iter().chain(untold)) {
            // A record that was written or withdrawn since the question has its own answer.
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.op.is_none() && e.belief == *believed)
            else {
                continue;
            };
            match (presence, &mut entry.want) {
                (Presence::Ours { .. } | Presence::Failing, Want::Absent { gone, .. }) => {
                    // Landed late: the tombstone's time begins anew once it is removed.
                    *gone = None;
                    entry.belief = Belief::Unknown;
                }
                (Presence::Missing | Presence::Foreign, Want::Absent { .. }) => {
                    entry.belief = Belief::Nothing;
                }
                (Presence::Ours { version }, Want::Present) => {
                    if (version.epoch, version.sequence) != (entry.epoch, entry.sequence) {
                        entry.belief = Belief::Unknown;
                    }
                    // In whatever version, others see it.
                    if looked && entry.published {
                        entry.last_ok = entry.last_ok.max(Some(sent));
                        seen.push(key.clone());
                    }
                }
                (Presence::Missing, Want::Present) => missing.push(key.clone()),
                (Presence::Foreign, Want::Present) => foreign.push(key.clone()),
                (Presence::Failing, Want::Present) => {
                    // Nobody deleted it, so that there is nothing to respect.
                    entry.belief = Belief::Unknown;
                    failing.push(key.clone());
                }
                (Presence::Unknown, Want::Present) if entry.published => {
                    entry.safe = entry.safe.or_else(|| tenure.unseen_until(entry.last_ok, now));
                    self.touched.insert(key.clone());
                }
                (Presence::Unknown, _) => {}
            }
        }
        self.gone(&missing, now);
        self.lose(&failing, LossCause::Failing, now);
        for key in &foreign {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.belief = Belief::Nothing;
                entry.refusals += 1;
            }
        }
        self.lose(&foreign, LossCause::Superseded, now);
        let cause = Error::new(ErrorKind::Conflict, "another process published under the same instance id");
        let retry = now + spread(BLOCKED_RETRY, 0.2, &mut self.rng);
        self.block(&foreign, &cause, Some(retry));
        about.iter().for_each(|(key, _)| self.settle(key, Deregistration::Confirmed, now));
        self.seen_again(&seen);
        self.schedule_audit(now);
    }

    /// A look got no answer where looks are all that tells: every instance is suspect, and lost if it stays so.
    fn unseen(&mut self, now: Instant) {
        let Some(tenure) = self.tenure().cloned() else { return };
        let mut suspects = Vec::new();
        for (key, entry) in self.entries.iter_mut().filter(|(_, e)| e.is_published()) {
            entry.safe = entry.safe.or_else(|| tenure.unseen_until(entry.last_ok, now));
            self.touched.insert(key.clone());
            if entry.phase == Phase::Live {
                entry.phase = Phase::Suspect;
                suspects.push((key.clone(), RegistrationEvent::Suspect));
            }
        }
        self.emit(suspects);
    }

    /// These were found by a look, or nothing can be told of any: nobody doubts them.
    fn seen_again(&mut self, keys: &[InstanceKey]) {
        let mut cleared = Vec::new();
        for key in keys {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.is_published() && e.is_doubted()) else {
                continue;
            };
            entry.safe = None;
            self.touched.insert(key.clone());
            if entry.phase == Phase::Suspect {
                entry.phase = Phase::Live;
                cleared.push((key.clone(), RegistrationEvent::Cleared));
            }
        }
        self.emit(cleared);
    }

    fn audit_failed(&mut self, sent: Instant, error: Error, now: Instant) {
        if error.kind() == ErrorKind::LeaseLost {
            self.last_error = Some(error);
            self.lose_lease(LossCause::Revoked, now);
            return;
        }
        let look_every = self.tenure().and_then(|tenure| tenure.look_every);
        let is_silent = error.kind().is_ambiguous();
        match (look_every, is_silent) {
            (Some(_), true) => self.unseen(now),
            (Some(_), false) => {
                // Whoever refuses is there.
                if let Some(tenure) = self.tenure_mut() {
                    tenure.looked = sent;
                }
                let keys: Vec<_> = self.entries.keys().cloned().collect();
                self.seen_again(&keys);
            }
            (None, _) => {}
        }
        // Not on the shared backoff: reads may be refused while everything else works.
        let around = match error.kind().class() {
            // Until the claim ends there is time for some more.
            ErrorClass::Transient if is_silent && look_every.is_some() => {
                look_every.map_or(FIRST_AUDIT, |every| FIRST_AUDIT.min(every / 8).max(SHORTEST_LOOK))
            }
            ErrorClass::Transient => {
                FIRST_AUDIT.max(error.retry_after().unwrap_or_default().min(BLOCKED_RETRY))
            }
            _ => BLOCKED_RETRY,
        };
        tracing::debug!(error = format!("{error:#}"), "the records can't be read back");
        let at = now + spread(around, 0.2, &mut self.rng);
        if let Some(tenure) = self.tenure_mut() {
            tenure.audit_at = Some(at);
        }
    }
}

/// The outcomes, and an error for each that the backend forgot.
fn complete(outcomes: Vec<Outcome>) -> impl Iterator<Item = Outcome> {
    let missing = || Err(Error::new(ErrorKind::Protocol, "the backend gave no outcome for this record"));
    outcomes.into_iter().chain(std::iter::repeat_with(missing))
}

/// Registering, Lost or Blocked → Live.
fn go_live(entry: &mut Entry, tenure: &Tenure, sent: Instant, now: Instant) -> Option<RegistrationEvent> {
    let since = if tenure.proof == Proof::Session { tenure.sent } else { sent };
    let safe = tenure.times.map(|times| times.safe(since));
    if safe.is_some_and(|safe| safe <= now) {
        // Answered so late that it may have expired already.
        entry.belief = Belief::Unknown;
        return None;
    }
    entry.refusals = 0;
    entry.cause = None;
    // An update may cross the news of a deletion that is respected: it says that the record shall be there.
    entry.parked = false;
    entry.last_ok = Some(since);
    entry.safe = safe;
    if entry.published {
        // Suspect stays so until a renewal or a look clears it.
        if entry.phase == Phase::Blocked {
            entry.phase = Phase::Live;
        }
        return None;
    }
    entry.phase = Phase::Live;
    entry.published = true;
    entry.was_live = true;
    Some(match entry.loss.take() {
        Some(loss) => RegistrationEvent::Recovered {
            old_epoch: entry.epoch - 1,
            epoch: entry.epoch,
            downtime: now.saturating_duration_since(loss.at),
        },
        None => RegistrationEvent::Registered { epoch: entry.epoch },
    })
}
