//! Tells worlds apart: all that the future depends on, and nothing else.
//!
//! Left out: the generator of random draws, which is set before each step; the pace of publications, which two
//! instances never reach; causes, which are only told; and the numbers of calls, of which only the order counts.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    mem::discriminant,
};

use super::{
    super::{rules, sim::Traffic},
    world::Checked,
};
use crate::keeper::{
    entry::Entry,
    input::{OpId, Reply},
    lease::{About, LeaseState, Retired},
    phase::RegistrationEvent,
};

struct Print {
    hash: DefaultHasher,
    /// The calls that anything still refers to, in their order.
    ops: Vec<OpId>,
}

impl Print {
    fn add(&mut self, part: &impl Hash) {
        part.hash(&mut self.hash);
    }

    fn op(&mut self, op: Option<OpId>) {
        let rank = op.map(|op| self.ops.binary_search(&op));
        self.add(&rank);
    }

    fn lease(&mut self, lease: &LeaseState) {
        self.add(&discriminant(lease));
        match lease {
            LeaseState::Idle => {}
            LeaseState::Granting { op, retry_at } => {
                self.op(*op);
                self.add(retry_at);
            }
            LeaseState::Blocked { retry_at } => self.add(retry_at),
            LeaseState::Held(t) | LeaseState::Doubt(t) => {
                self.add(&(t.lease, t.times.map(|times| times.ttl), t.sent, t.renew_at, t.failures));
                self.add(&t.was_cut);
                self.add(&(t.audit_at, t.look_every, t.look_every.map(|_| t.looked)));
                self.op(t.renewing);
                self.op(t.auditing);
            }
            LeaseState::Closing(closing) => self.retired(closing),
        }
    }

    fn retired(&mut self, retired: &Retired) {
        self.add(&(retired.lease, retired.retry_at, retired.until));
        self.op(retired.op);
    }

    fn entry(&mut self, entry: &Entry) {
        self.add(&(entry.sequence, entry.first_sequence, entry.phase, entry.published, entry.parked));
        self.add(&(entry.epoch, entry.retry_at, entry.refusals, entry.safe, entry.last_ok));
        self.add(&(entry.loss.map(|loss| loss.at), entry.was_live));
        self.add(&(entry.late_until, entry.copies_until));
        self.add(&(entry.want, entry.belief));
        self.add(&entry.record.metadata().get("note"));
        self.op(entry.op);
    }

    fn about(&mut self, about: &About) {
        self.add(&discriminant(about));
        match about {
            About::Grant(lease) | About::Renew(lease) | About::Revoke(lease) => self.add(lease),
            About::Publish(lease, records) => self.add(&(lease, records)),
            About::Withdraw(keys) => self.add(keys),
            About::Inspect(lease, keys) => self.add(&(lease, keys)),
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.add(&discriminant(reply));
        match reply {
            Reply::Granted(result) => self.add(&result.as_ref().map_err(crate::Error::kind)),
            Reply::Published(outcomes) | Reply::Withdrawn(outcomes) => {
                let outcomes: Vec<_> =
                    outcomes.iter().map(|o| o.as_ref().map_err(crate::Error::kind)).collect();
                self.add(&outcomes);
            }
            Reply::Renewed(result) => {
                let result = result.as_ref().map(|r| (r.ttl, r.renew_after, &r.lost, &r.missed));
                self.add(&result.map_err(crate::Error::kind));
            }
            Reply::Inspected(result) => self.add(&result.as_ref().map_err(crate::Error::kind)),
            Reply::Revoked(result) => self.add(&result.as_ref().map_err(crate::Error::kind)),
        }
    }
}

impl Checked {
    pub(super) fn print(&self) -> u64 {
        let life = &self.sim.lives[0];
        let keeper = &life.keeper;
        let on_wire = self.sim.queue.values().map(|traffic| match traffic {
            Traffic::Arrive { op, .. } | Traffic::Answer { op, .. } => *op,
        });
        let ops: BTreeSet<_> = keeper.in_flight.keys().copied().chain(on_wire).collect();
        let mut print = Print { hash: DefaultHasher::new(), ops: ops.into_iter().collect() };
        print.add(&(self.sim.now, self.scope.faults, self.scope.edits, self.shared, self.deleted));
        print.add(&(self.sim.landed_late, life.frozen, life.last_step, life.wall_off));

        print.lease(&keeper.lease);
        keeper.retired.iter().for_each(|retired| print.retired(retired));
        print.add(&(&keeper.backoff, &keeper.denials, keeper.throttled));
        for (key, entry) in &keeper.entries {
            print.add(key);
            print.entry(entry);
        }
        for (op, call) in &keeper.in_flight {
            print.op(Some(*op));
            print.add(&(call.sent, *op < keeper.slept_over));
            print.about(&call.about);
        }

        let registry = &self.sim.registry;
        print.add(&(registry.fault, &registry.leases, &registry.published, &registry.refuse));
        for (key, stored) in &registry.records {
            print.add(&(key, stored.lease, stored.version, stored.expires, stored.late));
            print.add(&stored.content.metadata().get("note"));
        }
        for traffic in self.sim.queue.values() {
            match traffic {
                Traffic::Arrive { op, .. } => print.op(Some(*op)),
                Traffic::Answer { op, reply, .. } => {
                    print.op(Some(*op));
                    print.reply(reply);
                }
            }
        }
        for (op, pending) in &life.pending {
            print.op(Some(*op));
            print.add(&pending.deadline);
        }

        // What the rules remember.
        print.add(&(&life.confirmed, &life.proofs, &life.beats, &life.begun, self.sim.healthy_since));
        for key in life.desired.keys() {
            print.add(key);
        }
        for (key, history) in &life.history {
            use RegistrationEvent::{Deregistered, Lost, Recovered, Registered};
            let edge = history.iter().rev().find(|e| {
                matches!(e, Registered { .. } | Lost { .. } | Recovered { .. } | Deregistered { .. })
            });
            let ends = history.iter().filter(|e| matches!(e, Deregistered { .. })).count();
            print.add(&(key, edge.map(rules::name), ends));
        }
        print.hash.finish()
    }
}
