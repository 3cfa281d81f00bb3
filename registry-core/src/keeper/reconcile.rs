//! From desired to done: what to ask of the registry, given what it is believed to hold.
//!
//! | wanted | believed | action |
//! |---|---|---|
//! | present | nothing, older, unknown, or on another lease | publish the current record |
//! | present | current | nothing |
//! | absent | something or unknown | withdraw; or revoke, if nothing else is wanted |
//! | absent | nothing | done |
//! | any | a call is in flight | wait for its answer or deadline |

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    entry::{Belief, Entry, Want},
    input::{Call, LeaseNo, Moment, OpId},
    lease::{About, LeaseState},
    pace::is_paced,
    phase::Deregistration,
    state::KeeperState,
    times::{CALL_LIMIT, SHORTEST_LOOK},
};
use crate::{
    backend::Publish,
    model::{InstanceKey, RecordVersion},
};

impl KeeperState {
    pub(super) fn reconcile(&mut self, now: Moment) {
        self.bury(now.mono);
        match &self.lease {
            LeaseState::Idle => self.ask_if_wanted(now),
            LeaseState::Granting { .. } | LeaseState::Blocked { .. } => self.ask_for_lease(now),
            LeaseState::Held(_) | LeaseState::Doubt(_) => {
                if self.entries.values().any(Entry::is_wanted) {
                    self.renew(now);
                    self.publish(now);
                    self.withdraw_all(now.mono);
                    self.audit(now.mono);
                } else {
                    self.close(now.mono);
                }
            }
            LeaseState::Closing(closing) if closing.has_expired(now.mono) => {
                let lease = closing.lease;
                self.lease = LeaseState::Idle;
                self.lease_is_gone(lease, Deregistration::TtlWillExpire, now.mono);
                self.ask_if_wanted(now);
            }
            LeaseState::Closing(closing) if closing.op.is_none() => {
                let mut closing = closing.clone();
                if self.entries.values().any(Entry::is_wanted) {
                    // Wanted again before the registry confirmed: let the old lease go and start anew.
                    self.retired.push(closing);
                    self.ask_if_wanted(now);
                } else if closing.retry_at <= now.mono {
                    closing.op = Some(self.revoke(closing.lease, now.mono));
                    self.lease = LeaseState::Closing(closing);
                }
            }
            LeaseState::Closing(_) => {}
        }
        self.revoke_retired(now.mono);
    }

    /// Whether a lease is of any use: something shall be published, or something unknown be removed.
    pub(super) fn wants_lease(&self) -> bool {
        self.entries.values().any(Entry::is_wanted)
            || (self.retired.is_empty() && self.entries.values().any(|e| e.belief != Belief::Nothing))
    }

    /// Whether the entry needs a call, apart from when.
    pub(super) fn has_work(&self, entry: &Entry) -> bool {
        let Some(tenure) = self.tenure() else { return false };
        match entry.want {
            Want::Present => !entry.parked && !entry.is_current(tenure.lease),
            Want::Absent { .. } => entry.belief != Belief::Nothing,
        }
    }

    fn ask_if_wanted(&mut self, now: Moment) {
        if self.wants_lease() {
            self.lease = LeaseState::Granting { op: None, retry_at: now.mono };
            self.ask_for_lease(now);
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
            self.renew_again(now.mono, now.mono, tenure.times.map_or(CALL_LIMIT, |t| t.attempt()));
            return;
        }
        let mut deadline = now.mono + tenure.times.map_or(CALL_LIMIT, |t| t.attempt());
        if let (Some(safe), Some(times)) = (self.first_safe(), tenure.times) {
            let chance = times.last_chance(safe, self.chance);
            deadline = deadline.min(if now.mono < chance { chance } else { safe });
        }
        let lease = tenure.lease;
        let op = self.call(Call::Renew { lease }, About::Renew(lease), now.mono, deadline);
        if let Some(tenure) = self.tenure_mut() {
            tenure.renewing = Some(op);
        }
    }

    /// The first claim that ends unless it is renewed.
    pub(super) fn first_safe(&self) -> Option<Instant> {
        let entries = self.entries.values().filter(|e| e.is_published()).filter_map(|e| e.safe);
        entries.chain(self.tenure()?.safe()).min()
    }

    /// Schedules the next attempt after one, sent at `sent`, that didn't count.
    pub(super) fn renew_again(&mut self, sent: Instant, now: Instant, pause: Duration) {
        let mut at = now + pause;
        if let (Some(safe), Some(times)) = (self.first_safe(), self.tenure().and_then(|t| t.times)) {
            let chance = times.last_chance(safe, self.chance);
            // Only an attempt that began before the last chance leaves it to another; what would begin just before
            // has no time for itself, and begins earlier if there is any.
            let least = times.shortest_attempt();
            if sent < chance && at + least > chance {
                at = if at < chance && now + least < chance { chance - least } else { chance.max(now) };
            }
        }
        if let Some(tenure) = self.tenure_mut() {
            tenure.renew_at = Some(at);
        }
    }

    fn publish(&mut self, moment: Moment) {
        let now = moment.mono;
        let Some(lease) = self.tenure().map(|t| t.lease) else { return };
        let mut due: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| e.is_wanted() && e.is_due(now) && self.has_work(e))
            .map(|(key, e)| (key.clone(), is_paced(e)))
            .collect();
        if due.is_empty() {
            return;
        }
        if !moment.alive {
            // A publication is a beat too; what the application withholds, it withholds here as well.
            for (key, _) in &due {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.retry_at = Some(now + CALL_LIMIT);
                }
            }
            return;
        }
        if due.iter().any(|(_, paced)| *paced) {
            self.rng.shuffle(&mut due);
            let mut left = self.pace.take(due.iter().filter(|(_, paced)| *paced).count(), now);
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
            .filter(|(_, e)| !e.is_wanted() && e.is_due(now) && self.has_work(e))
            .map(|(key, e)| (key.clone(), Arc::clone(&e.record)))
            .collect();
        for batch in due.chunks(self.capabilities.publish_batch.max(1)) {
            let (keys, instances): (Vec<_>, Vec<_>) = batch.iter().cloned().unzip();
            let call = Call::Withdraw { lease, instances };
            let op = self.call(call, About::Withdraw(keys.clone()), now, now + CALL_LIMIT);
            self.mark_busy(&keys, op);
        }
    }

    /// Reads our records back: servers have answered OK without storing, and operators delete by hand. Also where an older
    /// record is claimed to stand, as its update may be refused for long; and tombstones, as a write whose answer was lost
    /// may land late.
    fn audit(&mut self, now: Instant) {
        let Some(tenure) = self.tenure() else { return };
        if tenure.auditing.is_some() || tenure.audit_at.is_none_or(|at| at > now) {
            return;
        }
        let lease = tenure.lease;
        let about: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| e.op.is_none() && (e.is_current(lease) || e.is_published() || !e.is_wanted()))
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
        let late = self.entries.values().any(|e| !e.is_wanted() || e.awaits_late_write(now));
        if !self.capabilities.audit && looks.is_none() && !late {
            if let Some(tenure) = self.tenure_mut() {
                tenure.audit_at = None;
            }
            return;
        }
        let is_open = self.entries.values().any(|e| e.is_published() && e.is_doubted());
        let mean = match looks {
            // Twice at least before a claim ends, and not so often that a registry in trouble has more of it.
            Some(every) if is_open => (every / 4).max(SHORTEST_LOOK),
            Some(every) => every,
            None if late => self.config.ttl.min(self.config.audit_every),
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
        let Some(mut closing) = self.tenure().map(|tenure| self.retire(tenure, now)) else { return };
        closing.op = Some(self.revoke(closing.lease, now));
        self.lease = LeaseState::Closing(closing);
    }

    fn revoke(&mut self, lease: LeaseNo, now: Instant) -> OpId {
        self.call(Call::Revoke { lease }, About::Revoke(lease), now, now + CALL_LIMIT)
    }

    /// Leases that were replaced are given back once nothing wanted hangs on them: earlier would delete records.
    fn revoke_retired(&mut self, now: Instant) {
        let expired: Vec<_> = self.retired.iter().filter(|r| r.has_expired(now)).map(|r| r.lease).collect();
        for lease in expired {
            self.lease_is_gone(lease, Deregistration::TtlWillExpire, now);
        }
        if !self.has_moved() {
            return;
        }
        for at in 0..self.retired.len() {
            if self.retired[at].op.is_none() && self.retired[at].retry_at <= now {
                self.retired[at].op = Some(self.revoke(self.retired[at].lease, now));
            }
        }
    }

    /// Whether no wanted record can hang on an older lease any more, so that those may go.
    pub(super) fn has_moved(&self) -> bool {
        let current = self.tenure().map(|t| t.lease);
        self.entries.values().filter(|e| e.is_wanted()).all(|e| match e.belief {
            Belief::Nothing => e.op.is_none() || current.is_some(),
            Belief::Stored { lease, .. } => current == Some(lease),
            Belief::Unknown => false,
        })
    }

    /// Removes tombstones whose time is over.
    fn bury(&mut self, now: Instant) {
        let over: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| self.grave_time(e).is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.entries.remove(&key);
        }
    }

    fn mark_busy(&mut self, keys: &[InstanceKey], op: OpId) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.op = Some(op);
                entry.retry_at = None;
            }
        }
    }
}
