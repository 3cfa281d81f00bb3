//! Carries the machine's actions out on the model, on virtual time, and asks the rules after every step.
//!
//! True time is a [`Duration`] since the start. Each life of a client has a monotonic clock of its own, which stands
//! still while the machine is suspended, and a wall clock, which operators set.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

pub(super) use super::life::{Life, TTL, config, instance, key, millis, secs};
use super::{
    super::{
        input::{Action, Call, Input, KeeperConfig, Moment, OpId, Reply},
        phase::Phase,
    },
    life::Pending,
    model::{Fault, Landing, Model},
};
use crate::{
    Capabilities, Error, ErrorKind,
    backend::{Lifetime, Proof},
    model::InstanceKey,
};

#[derive(Clone)]
pub(super) enum Traffic {
    Arrive { life: usize, op: OpId, call: Call },
    Answer { life: usize, op: OpId, reply: Reply },
}

#[derive(Clone)]
pub(super) struct Sim {
    pub(super) base: Instant,
    pub(super) now: Duration,
    pub(super) registry: Model,
    pub(super) lives: Vec<Life>,
    pub(super) healthy_since: Duration,
    pub(super) throttled: Duration,
    /// Whether the registry ever refused everything.
    pub(super) refused: bool,
    /// Whether anything was ever carried out after its caller had given up.
    pub(super) landed_late: bool,
    pub(super) queue: BTreeMap<(Duration, u64), Traffic>,
    serial: u64,
    /// Whether nothing is noted, as this is one of a great many.
    pub(super) quiet: bool,
    trace: Vec<String>,
}

impl Sim {
    /// One client of a registry with sessions.
    pub(super) fn new(seed: u64) -> Self {
        Self::with(config(seed), Capabilities::session())
    }

    /// One client of a registry with a beat per instance.
    pub(super) fn heartbeat(seed: u64) -> Self {
        Self::with(config(seed), Capabilities::heartbeat())
    }

    pub(super) fn with(config: KeeperConfig, capabilities: Capabilities) -> Self {
        let mut registry = Model::new(config.ttl);
        registry.proof = capabilities.proof;
        let mut sim = Self {
            base: Instant::now() + secs(1_000_000),
            now: Duration::ZERO,
            registry,
            lives: Vec::new(),
            healthy_since: Duration::ZERO,
            throttled: Duration::ZERO,
            refused: false,
            landed_late: false,
            queue: BTreeMap::new(),
            serial: 0,
            quiet: false,
            trace: Vec::new(),
        };
        sim.join(config, capabilities);
        sim
    }

    /// Another client life; returns its number.
    pub(super) fn join(&mut self, config: KeeperConfig, capabilities: Capabilities) -> usize {
        self.lives.push(Life::new(config, capabilities));
        self.lives.len() - 1
    }

    pub(super) fn run(&mut self, long: Duration) {
        let until = self.now + long;
        loop {
            let traffic = self.queue.keys().next().map(|(at, _)| *at);
            let lives = (0..self.lives.len()).filter_map(|life| self.next_of(life));
            let Some(next) = lives.chain(traffic).min().filter(|at| *at <= until) else { break };
            self.now = self.now.max(next);
            self.registry.advance(self.now);
            self.check();
            for life in 0..self.lives.len() {
                if self.lives[life].stopped_until.is_some_and(|at| at <= self.now) {
                    self.lives[life].resume();
                }
            }
            if traffic.is_some_and(|at| at <= self.now) {
                self.carry();
                continue;
            }
            for life in 0..self.lives.len() {
                if self.next_of(life).is_some_and(|at| at <= self.now) {
                    self.wake(life);
                    break;
                }
            }
        }
        self.now = until;
        self.registry.advance(until);
        self.check();
    }

    /// When a life runs next, in true time.
    pub(super) fn next_of(&self, life: usize) -> Option<Duration> {
        let own = &self.lives[life];
        let timer = own.keeper.next_wake().map(|at| at.saturating_duration_since(self.base));
        let deadline = own.pending.values().map(|p| p.deadline).min();
        let stalled = own.stalled.map_or(Duration::ZERO, |(_, long)| long);
        let due = timer.into_iter().chain(deadline).min().map(|at| at + own.frozen + stalled);
        match own.stopped_until {
            Some(until) => Some(due.map_or(until, |at| at.max(until))),
            None => due,
        }
    }

    fn wake(&mut self, life: usize) {
        let mono = self.mono(life);
        let late = self.lives[life].pending.iter().find(|(_, p)| p.deadline <= mono).map(|(op, _)| *op);
        match late {
            Some(op) => self.expire(life, op),
            None => self.step(life, Input::Wake),
        }
    }

    /// The task gives a call up.
    pub(super) fn expire(&mut self, life: usize, op: OpId) {
        let error = Error::new(ErrorKind::Timeout, "no answer in time");
        let reply = Model::refusal(&self.lives[life].pending[&op].call, &error);
        self.answer(life, op, reply);
    }

    /// Takes one message off the wire.
    fn carry(&mut self) {
        if let Some((_, traffic)) = self.queue.pop_first() {
            self.deliver(traffic);
        }
    }

    pub(super) fn deliver(&mut self, traffic: Traffic) {
        match traffic {
            Traffic::Arrive { life, op, call } => {
                self.registry.arrivals.push((self.now, Model::name(&call)));
                match self.registry.fault {
                    Fault::None => self.land(life, op, &call, true),
                    Fault::Hang(Landing::AtOnce) => self.land(life, op, &call, false),
                    Fault::Hang(Landing::Never) => {}
                    Fault::Hang(Landing::After(_)) if !self.lives[life].pending.contains_key(&op) => {
                        self.land(life, op, &call, false);
                    }
                    Fault::Hang(Landing::After(delay)) => {
                        self.send(delay, Traffic::Arrive { life, op, call });
                    }
                    Fault::Down => self.refuse(life, op, &call, &Error::new(ErrorKind::Unavailable, "down")),
                    Fault::Refusing(kind) => self.refuse(life, op, &call, &Error::new(kind, "refused")),
                    Fault::Throttled(after) => {
                        let error = Error::new(ErrorKind::RateLimited, "too many requests");
                        let error = after.into_iter().fold(error, Error::with_retry_after);
                        self.refuse(life, op, &call, &error);
                    }
                }
            }
            Traffic::Answer { life, op, reply } => {
                if let Some(until) = self.lives[life].stopped_until {
                    self.send(until - self.now, Traffic::Answer { life, op, reply });
                } else if !matches!(self.registry.fault, Fault::Hang(_)) {
                    self.answer(life, op, reply);
                }
            }
        }
    }

    fn land(&mut self, life: usize, op: OpId, call: &Call, answered: bool) {
        let late = !self.lives[life].pending.contains_key(&op);
        self.landed_late |= late;
        let incarnation = self.lives[life].incarnation;
        let reply = self.registry.handle(life, incarnation, call, self.now, late);
        self.note(&format!("{life}: {} {op} lands{}", Model::name(call), if late { " late" } else { "" }));
        self.check();
        if answered {
            self.send(self.registry.latency, Traffic::Answer { life, op, reply });
        }
    }

    fn refuse(&mut self, life: usize, op: OpId, call: &Call, error: &Error) {
        self.send(self.registry.latency, Traffic::Answer { life, op, reply: Model::refusal(call, error) });
    }

    fn send(&mut self, delay: Duration, traffic: Traffic) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), traffic);
    }

    fn answer(&mut self, life: usize, op: OpId, reply: Reply) {
        let own = &mut self.lives[life];
        let Some(pending) = own.pending.remove(&op) else { return };
        match (&pending.call, &reply) {
            (Call::Grant { lease }, Reply::Granted(Ok(lifetime))) => {
                let ttl = match lifetime {
                    Lifetime::Leased { ttl } => Some(*ttl),
                    _ => None,
                };
                own.proofs.insert(*lease, (pending.sent, ttl));
            }
            (Call::Renew { lease }, Reply::Renewed(Ok(renewal))) => {
                own.proofs.insert(*lease, (pending.sent, renewal.ttl));
                let beats = own.beats.iter_mut();
                let proven = beats.filter(|(k, _)| !renewal.missed.contains(k) && !renewal.lost.contains(k));
                proven.for_each(|(_, at)| *at = (*at).max(pending.sent));
            }
            (Call::Publish { records, .. }, Reply::Published(outcomes)) => {
                for (record, _) in records.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
                    own.beats.insert(record.instance.key(), pending.sent);
                }
            }
            _ => {}
        }
        self.step(life, Input::Reply { op, reply });
    }

    pub(super) fn step(&mut self, life: usize, input: Input) {
        let moment = self.moment(life);
        self.note(&format!("{life}: {}", short(&input)));
        let now = self.now;
        let own = &mut self.lives[life];
        own.steps.push(now);
        let actions = own.keeper.step(input, moment);
        own.last_step = Some((moment.mono - self.base, moment.wall));
        own.keeper.take_touched();
        let wake = own.keeper.next_wake();
        assert!(
            wake.is_none_or(|at| at > moment.mono),
            "the next wake-up is {:?} in the past: {:?}",
            moment.mono - wake.unwrap_or(moment.mono),
            own.keeper
        );
        let mut told = Vec::new();
        for action in actions {
            if let Action::Emit(events) = &action {
                told.extend(events.iter().cloned());
            }
            self.act(life, action);
        }
        self.state_agrees(life, &told);
        self.check();
    }

    fn act(&mut self, life: usize, action: Action) {
        match action {
            Action::Call { op, deadline, call } => {
                self.note(&format!("{life}:   {} {op}", Model::name(&call)));
                let deadline = deadline.saturating_duration_since(self.base);
                let pending = Pending { sent: self.now, deadline, call: call.clone() };
                self.lives[life].pending.insert(op, pending);
                self.send(self.registry.latency, Traffic::Arrive { life, op, call });
            }
            Action::Forget { .. } => {}
            Action::Emit(events) => {
                self.lives[life].emissions.push(events.len());
                for (key, event) in events {
                    self.note(&format!("{life}:   tells {key} {event:?}"));
                    self.told_one(life, key, event);
                }
            }
        }
    }

    pub(super) fn mono(&self, life: usize) -> Duration {
        let own = &self.lives[life];
        match own.stalled {
            Some((since, long)) if self.now < since + long => since - own.frozen,
            Some((_, long)) => self.now - own.frozen - long,
            None => self.now - own.frozen,
        }
    }

    /// What the life's clocks read.
    pub(super) fn moment(&self, life: usize) -> Moment {
        let mono = self.mono(life);
        let wall =
            i64::try_from((secs(1_000_000_000) + self.now).as_millis()).unwrap() + self.lives[life].wall_off;
        let wall = millis(u64::try_from(wall.max(0)).unwrap());
        Moment { mono: self.base + mono, wall, alive: self.lives[life].alive }
    }

    /// What a reader may be told of one registration: the cell's checks, on this life's clocks.
    pub(super) fn is_claimed(&self, life: usize, key: &InstanceKey) -> bool {
        let moment = self.moment(life);
        let own = &self.lives[life];
        let Some(entry) = own.keeper.entry(key) else { return false };
        let slipped = own.last_step.is_some_and(|(mono, wall)| {
            let (real, shown) = (moment.mono - self.base - mono, moment.wall.saturating_sub(wall));
            shown.saturating_sub(real) > own.keeper.slip_limit()
        });
        entry.phase == Phase::Live && !slipped && entry.safe.is_none_or(|safe| safe > moment.mono)
    }

    /// Whether a record counts on its own beats.
    pub(super) fn beats_alone(&self) -> bool {
        self.registry.proof == Proof::Heartbeat
    }

    pub(super) fn note(&mut self, line: &str) {
        if self.quiet {
            return;
        }
        self.trace.push(format!("{:>10.3} {line}", self.now.as_secs_f64()));
        if self.trace.len() > 400 {
            self.trace.drain(..200);
        }
    }
}

fn short(input: &Input) -> String {
    match input {
        Input::Many(inputs) => format!("{} edits", inputs.len()),
        Input::Want { record, .. } => format!("wants {}", record.key()),
        Input::Reply { op, reply: Reply::Published(all) } => format!("published {op} {:?}", all.first()),
        Input::Reply { op, reply: Reply::Withdrawn(all) } => format!("withdrawn {op} {:?}", all.first()),
        Input::Reply { op, reply: Reply::Inspected(Ok(all)) } => format!("inspected {op} {:?}", all.first()),
        input => format!("{input:?}"),
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.quiet {
            let from = self.trace.len().saturating_sub(120);
            eprintln!("--- the last steps ---\n{}", self.trace[from..].join("\n"));
        }
    }
}
