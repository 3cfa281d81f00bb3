//! A keeper, its registry, and the wire between them in the explorer's hand.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        model::Fault,
        sim::{Sim, Traffic, instance, secs},
    },
    Scope, Start,
    choice::{BYSTANDER, Choice, STRUCK},
};
use crate::{
    explore::World,
    keeper::{
        entry::Policy,
        input::{Input, OpId},
    },
};

#[derive(Clone)]
pub(super) struct Checked {
    pub(super) sim: Sim,
    pub(super) scope: Scope,
    /// Whether anything happened that may concern the bystander.
    pub(super) shared: bool,
    /// Whether a record vanished that only an audit finds missing.
    pub(super) deleted: bool,
}

impl Checked {
    /// Both instances are wanted; nothing has happened yet, or both have gone live.
    pub(super) fn new(mut sim: Sim, scope: Scope, aloud: bool) -> Self {
        sim.quiet = !aloud;
        sim.register(STRUCK);
        sim.register(BYSTANDER);
        if scope.start == Start::Settled {
            sim.run(secs(1));
            assert!(sim.is_converged() && sim.queue.is_empty(), "the start is settled");
        }
        let mut world = Self { sim, scope, shared: false, deleted: false };
        world.forget();
        world
    }

    pub(super) fn fault(&self) -> Fault {
        self.sim.registry.fault
    }

    /// What is on the wire, requests and answers.
    fn wire(&self) -> impl Iterator<Item = (OpId, bool)> {
        self.sim.queue.values().map(|traffic| match traffic {
            Traffic::Arrive { op, .. } => (*op, true),
            Traffic::Answer { op, .. } => (*op, false),
        })
    }

    fn is_on_wire(&self, op: OpId) -> bool {
        self.wire().any(|(other, _)| other == op)
    }

    fn hangs(&self) -> bool {
        matches!(self.fault(), Fault::Hang(_))
    }

    /// Whether a deadline that passes is a fault of its own.
    fn is_costly(&self, op: OpId) -> bool {
        self.fault() == Fault::None && self.is_on_wire(op)
    }

    fn overdue(&self) -> impl Iterator<Item = OpId> {
        let mono = self.sim.mono(0);
        self.sim.lives[0].pending.iter().filter(move |(_, p)| p.deadline <= mono).map(|(op, _)| *op)
    }

    fn wakes(&self) -> bool {
        let mono = self.sim.base + self.sim.mono(0);
        self.sim.lives[0].keeper.next_wake().is_some_and(|at| at <= mono)
    }

    pub(super) fn next_instant(&self) -> Option<Duration> {
        let next = self.sim.next_of(0).into_iter().chain(self.sim.registry.next_expiry()).min()?;
        (next > self.sim.now).then_some(next)
    }

    /// Nothing is left to happen but what happens when nothing happens.
    fn is_over(&self) -> bool {
        let open = self.sim.now < self.scope.open && (self.scope.faults > 0 || self.scope.edits > 0);
        let calm = self.fault() == Fault::None
            && self.sim.registry.refuse.is_empty()
            && self.sim.queue.is_empty()
            && self.sim.lives[0].pending.is_empty()
            && !self.deleted
            && self.sim.is_converged();
        self.sim.now >= self.scope.until || (!open && calm)
    }

    /// Whether the call was made while faults begin.
    fn is_early(&self, op: OpId) -> bool {
        self.sim.lives[0].pending.get(&op).is_some_and(|call| call.sent < self.scope.open)
    }

    fn may_go_wrong(&self) -> bool {
        let early =
            self.sim.now < self.scope.open || self.sim.lives[0].pending.keys().any(|op| self.is_early(*op));
        early && (self.scope.faults > 0 || self.scope.edits > 0)
    }

    /// Forgets what no rule asks about.
    fn forget(&mut self) {
        let now = self.sim.now;
        self.sim.registry.owners.clear();
        self.sim.registry.writes.clear();
        self.sim.registry.arrivals.retain(|(at, _)| *at + secs(1) > now);
        let life = &mut self.sim.lives[0];
        life.events.clear();
        life.emissions.clear();
        life.steps.retain(|at| *at + secs(1) > now);
    }
}

impl World for Checked {
    type Choice = Choice;

    fn choices(&self) -> Vec<Choice> {
        if self.is_over() {
            return Vec::new();
        }
        let mut choices = Vec::new();
        if self.sim.now < self.scope.open {
            if self.scope.faults > 0 && !self.scope.losses {
                choices.extend(self.faults());
            }
            if self.scope.edits > 0 {
                choices.extend(self.edits());
            }
        }
        let wakes = self.wakes();
        // With nothing left to go wrong, answers come in any order, but without delay.
        let spent = self.fault() == Fault::None && !self.may_go_wrong();
        let busy = || self.sim.lives[0].pending.keys().any(|op| self.is_on_wire(*op));
        let waits = wakes || self.overdue().next().is_some() || (spent && busy());
        if !waits && self.next_instant().is_some() {
            choices.push(Choice::Tick);
            // Sooner, at the same instant, would be no other order of anything.
            choices.extend((self.fault() != Fault::None).then_some(Choice::Heal));
        }
        let may_expire = |op: &OpId| !self.is_costly(*op) || (self.scope.faults > 0 && self.is_early(*op));
        choices.extend(self.overdue().filter(may_expire).map(Choice::Expire));
        if wakes {
            choices.push(Choice::Wake);
        }
        if self.fault() == Fault::None {
            choices.extend(self.wire().map(|(op, _)| Choice::Deliver(op)));
        }
        choices
    }

    fn take(&mut self, choice: &Choice) {
        // The same draws in each state, so that states are equal by whichever way they were reached.
        self.sim.lives[0].keeper.rng = fastrand::Rng::with_seed(1);
        let alone = matches!(
            choice,
            Choice::Deliver(_) | Choice::Wake | Choice::Tick | Choice::Delete | Choice::Reject
        ) || matches!(choice, Choice::Update(id) | Choice::Withdraw(id) if *id == STRUCK);
        self.shared |= !alone;
        match choice {
            Choice::Deliver(op) => self.deliver(*op),
            Choice::Expire(op) => {
                self.scope.faults -= u8::from(self.is_costly(*op));
                self.sim.expire(0, *op);
            }
            Choice::Wake => self.sim.step(0, Input::Wake),
            Choice::Tick => {
                self.sim.now = self.next_instant().unwrap_or(self.sim.now);
                if !self.scope.late {
                    self.drop_late_answers();
                }
                self.sim.registry.advance(self.sim.now);
                self.sim.check();
            }
            Choice::Update(id) => {
                self.scope.edits -= 1;
                let content = instance(id, &format!("{} edits left", self.scope.edits));
                self.sim.want(0, Arc::clone(&content), Policy::default());
            }
            Choice::Withdraw(id) => {
                self.scope.edits -= 1;
                self.sim.withdraw(0, id);
            }
            Choice::Heal => self.sim.fault(Fault::None),
            fault => {
                self.scope.faults -= 1;
                self.strike(fault);
            }
        }
        // In an outage the registry does at once whatever it does with a request.
        while self.fault() != Fault::None {
            let hangs = self.hangs();
            let next = self.wire().find(|(_, arrives)| *arrives || !hangs);
            let Some((op, _)) = next else { break };
            self.deliver(op);
        }
        self.spares_the_bystander();
        self.tells_losses_in_time();
        self.registers_its_own();
        self.forget();
    }

    fn fingerprint(&self) -> u64 {
        self.print()
    }

    fn end(self) {
        self.comes_back();
    }
}

impl Checked {
    fn deliver(&mut self, op: OpId) {
        let at = self.sim.queue.iter().find(|(_, traffic)| match traffic {
            Traffic::Arrive { op: other, .. } | Traffic::Answer { op: other, .. } => *other == op,
        });
        let Some(traffic) = at.map(|(at, _)| *at).and_then(|at| self.sim.queue.remove(&at)) else { return };
        match traffic {
            Traffic::Answer { life, op, reply } if !self.sim.lives[life].pending.contains_key(&op) => {
                // The machine must not rely on the task for what comes too late.
                self.sim.step(life, Input::Reply { op, reply });
            }
            traffic => self.sim.deliver(traffic),
        }
    }

    /// The task drops a call at its deadline, so an answer comes then or never; where the scope says so, it comes at
    /// any time after as well.
    fn drop_late_answers(&mut self) {
        let pending = &self.sim.lives[0].pending;
        self.sim.queue.retain(|_, traffic| match traffic {
            Traffic::Arrive { .. } => true,
            Traffic::Answer { op, .. } => pending.contains_key(op),
        });
    }
}
