//! What was published under one grant, at one agent.
//!
//! The agent is chosen when the first record is published, and stays: registering elsewhere would be another instance.
//! If it gives no sign of life for a time to live while there are other agents, the lease is lost, and the next one
//! chooses anew. The agent can't compare and set, so whose a record is is read just before it is written.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use registry_core::{
    Error, ErrorKind, Instance, InstanceKey, Lease, OnDuplicate, Status,
    backend::{Grant, Lifetime, Outcome, Presence, Publish, Renewal},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    agent::{Agent, Holding, Holdings, Maintenance, check_id},
    names::Names,
    registration::{self, Known},
    registry::Owners,
    session::Session,
};

/// Calls to the agent at the same time.
const CONCURRENT: usize = 16;
/// Beats at the same time: all of a client are due together.
const BEATS: usize = 32;
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
    /// When the agent last answered.
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
    /// quarantine would bring the next one's turn.
    async fn agent_to_write_to(&self) -> Result<Agent<'_>, Error> {
        let agent = self.agent("publish");
        if self.session.config.common.servers.len() < 2 || self.state().is_bound {
            return Ok(agent);
        }
        let server = agent.answering().await?;
        self.state().agent = Some(Arc::clone(&server));
        Ok(Agent { server, ..agent })
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
        self.owners.set(&id, self.number);
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
    async fn each<'a, T, F, Fut>(&'a self, agent: &'a Agent<'a>, things: &'a [T], act: F) -> Vec<Outcome>
    where
        T: Sync,
        F: Fn(&'a T, Arc<Holdings>) -> Fut + Send,
        Fut: Future<Output = Outcome> + Send,
    {
        if things.is_empty() {
            return Vec::new();
        }
        let holdings = match agent.holdings().await {
            Ok(holdings) => Arc::new(holdings),
            Err(error) => return things.iter().map(|_| Err(error.clone())).collect(),
        };
        self.state().heard = Instant::now();
        let acts: Vec<_> = things.iter().map(|thing| act(thing, Arc::clone(&holdings))).collect();
        let outcomes = stream::iter(acts).buffered(CONCURRENT).collect::<Vec<Outcome>>().await;
        outcomes.into_iter().map(|outcome| outcome.map_err(|e| in_context(e, agent.operation))).collect()
    }

    /// What a failed renewal is: the loss of the lease, if the agent has been away for long and others are there.
    fn failed(&self, error: Error) -> Error {
        let Lifetime::Leased { ttl } = self.lifetime else { return error };
        let (heard, agent) = {
            let state = self.state();
            (state.heard, state.agent.clone())
        };
        let is_away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        let others = self.session.config.common.servers.len() > 1;
        if !is_away || !others || heard.elapsed() < ttl {
            return error;
        }
        let agent = agent.as_deref().unwrap_or_default().to_owned();
        Error::new(ErrorKind::LeaseLost, format!("the agent {agent} has been away for {ttl:?}"))
            .with_context(super::NAME, "renew")
            .with_source(error)
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
        let act = |record, holdings: Arc<Holdings>| {
            let agent = &agent;
            async move { self.publish_one(agent, &holdings, record).await }
        };
        self.each(&agent, records, act).await
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
        self.each(&agent, &keys, act).await
    }

    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error> {
        let mut renewal = Renewal::default();
        if let Lifetime::Leased { ttl } = self.lifetime {
            renewal.ttl = Some(ttl);
        }
        let held: Vec<(InstanceKey, String)> = {
            let state = self.state();
            state.held.iter().map(|(key, id)| (key.clone(), id.clone())).collect()
        };
        if held.is_empty() {
            return Ok(renewal);
        }
        let agent = self.agent("renew");
        // A little early, so that the core doesn't give up on all because of one.
        let by = deadline - (deadline.saturating_duration_since(Instant::now()) / 10);
        let total = held.len();
        let beats: Vec<_> = held
            .into_iter()
            .map(|(key, id)| {
                let agent = &agent;
                async move {
                    // Also one that waits for a token.
                    let answer = timeout_at(by, agent.pass(&id, Some(by))).await;
                    let late = |_| {
                        let message = format!("the beat got no answer from {} in time", agent.server);
                        Err(Error::new(ErrorKind::Timeout, message).with_context(super::NAME, "renew"))
                    };
                    (key, answer.unwrap_or_else(late))
                }
            })
            .collect();
        let answers: Vec<_> = stream::iter(beats).buffer_unordered(BEATS).collect().await;
        let mut failure = None;
        for (key, answer) in answers {
            match answer {
                Ok(true) => {}
                Ok(false) => renewal.lost.push(key),
                Err(error) => {
                    failure.get_or_insert(error);
                    renewal.missed.push(key);
                }
            }
        }
        match failure {
            // Nobody was heard: what kept them from answering says more than their names.
            Some(error) if renewal.missed.len() == total => Err(self.failed(error)),
            _ => {
                self.state().heard = Instant::now();
                Ok(renewal)
            }
        }
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let agent = self.agent("inspect");
        let holdings = agent.holdings().await?;
        self.state().heard = Instant::now();
        let ids: Vec<String> = keys.iter().map(|key| self.names.id(key)).collect();
        let looks: Vec<_> = ids.iter().map(|id| agent.held(&holdings, id)).collect();
        let held: Vec<_> = stream::iter(looks).buffered(CONCURRENT).collect().await;
        let mut found: Vec<Presence> =
            ids.iter().zip(held).map(|(id, held)| self.judge(id, held, &holdings)).collect();
        let Some(node) = &holdings.node else { return Ok(found) };
        if !found.iter().any(|presence| matches!(presence, Presence::Ours { .. })) {
            return Ok(found);
        }
        let mut pause = LOOK_AGAIN;
        for look in 1..=LOOKS {
            // The agent's word is all there is to be had.
            let Some(catalogued) = agent.catalogued(node).await? else { return Ok(found) };
            let is_behind = |(id, presence): (&String, &Presence)| match presence {
                Presence::Ours { version } => catalogued.get(id) != Some(&Some(*version)),
                _ => false,
            };
            let behind: Vec<bool> = ids.iter().zip(&found).map(is_behind).collect();
            if !behind.contains(&true) {
                return Ok(found);
            }
            if look < LOOKS {
                sleep(pause).await;
                pause *= 2;
                continue;
            }
            // The agent took it and nobody can see it: limits at the servers do that, without an error.
            for ((id, presence), _) in ids.iter().zip(&mut found).zip(behind).filter(|(_, behind)| *behind) {
                *presence = match catalogued.get(id) {
                    Some(Some(version)) if version.incarnation == self.grant.incarnation => {
                        Presence::Ours { version: *version }
                    }
                    _ => Presence::Missing,
                };
            }
        }
        Ok(found)
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
        let outcomes = self.each(&agent, &hanging, act).await;
        for key in moved {
            self.state().held.remove(&key);
        }
        outcomes.into_iter().collect()
    }
}

impl ConsulLease {
    fn judge(&self, id: &str, held: Result<Option<Holding>, Error>, holdings: &Holdings) -> Presence {
        let holding = match held {
            Ok(Some(holding)) => holding,
            // Consul removes what has failed for long: nobody deleted it.
            Ok(None) if self.owners.is(id, self.number) && self.note_critical(id, None) => {
                return Presence::Failing;
            }
            Ok(None) => return Presence::Missing,
            Err(error) => {
                tracing::debug!(id, error = format!("{error:#}"), "can't tell whether it is there");
                return Presence::Unknown;
            }
        };
        match holding.version {
            Some(version) if version.incarnation == self.grant.incarnation => {
                let is_critical = self.note_critical(id, Some(&holding));
                if !self.owners.is(id, self.number) {
                    Presence::Missing
                } else if is_critical && holding.maintenance.is_none() || holdings.hides(&holding) {
                    Presence::Failing
                } else {
                    // What is out of traffic by its own word, or an operator's, loses nothing by its check.
                    Presence::Ours { version }
                }
            }
            _ => Presence::Foreign,
        }
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
