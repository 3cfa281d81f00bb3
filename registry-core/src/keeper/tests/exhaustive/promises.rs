//! What a keeper promises, beyond the [`rules`](super::super::rules) that each of its steps is held against.

use std::time::Duration;

use super::{
    super::{
        model::Fault,
        rules,
        sim::{Traffic, key, millis, secs},
    },
    choice::BYSTANDER,
    world::Checked,
};
use crate::{keeper::phase::RegistrationEvent, model::InstanceKey};

impl Checked {
    /// R7: what befell one instance alone isn't told of the other.
    pub(super) fn spares_the_bystander(&self) {
        let told = self.sim.lives[0].history.get(&key(BYSTANDER)).into_iter().flatten();
        for event in told.filter(|_| !self.shared) {
            let own = matches!(event, RegistrationEvent::Registered { .. });
            assert!(own, "R7: the bystander is told {}", rules::name(event));
        }
    }

    /// Until when the last proof holds, counted by us: from the instant at which it was asked for.
    pub(super) fn proof_ends(&self, key: &InstanceKey) -> Option<Duration> {
        let life = &self.sim.lives[0];
        let ttl = self.sim.registry.ttl()?;
        let proof = if self.sim.beats_alone() {
            life.beats.get(key).copied()
        } else {
            life.keeper.tenure().and_then(|t| life.proofs.get(&t.lease)).map(|(sent, _)| *sent)
        };
        proof.map(|proof| proof + ttl)
    }

    /// R3 of what is told: once a step was taken after its last proof was over, an instance is `Lost`, and not merely
    /// in doubt. Suspends are left out, as the machine's own clock doesn't show them.
    pub(super) fn tells_losses_in_time(&self) {
        let life = &self.sim.lives[0];
        let moment = self.sim.moment(0);
        let steps = life.last_step == Some((moment.mono - self.sim.base, moment.wall));
        if !steps || life.frozen > Duration::ZERO {
            return;
        }
        for (key, _) in life.keeper.entries.iter().filter(|(_, entry)| entry.is_published()) {
            let end = self.proof_ends(key);
            let now = self.sim.now;
            assert!(
                end.is_some_and(|end| now <= end),
                "R3: {key} isn't told lost at {now:?}, proven until {end:?}"
            );
        }
    }

    /// R1 of what is told: `Registered` isn't told of an earlier registration's record under the same key. One that
    /// landed late is left to the audit.
    pub(super) fn registers_its_own(&self) {
        let life = &self.sim.lives[0];
        for (_, key, event) in life.events.iter().filter(|_| !self.sim.landed_late) {
            let (RegistrationEvent::Registered { .. }, Some(stored), Some(entry)) =
                (event, self.sim.registry.records.get(key), life.keeper.entry(key))
            else {
                continue;
            };
            assert!(
                stored.version.sequence >= entry.first_sequence,
                "R1: {key} is told registered while its predecessor's record stands"
            );
        }
    }

    /// R1, R2, R5 and R6: with the faults over, all that is wanted comes back, stays, and nothing else is left.
    pub(super) fn comes_back(mut self) {
        self.sim.fault(Fault::None);
        // What is still on its way to the registry never comes.
        let pending = self.sim.lives[0].pending.clone();
        self.sim.queue.retain(|_, traffic| match traffic {
            Traffic::Arrive { op, .. } | Traffic::Answer { op, .. } => pending.contains_key(op),
        });
        let refused = !self.sim.registry.refuse.is_empty();
        self.sim.registry.refuse.clear();
        let patience = match (self.deleted, refused) {
            (true, _) => secs(150),
            (false, true) => secs(75),
            (false, false) => secs(10),
        };
        let late = if self.sim.landed_late { self.sim.ghost_limit() } else { Duration::ZERO };
        self.comes_back_within(patience.max(late));
        self.sim.run(secs(6));
        assert!(self.sim.is_converged(), "R1: and stays");
        if self.sim.landed_late {
            self.sim.run(self.sim.ghost_limit());
        }
        let wanted = &self.sim.lives[0].desired;
        let left = self.sim.registry.records.keys().find(|key| !wanted.contains_key(key));
        assert!(left.is_none(), "R2: {left:?} is left");
    }

    /// R1, in as few steps as there are instants.
    fn comes_back_within(&mut self, patience: Duration) {
        let since = self.sim.now;
        while !self.sim.is_converged() {
            assert!(self.sim.now < since + patience, "R1: not back after {patience:?}");
            let on_wire = self.sim.queue.keys().next().map(|(at, _)| *at);
            let next = self.next_instant().into_iter().chain(on_wire).min();
            let next = next.unwrap_or(since + patience).saturating_sub(self.sim.now);
            self.sim.run(next.max(millis(1)));
        }
    }
}
