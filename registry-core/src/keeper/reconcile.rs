//! From desired to done: what to ask of the registry, given what it is believed to hold.
//!
//! | wanted | believed | action |
//! |---|---|---|
//! | present | nothing, older, unknown, or on another lease | publish the current record |
//! | present | current | nothing |
//! | absent | something or unknown | withdraw; or revoke, if nothing else is wanted |
//! | absent | nothing | done |
//! | any | a call is in flight | wait for its answer or deadline |

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    entry::{Belief, Entry, Want},
    state::{About, Call, KeeperState, LeaseState, Moment},
    times::CALL_LIMIT,
};
use crate::{
    backend::Publish,
    model::{InstanceKey, RecordVersion},
};

/// Publications after a loss that go out at once; more are paced.
pub(super) const BURST: f64 = 1_000.0;
/// Publications per second beyond the burst.
const PACE: f64 = 200.0;
/// Paced publications leave in groups of at least this many, or all that are left.
const PACE_GROUP: f64 = 50.0;

impl KeeperState {
    pub(super) fn reconcile(&mut self, now: Moment) {
        self.bury(now.mono);
        match &self.lease {
            LeaseState::Idle if self.wants_lease() => {
                self.lease = LeaseState::Granting { op: None, retry_at: now.mono };
                self.ask_for_lease(now);
            }
            LeaseState::Idle => {}
            LeaseState::Granting { .. } | LeaseState::Blocked { .. } => self.ask_for_lease(now),
            LeaseState::Held(_) | LeaseState::Doubt(_) => {
                self.renew(now);
                if self.entries.values().any(Entry::is_wanted) {
                    self.publish(now.mono);
                    self.withdraw_all(now.mono);
                    self.audit(now.mono);
                } else {
                    self.close(now.mono);
                }
            }
            LeaseState::Closing { op: None, retry_at, lease, until } if *retry_at <= now.mono => {
                let (lease, until) = (*lease, *until);
                let op =
                    self.call(Call::Revoke { lease }, About::Revoke(lease), now.mono, now.mono + CALL_LIMIT);
                self.lease = LeaseState::Closing { lease, op: Some(op), retry_at: now.mono, until };
            }
            LeaseState::Closing { .. } => {}
        }
        self.revoke_retired(now.mono);
    }

    /// Whether a lease is of any use: something shall be published, or something unknown be removed.
    pub(super) fn wants_lease(&self) -> bool {
        self.entries.values().any(Entry::is_wanted)
            || (self.retired.is_empty() && self.entries.values().any(|e| e.belief == Belief::Unknown))
    }

    /// Whether the entry needs a call, apart from when.
    pub(super) fn has_work(&self, entry: &Entry) -> bool {
        let Some(tenure) = self.tenure() else { return false };
        match entry.want {
            Want::Present => !entry.is_current(tenure.lease),
            Want::Absent { .. } => entry.belief != Belief::Nothing,
        }
    }

    fn ask_for_lease(&mut self, moment: Moment) {
        let now = moment.mono;
        let due = match &self.lease {
            LeaseState::Granting { op: None, retry_at } | LeaseState::Blocked { retry_at } => {
                *retry_at <= now
            }
            _ => false,
        };
        if !self.wants_lease() {
            let idle =
                matches!(&self.lease, LeaseState::Granting { op: None, .. } | LeaseState::Blocked { .. });
            if idle {
                self.lease = LeaseState::Idle;
            }
            return;
        }
        if due && !moment.alive {
            // A dead application does not come back by itself; look again soon.
            self.lease = LeaseState::Granting { op: None, retry_at: now + CALL_LIMIT };
        } else if due {
            let lease = self.new_lease_no();
            let op = self.call(Call::Grant { lease }, About::Grant(lease), now, now + CALL_LIMIT);
            self.lease = LeaseState::Granting { op: Some(op), retry_at: now };
        }
    }

    fn renew(&mut self, now: Moment) {
        let Some(tenure) = self.tenure().cloned() else { return };
        if tenure.renewing.is_some() || tenure.renew_at.is_none_or(|at| at > now.mono) {
            return;
        }
        if !now.alive {
            // The application says that it is dead: let the registration run out, but look again soon.
            self.doubt();
            if let Some(tenure) = self.tenure_mut() {
                tenure.renew_at = Some(now.mono + tenure.times.map_or(CALL_LIMIT, |t| t.attempt()));
            }
            return;
        }
        let limit = tenure.times.map_or(CALL_LIMIT, |t| t.attempt());
        let deadline = (now.mono + limit).min(tenure.safe().unwrap_or(now.mono + limit));
        let lease = tenure.lease;
        let op = self.call(Call::Renew { lease }, About::Renew(lease), now.mono, deadline);
        if let Some(tenure) = self.tenure_mut() {
            tenure.renewing = Some(op);
        }
    }

    fn publish(&mut self, now: Instant) {
        let Some(lease) = self.tenure().map(|t| t.lease) else { return };
        let mut due: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| e.is_wanted() && e.is_due(now) && !e.is_current(lease))
            .map(|(key, e)| (key.clone(), is_paced(e)))
            .collect();
        if due.is_empty() {
            return;
        }
        if due.iter().any(|(_, paced)| *paced) {
            self.rng.shuffle(&mut due);
            let allowed = self.take_tokens(due.iter().filter(|(_, paced)| *paced).count(), now);
            let mut left = allowed;
            due.retain(|(key, paced)| {
                let goes = !paced || left > 0;
                if *paced && goes {
                    left -= 1;
                }
                if !goes && let Some(entry) = self.entries.get_mut(key) {
                    // From now on it waits for the pace, not for its own timer.
                    entry.retry_at = None;
                }
                goes
            });
        }
        for batch in due.chunks(self.capabilities.publish_batch.max(1)) {
            let mut records = Vec::with_capacity(batch.len());
            let mut about = Vec::with_capacity(batch.len());
            for (key, _) in batch {
                let Some(entry) = self.entries.get(key) else { continue };
                let version = RecordVersion {
                    incarnation: self.config.incarnation,
                    epoch: entry.epoch,
                    sequence: entry.sequence,
                };
                records.push(Publish::new(Arc::clone(&entry.record), version, entry.on_duplicate()));
                about.push((key.clone(), entry.epoch, entry.sequence));
            }
            let keys: Vec<InstanceKey> = about.iter().map(|(key, ..)| key.clone()).collect();
            let op = self.call(
                Call::Publish { lease, records },
                About::Publish(lease, about),
                now,
                now + CALL_LIMIT,
            );
            self.mark_busy(&keys, op);
        }
    }

    fn withdraw_all(&mut self, now: Instant) {
        let Some(lease) = self.tenure().map(|t| t.lease) else { return };
        let due: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| !e.is_wanted() && e.is_due(now) && e.belief != Belief::Nothing)
            .map(|(key, e)| (key.clone(), Arc::clone(&e.record)))
            .collect();
        for batch in due.chunks(self.capabilities.publish_batch.max(1)) {
            let (keys, instances): (Vec<_>, Vec<_>) = batch.iter().cloned().unzip();
            let call = Call::Withdraw { lease, instances };
            let op = self.call(call, About::Withdraw(keys.clone()), now, now + CALL_LIMIT);
            self.mark_busy(&keys, op);
        }
    }

    /// Reads our records back: servers have answered OK without storing, and operators delete by hand. Tombstones
    /// are looked at too, as a write whose answer was lost may land late.
    fn audit(&mut self, now: Instant) {
        let Some(tenure) = self.tenure() else { return };
        if tenure.auditing.is_some() || tenure.audit_at.is_none_or(|at| at > now) {
            return;
        }
        let lease = tenure.lease;
        let about: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| e.op.is_none() && (e.is_current(lease) || !e.is_wanted()))
            .map(|(key, e)| (key.clone(), e.belief))
            .collect();
        if about.is_empty() {
            self.schedule_audit(now);
            return;
        }
        let keys = about.iter().map(|(key, _)| key.clone()).collect();
        let op =
            self.call(Call::Inspect { lease, keys }, About::Inspect(lease, about), now, now + CALL_LIMIT);
        if let Some(tenure) = self.tenure_mut() {
            tenure.auditing = Some(op);
        }
    }

    pub(super) fn schedule_audit(&mut self, now: Instant) {
        let looks = self.tenure().and_then(|t| t.look_every);
        if !self.capabilities.audit && looks.is_none() {
            return;
        }
        let tombstones = self.entries.values().any(|e| !e.is_wanted());
        let mean = match looks {
            Some(every) => every,
            None if tombstones => self.config.ttl.min(self.config.audit_every),
            None => self.config.audit_every,
        };
        let at = now + crate::backoff::spread(mean, 0.2, &mut self.rng);
        if let Some(tenure) = self.tenure_mut() {
            tenure.audit_at = Some(at);
        }
    }

    /// Nothing is wanted any more: giving the lease back removes every record that hangs on it, at once, and makes
    /// a publication still on its way fail.
    fn close(&mut self, now: Instant) {
        let Some(lease) = self.tenure().map(|t| t.lease) else { return };
        let until = now + self.config.ttl.mul_f64(self.capabilities.grace);
        let op = self.call(Call::Revoke { lease }, About::Revoke(lease), now, now + CALL_LIMIT);
        self.lease = LeaseState::Closing { lease, op: Some(op), retry_at: now, until };
    }

    /// Leases that were replaced are given back once nothing wanted hangs on them: earlier would delete records.
    fn revoke_retired(&mut self, now: Instant) {
        let moved = self.has_moved();
        let mut due = Vec::new();
        let mut expired = Vec::new();
        self.retired.retain(|retired| {
            if retired.op.is_none() && retired.until <= now {
                expired.push(retired.lease);
                return false;
            }
            if retired.op.is_none() && moved && retired.retry_at <= now {
                due.push(retired.lease);
            }
            true
        });
        for lease in expired {
            self.forget(lease);
        }
        for lease in due {
            let op = self.call(Call::Revoke { lease }, About::Revoke(lease), now, now + CALL_LIMIT);
            for retired in self.retired.iter_mut().filter(|r| r.lease == lease) {
                retired.op = Some(op);
            }
        }
    }

    /// Whether every wanted record stands under the current lease, so that older ones may go.
    pub(super) fn has_moved(&self) -> bool {
        let current = self.tenure().map(|t| t.lease);
        self.entries.values().filter(|e| e.is_wanted()).all(|e| {
            current.is_some_and(|lease| matches!(e.belief, Belief::Stored { lease: on, .. } if on == lease))
        })
    }

    /// Removes tombstones whose time is over.
    fn bury(&mut self, now: Instant) {
        let keep = 3 * self.config.ttl;
        let over: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| {
                matches!(e.want, Want::Absent { gone: Some(gone), told: true, .. } if gone + keep <= now)
                    && e.op.is_none()
                    && e.belief == Belief::Nothing
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.entries.remove(&key);
        }
    }

    fn mark_busy(&mut self, keys: &[InstanceKey], op: u64) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.op = Some(op);
                entry.retry_at = None;
            }
        }
    }

    // === pacing ===

    fn take_tokens(&mut self, wanted: usize, now: Instant) -> usize {
        let (tokens, since) = self.tokens;
        let refill = since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64() * PACE);
        let tokens = (tokens + refill).min(BURST);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
        let whole = tokens as usize;
        let group = if wanted > whole && tokens < PACE_GROUP { 0 } else { wanted.min(whole) };
        #[expect(clippy::cast_precision_loss, reason = "at most 1,000")]
        let left = tokens - group as f64;
        self.tokens = (left, Some(now));
        group
    }

    /// When enough tokens are back for the publications that wait for them.
    pub(super) fn pace_wake(&self) -> Option<Instant> {
        let lease = self.tenure()?.lease;
        let waiting = (self.entries.values()).any(|e| {
            e.is_wanted() && e.op.is_none() && e.retry_at.is_none() && is_paced(e) && !e.is_current(lease)
        });
        let (tokens, since) = self.tokens;
        let missing = (PACE_GROUP - tokens).max(1.0) / PACE;
        (waiting).then(|| since.map(|since| since + std::time::Duration::from_secs_f64(missing))).flatten()
    }
}

/// Only publications after a loss are paced: a fleet that starts shall be visible at once.
fn is_paced(entry: &Entry) -> bool {
    entry.epoch > 1 && !entry.is_published()
}
