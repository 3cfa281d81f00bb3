mod probing;
mod properties;
#[cfg(feature = "metrics")]
mod recording;
mod steps;
mod traffic;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Ejection, EjectionCause,
    machine::{Action, Input, Machine, ProbeId},
};
use crate::{
    Instance,
    balance::{Failure, Slot},
    model::InstanceKey,
};

const SECOND: Duration = Duration::from_secs(1);

fn instance(id: u32) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(format!("i{id}")).endpoint("http://10.0.0.1:80");
    Arc::new(builder.build().unwrap())
}

fn key(id: u32) -> InstanceKey {
    InstanceKey { service: "orders".parse().unwrap(), id: format!("i{id}").parse().unwrap() }
}

/// A machine with its members, carried as the view carries it.
struct World {
    machine: Machine,
    now: Instant,
    members: Vec<Slot>,
    down: usize,
    /// Everything that was done, but for [`Action::Settle`].
    done: Vec<Action>,
}

impl World {
    fn new(config: Ejection, members: u32) -> Self {
        let members = (0..members).map(|index| Slot { index, generation: 0 }).collect();
        let machine = Machine::new(config, 7);
        let mut world = Self { machine, now: Instant::now(), members, down: 0, done: Vec::new() };
        world.settle();
        world
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Action> {
        let actions = self.machine.step(input, self.now);
        self.done.extend(actions.iter().filter(|action| **action != Action::Settle).cloned());
        if actions.iter().any(|action| !matches!(action, Action::Try { .. })) {
            self.settle();
        }
        actions
    }

    fn settle(&mut self) {
        let is_gone = |slot: &Slot| !self.members.contains(slot);
        let gone = self.machine.tracked().map(|(slot, _)| slot).filter(is_gone).collect();
        let members = Input::Members { serving: self.members.len(), down: self.down, gone };
        let actions = self.machine.step(members, self.now);
        assert!(!actions.contains(&Action::Settle), "one round is enough");
        self.done.extend(actions);
    }

    fn slot(&self, index: u32) -> Slot {
        self.members.iter().copied().find(|slot| slot.index == index).unwrap()
    }

    fn outcome(&mut self, index: u32, failure: Option<Failure>, probe: Option<ProbeId>) {
        let slot = self.slot(index);
        if failure.is_none() && probe.is_none() && self.machine.heeds(index) != Some(slot) {
            return;
        }
        self.step(Input::Outcome { slot, key: &key(index), failure, probe });
    }

    fn fail(&mut self, index: u32, failure: Failure, times: u32) {
        (0..times).for_each(|_| self.outcome(index, Some(failure), None));
    }

    fn succeed(&mut self, index: u32) {
        self.outcome(index, None, None);
    }

    /// Ends an interval in which these instances had so many successes.
    fn interval(&mut self, successes: impl IntoIterator<Item = (u32, u32)>) {
        let successes = successes.into_iter().map(|(index, count)| (self.slot(index), count)).collect();
        self.step(Input::Interval { successes });
    }

    fn claim(&mut self) -> Option<(u32, ProbeId)> {
        let actions = self.step(Input::Claim);
        actions.into_iter().find_map(|action| match action {
            Action::Try { slot, probe, .. } => Some((slot.index, probe)),
            _ => None,
        })
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn ejected(&self) -> Vec<InstanceKey> {
        let mut ejected: Vec<_> = self.machine.ejected().cloned().collect();
        ejected.sort();
        ejected
    }

    /// The ejections so far: whom, why, and for how long in whole seconds.
    fn ejections(&self) -> Vec<(InstanceKey, EjectionCause, u64)> {
        let eject = |action: &Action| match action {
            Action::Eject { key, cause, lasts } => Some((key.clone(), *cause, lasts.as_secs())),
            _ => None,
        };
        self.done.iter().filter_map(eject).collect()
    }
}
