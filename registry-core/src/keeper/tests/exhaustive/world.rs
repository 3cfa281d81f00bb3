//! What may happen to a keeper.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        model::{Fault, Landing},
        rules,
        sim::{Sim, Traffic, instance, key, millis, secs},
    },
    Scope,
};
use crate::{
    ErrorKind,
    explore::World,
    keeper::{
        entry::Policy,
        input::{Input, OpId},
        phase::RegistrationEvent,
    },
};

/// The instance that things befall, and the one that looks on.
const STRUCK: &str = "a";
const BYSTANDER: &str = "b";
/// How long the process or the machine stands still: longer than the time to live.
const STANDSTILL: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// A request is carried out, or an answer comes, perhaps after its deadline.
    Deliver(OpId),
    /// A call runs into its deadline, whether or not it was carried out.
    Expire(OpId),
    Wake,
    /// Time goes on to what is due next.
    Tick,
    Update(&'static str),
    Withdraw(&'static str),
    /// The registry fails like this from now on.
    Outage(Fault),
    Heal,
    /// The registry loses its data.
    Wipe,
    /// An operator deletes the record.
    Delete,
    /// The registry refuses the record from now on.
    Reject,
    /// The keeper's task panics.
    Panic,
    /// The process is stopped, its clocks run on.
    Stop,
    /// The machine is suspended: the monotonic clock stands still.
    Suspend,
}

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
    /// Both instances are wanted, and nothing has happened yet.
    pub(super) fn new(mut sim: Sim, scope: Scope, aloud: bool) -> Self {
        sim.quiet = !aloud;
        sim.register(STRUCK);
        sim.register(BYSTANDER);
        Self { sim, scope, shared: false, deleted: false }
    }

    fn fault(&self) -> Fault {
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

    fn next_instant(&self) -> Option<Duration> {
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

    fn faults(&self) -> Vec<Choice> {
        let mut faults = vec![Choice::Wipe, Choice::Panic, Choice::Stop, Choice::Suspend];
        if self.fault() == Fault::None {
            faults.push(Choice::Outage(Fault::Down));
            faults.push(Choice::Outage(Fault::Hang(Landing::Never)));
            faults.push(Choice::Outage(Fault::Hang(Landing::AtOnce)));
        }
        if self.sim.registry.records.contains_key(&key(STRUCK)) {
            faults.push(Choice::Delete);
        }
        if self.sim.registry.refuse.is_empty() {
            faults.push(Choice::Reject);
        }
        faults
    }

    fn edits(&self) -> Vec<Choice> {
        let wanted = |id| self.sim.lives[0].desired.contains_key(&key(id));
        let mut edits = vec![Choice::Update(STRUCK)];
        edits.extend([STRUCK, BYSTANDER].into_iter().filter(|id| wanted(id)).map(Choice::Withdraw));
        edits
    }

    /// R7: what befell one instance alone isn't told of the other.
    fn spares_the_bystander(&self) {
        let told = self.sim.lives[0].history.get(&key(BYSTANDER)).into_iter().flatten();
        for event in told.filter(|_| !self.shared) {
            let own = matches!(event, RegistrationEvent::Registered { .. });
            assert!(own, "R7: the bystander is told {}", rules::name(event));
        }
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
            if self.scope.faults > 0 {
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
                self.drop_late_answers();
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
        self.forget();
    }

    fn fingerprint(&self) -> u64 {
        self.print()
    }

    fn end(mut self) {
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

    /// The task drops a call at its deadline, so an answer comes then or never.
    fn drop_late_answers(&mut self) {
        let pending = &self.sim.lives[0].pending;
        self.sim.queue.retain(|_, traffic| match traffic {
            Traffic::Arrive { .. } => true,
            Traffic::Answer { op, .. } => pending.contains_key(op),
        });
    }

    fn strike(&mut self, fault: &Choice) {
        match fault {
            Choice::Outage(fault) => self.sim.fault(*fault),
            Choice::Wipe => self.sim.registry.wipe(self.sim.now),
            Choice::Delete => {
                self.deleted = true;
                self.sim.registry.delete(&key(STRUCK), self.sim.now);
            }
            Choice::Reject => {
                self.sim.registry.refuse.insert(key(STRUCK), ErrorKind::InvalidArgument);
            }
            Choice::Panic => self.sim.restart(0),
            Choice::Stop | Choice::Suspend => {
                self.sim.now += STANDSTILL;
                if matches!(fault, Choice::Suspend) {
                    self.sim.lives[0].frozen += STANDSTILL;
                }
                self.sim.registry.advance(self.sim.now);
                self.sim.check();
            }
            other => unreachable!("{other:?} is no fault"),
        }
    }
}
