//! Which lease of this client each service id was published under last, and at which agent.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Publications at one agent at the same time, far above what a client has.
const PUBLICATIONS: u32 = 1024;
/// For how long an agent that was given up and didn't answer isn't asked again; it doubles. About the time between two
/// looks, so that what stands at one that returns is gone after as long as that was away.
const ASK_AGAIN: Duration = Duration::from_secs(20);
/// The longest such time. One that never returns costs a look a part of its time that often.
const LONGEST: Duration = Duration::from_secs(600);

/// What may stand at agents that were given up: ids by agent.
pub(super) type LeftBehind = Vec<(Arc<str>, Vec<String>)>;

/// Shared by the leases of one client.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    owners: HashMap<String, Owner>,
    /// What may stand at agents that were given up.
    left: BTreeMap<Arc<str>, Left>,
    /// By agent: a publication has one permit, a removal of what was left has all.
    writes: HashMap<Arc<str>, Arc<Semaphore>>,
}

#[derive(Debug)]
struct Owner {
    lease: u64,
    agent: Arc<str>,
}

#[derive(Debug, Default)]
struct Left {
    ids: BTreeSet<String>,
    /// How often in a row the agent was asked in vain.
    failures: u32,
    /// None: at once.
    ask_at: Option<Instant>,
}

impl Owners {
    /// Notes where an id is published. If it was elsewhere before, it may still stand there.
    pub(super) fn set(&self, id: &str, lease: u64, agent: &Arc<str>) {
        let mut known = self.known();
        let owner = Owner { lease, agent: Arc::clone(agent) };
        if let Some(before) = known.owners.insert(id.to_owned(), owner)
            && before.agent != *agent
        {
            known.leave(id.to_owned(), before.agent);
        }
        known.removed(id, agent);
    }

    pub(super) fn is(&self, id: &str, lease: u64) -> bool {
        self.known().owners.get(id).is_some_and(|owner| owner.lease == lease)
    }

    /// Forgets an id, unless another lease has it by now.
    pub(super) fn forget(&self, id: &str, lease: u64) {
        let mut known = self.known();
        if known.owners.get(id).is_some_and(|owner| owner.lease == lease) {
            known.owners.remove(id);
        }
    }

    /// Notes that a lease is lost with its agent: all that it had may still stand there.
    pub(super) fn give_up(&self, lease: u64) {
        let mut known = self.known();
        let lost: Vec<_> = known.owners.extract_if(|_, owner| owner.lease == lease).collect();
        for (id, owner) in lost {
            known.leave(id, owner.agent);
        }
    }

    /// Notes where ids may stand that are withdrawn under a lease, at its agent, after an older one published them
    /// elsewhere.
    pub(super) fn withdrawn(&self, ids: &[String], lease: u64, agent: &Arc<str>) {
        let mut known = self.known();
        for id in ids {
            let older = known.owners.get(id).filter(|owner| owner.lease < lease && owner.agent != *agent);
            if let Some(elsewhere) = older.map(|owner| Arc::clone(&owner.agent)) {
                known.leave(id.clone(), elsewhere);
            }
        }
    }

    /// What may stand at agents that were given up: of `only` these ids, or all.
    pub(super) fn left(&self, only: Option<&[String]>) -> LeftBehind {
        let known = self.known();
        let wanted = |id: &&String| only.is_none_or(|only| only.contains(id));
        let left = known.left.iter().map(|(agent, left)| {
            (Arc::clone(agent), left.ids.iter().filter(wanted).cloned().collect::<Vec<_>>())
        });
        left.filter(|(_, ids)| !ids.is_empty()).collect()
    }

    /// As all that is left, without the agents that didn't answer a short while ago.
    pub(super) fn due(&self) -> LeftBehind {
        let now = Instant::now();
        let known = self.known();
        let due = known.left.iter().filter(|(_, left)| left.ask_at.is_none_or(|at| at <= now));
        due.map(|(agent, left)| (Arc::clone(agent), left.ids.iter().cloned().collect())).collect()
    }

    pub(super) fn is_left(&self, id: &str, agent: &Arc<str>) -> bool {
        self.known().left.get(agent).is_some_and(|left| left.ids.contains(id))
    }

    /// Notes that an id doesn't stand at an agent that was given up any more.
    pub(super) fn removed(&self, id: &str, agent: &Arc<str>) {
        self.known().removed(id, agent);
    }

    /// Notes whether an agent that was given up let us remove what it was asked for.
    pub(super) fn asked(&self, agent: &Arc<str>, is_back: bool) {
        let mut known = self.known();
        let Some(left) = known.left.get_mut(agent) else { return };
        if is_back {
            (left.failures, left.ask_at) = (0, None);
            return;
        }
        let pause = ASK_AGAIN * (1 << left.failures.min(8));
        left.failures = left.failures.saturating_add(1);
        left.ask_at = Some(Instant::now() + pause.min(LONGEST));
    }

    /// Waits for the removal that is under way at an agent; until what this returns is dropped, no other begins.
    pub(super) async fn publishing(&self, agent: &Arc<str>) -> OwnedSemaphorePermit {
        let writes = self.known().writes(agent);
        writes.acquire_owned().await.expect("it is never closed")
    }

    /// Keeps publications at an agent waiting until what this returns is dropped; none while one is under way.
    pub(super) fn removing(&self, agent: &Arc<str>) -> Option<OwnedSemaphorePermit> {
        let writes = self.known().writes(agent);
        writes.try_acquire_many_owned(PUBLICATIONS).ok()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn leave(&mut self, id: String, agent: Arc<str>) {
        let left = self.left.entry(agent).or_default();
        left.ids.insert(id);
        // It has been there since it was asked in vain.
        (left.failures, left.ask_at) = (0, None);
    }

    fn removed(&mut self, id: &str, agent: &Arc<str>) {
        if let Some(left) = self.left.get_mut(agent) {
            left.ids.remove(id);
            if left.ids.is_empty() {
                self.left.remove(agent);
            }
        }
    }

    fn writes(&mut self, agent: &Arc<str>) -> Arc<Semaphore> {
        let writes = self.writes.entry(Arc::clone(agent));
        Arc::clone(writes.or_insert_with(|| Arc::new(Semaphore::new(PUBLICATIONS as usize))))
    }
}
