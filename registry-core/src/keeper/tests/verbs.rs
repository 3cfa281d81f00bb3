//! What tests do to a simulation, and what they ask of it.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        entry::Policy,
        input::{Input, OpId},
        phase::{Phase, RegistrationEvent},
    },
    model::Fault,
    sim::{Sim, instance, key, millis, secs},
};
use crate::model::{Instance, InstanceKey};

impl Sim {
    pub(super) fn register(&mut self, id: &str) {
        self.want(0, instance(id, "first"), Policy::default());
    }

    pub(super) fn update(&mut self, id: &str, note: &str) {
        self.want(0, instance(id, note), Policy::default());
    }

    pub(super) fn register_many(&mut self, count: usize) {
        let inputs = (0..count).map(|n| {
            let record = instance(&format!("i{n}"), "first");
            self.lives[0].desired.insert(record.key(), Arc::clone(&record));
            self.lives[0].begun.insert(record.key(), 1);
            Input::Want { record, policy: Policy::default() }
        });
        let inputs = inputs.collect();
        self.step(0, Input::Many(inputs));
    }

    pub(super) fn want(&mut self, life: usize, record: Arc<Instance>, policy: Policy) {
        let own = &mut self.lives[life];
        own.confirmed.remove(&record.key());
        if own.desired.insert(record.key(), Arc::clone(&record)).is_none() {
            *own.begun.entry(record.key()).or_default() += 1;
        }
        self.step(life, Input::Want { record, policy });
    }

    pub(super) fn withdraw(&mut self, life: usize, id: &str) {
        self.lives[life].desired.remove(&key(id));
        self.lives[life].leaving = Some(key(id));
        let by = self.mono(life) + secs(3);
        self.step(life, Input::Withdraw { key: key(id), by: self.base + by });
        self.lives[life].leaving = None;
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.note(&format!("fault {fault:?}"));
        if let Fault::Throttled(after) = fault {
            self.throttled = self.throttled.max(after.unwrap_or_default().clamp(secs(30), secs(60)));
        }
        self.refused |= matches!(fault, Fault::Refusing(_));
        if fault == Fault::None && self.registry.fault != Fault::None {
            self.healthy_since = self.now;
        }
        self.registry.fault = fault;
    }

    /// The registry has the fault for so long.
    pub(super) fn outage(&mut self, fault: Fault, long: Duration) {
        self.fault(fault);
        self.run(long);
        self.fault(Fault::None);
    }

    /// The process panics inside its keeper.
    pub(super) fn restart(&mut self, life: usize) {
        self.lives[life].pending.clear();
        self.step(life, Input::Restarted);
    }

    /// The process is stopped; its clocks run on.
    pub(super) fn stop(&mut self, life: usize, long: Duration) {
        self.lives[life].stopped_until = Some(self.now + long);
    }

    /// The machine is suspended: the monotonic clock stands still, the wall clock runs on.
    pub(super) fn suspend(&mut self, life: usize, long: Duration) {
        self.stop(life, long);
        self.lives[life].stalled = Some((self.now, long));
    }

    pub(super) fn phase(&self, id: &str) -> Phase {
        self.lives[0].keeper.entry(&key(id)).map_or(Phase::Absent, |e| e.phase)
    }

    /// The events of one instance of the first life by name, in order.
    pub(super) fn told(&self, id: &str) -> Vec<String> {
        let key = key(id);
        let own = self.lives[0].events.iter().filter(|(_, k, _)| *k == key);
        own.map(|(_, _, event)| super::rules::name(event)).collect()
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.lives[0].events.iter().filter(|(_, _, e)| super::rules::name(e).starts_with(name)).count()
    }

    /// When an event of this name was told first.
    pub(super) fn when(&self, name: &str) -> Option<Duration> {
        let found =
            |e: &&(Duration, InstanceKey, RegistrationEvent)| super::rules::name(&e.2).starts_with(name);
        self.lives[0].events.iter().find(found).map(|(at, ..)| *at)
    }

    /// Whether the registry holds exactly what the first life wants.
    pub(super) fn is_converged(&self) -> bool {
        (self.lives[0].desired.iter()).all(|(key, wanted)| {
            self.registry
                .records
                .get(key)
                .is_some_and(|r| r.content == *wanted && r.version.incarnation == self.lives[0].incarnation)
                && self.lives[0].keeper.entry(key).is_some_and(|e| e.phase == Phase::Live)
        })
    }

    /// R1: everything is back within the time.
    #[track_caller]
    pub(super) fn assert_back_within(&mut self, within: Duration) -> Duration {
        let since = self.now;
        while !self.is_converged() {
            assert!(self.now < since + within, "R1: not back after {within:?}");
            self.run(millis(10));
        }
        self.now - since
    }

    #[track_caller]
    pub(super) fn settled(seed: u64, ids: &[&str]) -> Self {
        let mut sim = Self::new(seed);
        ids.iter().for_each(|id| sim.register(id));
        sim.assert_back_within(secs(1));
        sim
    }

    /// How long the registry ever asked to wait, and the time of an attempt.
    pub(super) fn throttle(&self) -> Duration {
        self.throttled + secs(10)
    }

    /// Whether records or leases vanished, or were claimed by others, without the keeper being told.
    pub(super) fn registry_was_touched_by_hand(&self) -> bool {
        self.registry.touched || self.lives[1..].iter().any(|life| !life.events.is_empty())
    }

    /// The oldest call of the first life that is still waited for.
    pub(super) fn oldest_call(&self) -> OpId {
        self.lives[0].pending.keys().next().copied().unwrap_or(100)
    }
}
