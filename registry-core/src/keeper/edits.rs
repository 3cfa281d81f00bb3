//! What users ask for, and what a panic leaves behind.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    entry::{Belief, Entry, Policy, Want},
    input::Action,
    lease::LeaseState,
    phase::{Deregistration, Phase, RegistrationEvent},
    state::KeeperState,
};
use crate::model::{Instance, InstanceKey};

impl KeeperState {
    pub(super) fn want(&mut self, record: Arc<Instance>, policy: Policy) {
        let key = record.key();
        self.touch(&key);
        let Some(entry) = self.entries.get_mut(&key) else {
            self.entries.insert(key, Entry::new(record, policy));
            return;
        };
        if entry.is_wanted() {
            entry.record = record;
            entry.policy = policy;
            entry.sequence += 1;
            // New content may be what the registry accepts, and an update says that it shall be there.
            if entry.phase == Phase::Blocked || entry.refusals > 0 {
                entry.retry_at = None;
            }
            entry.parked = false;
            return;
        }
        // A new registration under a withdrawn key: the old one ends here, and what still stands is ours to replace.
        if matches!(entry.want, Want::Absent { told: false, .. }) {
            self.tell_deregistered(&key, Deregistration::TtlWillExpire);
        }
        if let Some(tombstone) = self.entries.get_mut(&key) {
            let mut entry = Entry::new(record, policy);
            if tombstone.belief != Belief::Nothing {
                entry.belief = Belief::Unknown;
            }
            entry.op = tombstone.op;
            entry.late_until = tombstone.late_until;
            entry.copies_until = tombstone.copies_until;
            // Writes of the old registration may still be on their way: they must not pass for ours.
            entry.sequence = tombstone.sequence + 1;
            entry.first_sequence = entry.sequence;
            *tombstone = entry;
        }
    }

    pub(super) fn withdraw(&mut self, key: &InstanceKey, by: Instant, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match &mut entry.want {
            Want::Present => {}
            Want::Absent { by: earlier, told: false, .. } => {
                *earlier = (*earlier).max(by);
                return;
            }
            Want::Absent { .. } => return,
        }
        entry.want = Want::Absent { by, told: false, gone: None };
        entry.phase = Phase::Deregistering;
        entry.published = false;
        entry.loss = None;
        entry.retry_at = None;
        entry.safe = None;
        self.touch(key);
        self.settle(key, Deregistration::Confirmed, now);
    }

    /// After a panic nothing in flight will be answered; writes among it may or may not have happened.
    pub(super) fn restart(&mut self, now: Instant) {
        self.in_flight.clear();
        // What the broken step asked for is derived anew below; its events did happen.
        self.actions.retain(|action| !matches!(action, Action::Call { .. }));
        let mut unanswered = Vec::new();
        let mut told = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.op.take().is_some() {
                entry.belief = Belief::Unknown;
                unanswered.push(key.clone());
            }
            if entry.is_wanted() {
                told.push((key.clone(), RegistrationEvent::KeeperRestarted));
            }
        }
        for retired in &mut self.retired {
            retired.op = None;
        }
        match &mut self.lease {
            LeaseState::Granting { op, .. } => *op = None,
            LeaseState::Closing(closing) => closing.op = None,
            LeaseState::Held(tenure) | LeaseState::Doubt(tenure) => {
                tenure.renewing = None;
                tenure.auditing = None;
                tenure.renew_at = tenure.renew_at.map(|_| now);
                if tenure.look_every.is_some() {
                    tenure.audit_at = Some(now);
                }
            }
            LeaseState::Idle | LeaseState::Blocked { .. } => {}
        }
        unanswered.iter().for_each(|key| self.expect_late_write(key, now));
        self.emit(told);
        self.doubt();
    }
}
