//! The rules that hold whatever happens, written once and asked after every step.
//!
//! | rule | where |
//! |---|---|
//! | R1 back within 10 s, R5 after any outage, R6 all of them | `Sim::assert_back_within` |
//! | R2 no ghost after `Confirmed` | `check` |
//! | R3 never live past the send instant of the last proof plus its time to live | `check` |
//! | R4 one `Lost` per epoch, alternating with `Recovered`, nothing after `Deregistered` | `told_one` |
//! | R7 one instance's fate touches no other | tests |
//! | no busy loop | `Sim::step`, `check` |

use std::time::Duration;

use super::{
    super::phase::{Deregistration, Phase, RegistrationEvent},
    sim::{Life, Sim, secs},
};
use crate::model::InstanceKey;

/// Steps of one life within one second that are never exceeded, beyond one for each call it made.
const STEPS_PER_SECOND: usize = 60;

/// An event's name, with its epoch where that counts.
pub(super) fn name(event: &RegistrationEvent) -> String {
    match event {
        RegistrationEvent::Registered { epoch } => format!("registered {epoch}"),
        RegistrationEvent::Suspect => "suspect".into(),
        RegistrationEvent::Cleared => "cleared".into(),
        RegistrationEvent::Lost { epoch, cause, .. } => format!("lost {epoch} {cause:?}"),
        RegistrationEvent::Recovered { epoch, .. } => format!("recovered {epoch}"),
        RegistrationEvent::LossLasts { .. } => "loss lasts".into(),
        RegistrationEvent::Blocked { .. } => "blocked".into(),
        RegistrationEvent::Deregistered { outcome } => format!("deregistered {outcome:?}"),
        RegistrationEvent::KeeperRestarted => "restarted".into(),
        RegistrationEvent::Lagged { .. } => "lagged".into(),
    }
}

impl Sim {
    /// R2, R3 and the bound on steps, at this instant.
    pub(super) fn check(&self) {
        for (number, life) in self.lives.iter().enumerate() {
            self.no_false_life(number, life);
            self.no_ghost(life);
            let recent = life.steps.iter().rev().take_while(|at| **at + secs(1) > self.now).count();
            let calls = self.registry.arrivals.iter().rev().take_while(|(at, _)| *at + secs(1) > self.now);
            let bound = STEPS_PER_SECOND + 2 * calls.count() + 2 * life.desired.len();
            assert!(recent <= bound, "a busy loop: {recent} steps within a second");
        }
    }

    fn no_false_life(&self, number: usize, life: &Life) {
        let Some(ttl) = self.registry.ttl() else { return };
        if life.stopped_until.is_some_and(|until| self.now < until) {
            // Nobody can ask a process that doesn't run; the first to ask comes before its first step.
            return;
        }
        let lease = life.keeper.tenure().map(|t| t.lease);
        let of_lease = lease.and_then(|lease| life.proofs.get(&lease));
        // One check per lease is enough where the lease is the proof: entries share its deadline.
        let keys = life.desired.keys().filter(|key| self.is_claimed(number, key));
        for key in keys.take(if self.beats_alone() { usize::MAX } else { 3 }) {
            let beat = life.beats.get(key).map(|at| (*at, Some(ttl)));
            let proof = if self.beats_alone() { beat } else { of_lease.copied() };
            let Some((proof, ttl)) = proof else { panic!("R3: {key} is claimed live without any proof") };
            assert!(
                ttl.is_none_or(|ttl| self.now <= proof + ttl),
                "R3: {key} is claimed live {:?} after its last proof",
                self.now - proof
            );
        }
    }

    fn no_ghost(&self, life: &Life) {
        if self.registry.refuse_withdrawals.is_some() {
            return;
        }
        for key in &life.confirmed {
            let Some(record) = self.registry.records.get(key) else { continue };
            if record.version.incarnation != life.incarnation {
                continue;
            }
            let Some(landed) = record.late else { panic!("R2: {key} is there after it was confirmed gone") };
            // A write that lands after everybody gave up is found by the tombstone's next look.
            let seen = landed.max(self.healthy_since) + self.ghost_limit();
            assert!(self.now <= seen, "R2: {key} landed late and still stands after {:?}", self.now - landed);
        }
    }

    /// How long a write that landed late may stand: a look at the tombstones, and time to withdraw.
    pub(super) fn ghost_limit(&self) -> Duration {
        super::sim::TTL.mul_f64(1.2) + secs(8)
    }

    /// R4, as the events come.
    pub(super) fn told_one(&mut self, number: usize, key: InstanceKey, event: RegistrationEvent) {
        let now = self.now;
        let life = &mut self.lives[number];
        let history = life.history.entry(key.clone()).or_default();
        let edge = (history.iter().rev())
            .take_while(|e| !matches!(e, RegistrationEvent::Deregistered { .. }))
            .find(|e| {
                use RegistrationEvent::{Lost, Recovered, Registered};
                matches!(e, Lost { .. } | Recovered { .. } | Registered { .. })
            });
        match (&event, edge) {
            (RegistrationEvent::Registered { epoch }, edge) => {
                assert!(edge.is_none() && *epoch == 1, "R4: {key} registered after {edge:?}");
            }
            (RegistrationEvent::Lost { epoch, .. }, Some(RegistrationEvent::Registered { .. })) => {
                assert_eq!(*epoch, 1, "R4: {key}");
            }
            (
                RegistrationEvent::Lost { epoch, .. },
                Some(RegistrationEvent::Recovered { epoch: own, .. }),
            ) => {
                assert_eq!(epoch, own, "R4: {key}");
            }
            (
                RegistrationEvent::Recovered { old_epoch, epoch, .. },
                Some(RegistrationEvent::Lost { epoch: lost, .. }),
            ) => {
                assert_eq!((old_epoch, *epoch), (lost, lost + 1), "R4: {key}");
            }
            (RegistrationEvent::Lost { .. } | RegistrationEvent::Recovered { .. }, edge) => {
                panic!("R4: {key} is told {event:?} after {edge:?}")
            }
            _ => {}
        }
        if let RegistrationEvent::Deregistered { outcome } = &event {
            let before = history.iter().filter(|e| matches!(e, RegistrationEvent::Deregistered { .. }));
            assert!(before.count() < life.begun[&key], "R4: {key} deregistered twice");
            // Unless it is wanted again: then the record may well be there.
            if *outcome == Deregistration::Confirmed && !life.desired.contains_key(&key) {
                life.confirmed.insert(key.clone());
            }
        } else {
            let wanted = life.desired.contains_key(&key) || life.leaving.as_ref() == Some(&key);
            assert!(wanted, "R4: {key} is told {event:?} although it isn't wanted any more");
        }
        history.push(event.clone());
        life.events.push((now, key, event));
    }

    /// The state agrees with the last of the events that one step told.
    pub(super) fn state_agrees(&self, number: usize, told: &[(InstanceKey, RegistrationEvent)]) {
        let life = &self.lives[number];
        for (key, _) in told {
            let phase = life.keeper.entry(key).map(|e| e.phase);
            let last = life.history[key].last();
            let agrees = match last {
                Some(RegistrationEvent::Registered { .. } | RegistrationEvent::Recovered { .. }) => {
                    phase == Some(Phase::Live)
                }
                Some(RegistrationEvent::Cleared) => phase == Some(Phase::Live),
                Some(RegistrationEvent::Suspect) => phase == Some(Phase::Suspect),
                Some(RegistrationEvent::Lost { .. }) => phase == Some(Phase::Lost),
                Some(RegistrationEvent::Blocked { .. }) => phase == Some(Phase::Blocked),
                Some(RegistrationEvent::Deregistered { .. }) => phase.is_none_or(|p| p != Phase::Live),
                _ => true,
            };
            // The user's own edit, in the same step, comes last.
            let leaving = phase == Some(Phase::Deregistering);
            assert!(agrees || leaving, "{key} is {phase:?} after {last:?}");
        }
    }
}
