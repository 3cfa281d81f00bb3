//! What was published under one grant, at one agent.
//!
//! The agent is chosen when the first record is published, and stays: registering elsewhere would be another instance.
//! If it gives no sign of life for a time to live, or for two looks where nobody beats, while there are other agents, the
//! lease is lost, and the next one chooses anew. An agent that reaches none of its servers gives none, as nobody sees what
//! it holds. What stands at one that was given up is removed once it is back. The agent can't compare and set, so whose a
//! record is is read just before it is written.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join};
use registry_core::{
    Error, ErrorKind, Instance, InstanceKey, Lease, OnDuplicate, Status,
    backend::{Grant, Lifetime, Outcome, Presence, Publish, Renewal},
};
use tokio::time::Instant;

use super::{
    agent::{Agent, Holding, Holdings, Maintenance, check_id},
    names::Names,
    owners::Owners,
    registration::{self, Known},
    session::Session,
};
use crate::http::abreast;

mod beats;
mod looks;

/// Calls to the agent at the same time.
const CONCURRENT: usize = 16;
/// How often the catalogue is read for what the agent has only just told it.
const LOOKS: u32 = 5;
/// The first pause between two of these looks; it doubles.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A virtual lease. Dropping it withdraws nothing.
pub(super) struct ConsulLease {
    session: Arc<Session>,
    names: Names,
    owners: Arc<Owners>,
    number: u64,
    grant: Grant,
    lifetime: Lifetime,
    state: Mutex<State>,
}

struct State {
    agent: Option<Arc<str>>,
    /// Whether something was registered at the agent, so that it has to be this one.
    is_bound: bool,
    /// Service ids by key.
    held: BTreeMap<InstanceKey, String>,
    /// Ids that Consul's own check called critical when they were last looked at.
    failing: HashSet<String>,
    /// When the agent last answered, and reached its servers.
    heard: Instant,
}

impl ConsulLease {
    pub(super) fn new(
        session: Arc<Session>,
        names: Names,
        owners: Arc<Owners>,
        number: u64,
        grant: Grant,
        lifetime: Lifetime,
    ) -> Self {
        let state = State {
            agent: None,
            is_bound: false,
            held: BTreeMap::new(),
            failing: HashSet::new(),
            heard: Instant::now(),
        };
        Self { session, names, owners, number, grant, lifetime, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent of this lease; as long as nothing was registered, the one that is best now.
    fn agent(&self, operation: &'static str) -> Agent<'_> {
        let mut state = self.state();
        let server = match &state.agent {
            Some(agent) if state.is_bound => Arc::clone(agent),
            _ => self.session.servers().preferred(),
        };
        state.agent = Some(Arc::clone(&server));
        Agent { session: &self.session, server, operation }
    }

    fn is_ours(&self, holding: &Holding) -> bool {
        holding.version.is_some_and(|version| version.incarnation == self.grant.incarnation)
    }

    /// The agent of this lease; as long as nothing was registered, one that answers now. Where there are several, the
    /// one that is preferred may be as dead as the others were when they were asked last, and only its own time in
    /// quarantine would bring the next one's turn. And it has to reach its servers, or nobody would see what it takes.
    async fn agent_to_write_to(&self) -> Result<Agent<'_>, Error> {
        let agent = self.agent("publish");
        let server = if self.session.config.common.servers.len() < 2 || self.state().is_bound {
            agent.reaches_servers(None).await.map_err(|error| self.failed("publish", error))?;
            Arc::clone(&agent.server)
        } else {
            agent.answering().await?
        };
        self.state().agent = Some(Arc::clone(&server));
        Ok(Agent { server, ..agent })
    }

    /// What the agent holds that was found to reach its servers: by both it gives a sign of life. Either alone doesn't, as
    /// one that answers only who the leader is would never be left for another.
    async fn holdings_to_write_to(&self, agent: &Agent<'_>) -> Result<Holdings, Error> {
        let holdings = agent.holdings().await.map_err(|error| self.failed("publish", error))?;
        self.state().heard = Instant::now();
        Ok(holdings)
    }

    async fn publish_one(&self, agent: &Agent<'_>, holdings: &Holdings, record: &Publish) -> Outcome {
        let instance = &record.instance;
        let id = self.names.id(&instance.key());
        let before = holdings.get(&id);
        if let Some(before) = before
            && record.on_duplicate == OnDuplicate::Reject
            && !self.is_ours(before)
            // What is critical is nobody's any more: nobody sees it, and it waits for its removal.
            && !before.is_critical
        {
            let message = format!("another client registered {} at {}", instance.key(), agent.server);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        // An agent keeps what a check said for who replaces its service. Of a crashed one's it would say until Consul has
        // asked ours, and nobody would see what was registered.
        let is_left_over = |left: &Holding| {
            left.is_critical
                && !self.is_ours(left)
                && !matches!(self.lifetime, Lifetime::Leased { .. })
                && left.maintenance != Some(Maintenance::Operator)
        };
        let (left_over, before) = match before {
            Some(left) if is_left_over(left) => (true, None),
            before => (false, before),
        };
        let wanted = instance.status();
        // What another's check said, of a process that crashed, says nothing of ours.
        let is_critical = self.note_critical(&id, before.filter(|before| self.is_ours(before)));
        let known = Known { is_new: before.is_none(), is_failing: is_critical };
        let body = registration::body(&self.session.config, &self.names, record, self.lifetime, &id, known)?;
        let maintenance = before.and_then(|before| before.maintenance.as_ref());
        let is_out = maintenance == Some(&Maintenance::Operator) || holdings.is_node_out();
        // A check that somebody added to ours stays as long as it fails.
        let added = before.filter(|before| self.is_ours(before)).and_then(|ours| ours.obstacle.as_deref());
        let keep = match maintenance {
            // An operator's word outlives our updates.
            Some(Maintenance::Operator) => true,
            Some(Maintenance::Ours(_)) => added.is_some() || wanted != Status::Serving,
            None => added.is_some(),
        };
        // With what is kept, our own maintenance would be.
        let returns = keep && wanted == Status::Serving && matches!(maintenance, Some(Maintenance::Ours(_)));
        let is_new = self.state().held.insert(instance.key(), id.clone()).is_none();
        self.owners.set(&id, self.number, &agent.server);
        let obstacle = added.or_else(|| holdings.obstacle());
        let own = check_id(&id);
        let obstacle = if is_critical { Some(&*own) } else { obstacle };
        // Out of traffic by its own or an operator's word, whatever checks say.
        let obstacle = obstacle.filter(|_| !is_out && wanted == Status::Serving);
        let stands = before.is_some_and(|before| before.version == Some(record.version));
        if stands && obstacle.is_some() && !returns {
            // It stands there already, and once more would only put Consul's next check off.
            self.state().is_bound = true;
            self.pass(agent, instance, &id).await?;
            return seen(instance, obstacle);
        }
        let written = async {
            if left_over {
                agent.deregister(&id).await?;
            }
            agent.register(body, !keep).await
        };
        if let Err(error) = written.await {
            // What may have happened all the same is kept alive.
            if is_new && !error.kind().is_ambiguous() {
                self.state().held.remove(&instance.key());
            }
            return Err(error);
        }
        self.state().is_bound = true;
        let said = Maintenance::Ours(wanted.as_str().to_owned());
        if wanted != Status::Serving
            // A new one brings it along.
            && before.is_some()
            && maintenance.is_none_or(|old| *old != Maintenance::Operator && *old != said)
        {
            agent.maintain(&id, wanted).await?;
        }
        if returns {
            agent.end_maintenance(&id).await?;
        }
        self.pass(agent, instance, &id).await?;
        seen(instance, obstacle)
    }

    /// Lets our check pass, where we beat: registering anew doesn't make a check pass that was critical.
    async fn pass(&self, agent: &Agent<'_>, instance: &Instance, id: &str) -> Outcome {
        if matches!(self.lifetime, Lifetime::Leased { .. }) && !agent.pass(id, None).await? {
            let message = format!("{} forgot {} at once", agent.server, instance.key());
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    /// Whether Consul's own check of a service of ours fails, where it has one. Of one that the agent has no more, what
    /// was seen last counts: it is removed for having failed.
    fn note_critical(&self, id: &str, holding: Option<&Holding>) -> bool {
        if matches!(self.lifetime, Lifetime::Leased { .. }) {
            return false;
        }
        let mut state = self.state();
        match holding {
            Some(holding) if holding.is_critical => {
                state.failing.insert(id.to_owned());
                true
            }
            Some(_) => {
                state.failing.remove(id);
                false
            }
            None => state.failing.contains(id),
        }
    }

    async fn withdraw_one(&self, agent: &Agent<'_>, holdings: &Holdings, key: &InstanceKey) -> Outcome {
        let id = self.names.id(key);
        if agent.held(holdings, &id).await?.is_some_and(|holding| self.is_ours(&holding)) {
            agent.deregister(&id).await?;
        }
        self.state().failing.remove(&id);
        self.owners.forget(&id, self.number);
        Ok(())
    }

    /// Does one thing for each of many, several at a time, after a look at what the agent holds.
    async fn each<'a, T, F, Fut>(
        &'a self,
        agent: &'a Agent<'a>,
        holdings: BoxFuture<'_, Result<Holdings, Error>>,
        things: &'a [T],
        act: F,
    ) -> Vec<Outcome>
    where
        T: Sync,
        F: Fn(&'a T, Arc<Holdings>) -> Fut + Send,
        Fut: Future<Output = Outcome> + Send + 'a,
    {
        if things.is_empty() {
            return Vec::new();
        }
        let holdings = match holdings.await {
            Ok(holdings) => Arc::new(holdings),
            Err(error) => return things.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut acts: Vec<BoxFuture<'_, Outcome>> = Vec::with_capacity(things.len());
        for thing in things {
            acts.push(Box::pin(act(thing, Arc::clone(&holdings))));
        }
        let outcomes = abreast(acts, CONCURRENT).await;
        outcomes.into_iter().map(|outcome| outcome.map_err(|e| in_context(e, agent.operation))).collect()
    }
}

#[async_trait]
impl Lease for ConsulLease {
    fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let agent = match self.agent_to_write_to().await {
            Ok(agent) => agent,
            Err(error) => return records.iter().map(|_| Err(error.clone())).collect(),
        };
        let _publishing = self.owners.publishing(&agent.server).await;
        let act = |record, holdings: Arc<Holdings>| {
            let agent = &agent;
            async move { self.publish_one(agent, &holdings, record).await }
        };
        self.each(&agent, Box::pin(self.holdings_to_write_to(&agent)), records, act).await
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        let agent = self.agent("withdraw");
        let keys: Vec<InstanceKey> = instances.iter().map(|instance| instance.key()).collect();
        {
            // Whatever comes of it, they aren't to be kept alive.
            let mut state = self.state();
            for key in &keys {
                state.held.remove(key);
            }
        }
        let act = |key, holdings: Arc<Holdings>| {
            let agent = &agent;
            async move { self.withdraw_one(agent, &holdings, key).await }
        };
        let ids: Vec<String> = keys.iter().map(|key| self.names.id(key)).collect();
        self.owners.withdrawn(&ids, self.number, &agent.server);
        join(
            self.each(&agent, Box::pin(agent.holdings()), &keys, act),
            self.tidy(self.owners.left(Some(&ids))),
        )
        .await
        .0
    }

    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error> {
        self.beat(deadline).await
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        let (presences, ()) = join(self.look(keys), self.tidy(self.owners.due())).await;
        presences
    }

    async fn revoke(&self) -> Result<(), Error> {
        let held: Vec<InstanceKey> = self.state().held.keys().cloned().collect();
        let under_this = |key: &InstanceKey| self.owners.is(&self.names.id(key), self.number);
        let (hanging, moved): (Vec<_>, Vec<_>) = held.into_iter().partition(under_this);
        let agent = self.agent("revoke");
        let act = |key, holdings: Arc<Holdings>| {
            let agent = &agent;
            async move {
                self.withdraw_one(agent, &holdings, key).await?;
                // The others are to be tried again.
                self.state().held.remove(key);
                Ok(())
            }
        };
        let (outcomes, ()) = join(
            self.each(&agent, Box::pin(agent.holdings()), &hanging, act),
            self.tidy(self.owners.left(None)),
        )
        .await;
        for key in moved {
            self.state().held.remove(&key);
        }
        outcomes.into_iter().collect()
    }
}

/// A publication is none as long as a check keeps what is to be in traffic from everybody's sight.
fn seen(instance: &Instance, obstacle: Option<&str>) -> Outcome {
    let Some(check) = obstacle else { return Ok(()) };
    let message = format!("Consul's check {check} keeps {} out of sight, as it fails", instance.key());
    Err(Error::new(ErrorKind::Unavailable, message))
}

fn in_context(error: Error, operation: &'static str) -> Error {
    if error.backend().is_some() { error } else { error.with_context(super::NAME, operation) }
}

impl fmt::Debug for ConsulLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulLease")
            .field("number", &self.number)
            .field("grant", &self.grant)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
