//! What may happen to a keeper.

use std::time::Duration;

use super::{
    super::{
        model::{Fault, Landing},
        sim::{key, millis},
    },
    world::Checked,
};
use crate::{ErrorKind, keeper::input::OpId};

/// The instance that things befall, and the one that looks on.
pub(super) const STRUCK: &str = "a";
pub(super) const BYSTANDER: &str = "b";
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
    /// The same, until just after the registry has forgotten the instance.
    Oversleep,
    /// The machine is suspended: the monotonic clock stands still.
    Suspend,
}

impl Checked {
    pub(super) fn faults(&self) -> Vec<Choice> {
        let mut faults = vec![Choice::Wipe, Choice::Panic, Choice::Stop, Choice::Suspend];
        if self.fault() == Fault::None {
            faults.push(Choice::Outage(Fault::Down));
            faults.push(Choice::Outage(Fault::Hang(Landing::Never)));
            faults.push(Choice::Outage(Fault::Hang(Landing::AtOnce)));
        }
        if self.sim.registry.records.contains_key(&key(STRUCK)) {
            faults.push(Choice::Delete);
        }
        faults.extend(self.forgotten_at().map(|_| Choice::Oversleep));
        if self.sim.registry.refuse.is_empty() {
            faults.push(Choice::Reject);
        }
        faults
    }

    pub(super) fn edits(&self) -> Vec<Choice> {
        let wanted = |id| self.sim.lives[0].desired.contains_key(&key(id));
        let mut edits = vec![Choice::Update(STRUCK), Choice::Update(BYSTANDER)];
        edits.extend([STRUCK, BYSTANDER].into_iter().filter(|id| wanted(id)).map(Choice::Withdraw));
        edits
    }

    pub(super) fn strike(&mut self, fault: &Choice) {
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
            Choice::Oversleep => {
                self.sim.now = self.forgotten_at().expect("a claim to sleep over") + millis(1);
                self.sim.registry.advance(self.sim.now);
                self.sim.check();
            }
            other => unreachable!("{other:?} is no fault"),
        }
    }

    /// When the last proof of the instance that things befall is over, if that is yet to come.
    fn forgotten_at(&self) -> Option<Duration> {
        self.proof_ends(&key(STRUCK)).filter(|end| *end > self.sim.now)
    }
}
