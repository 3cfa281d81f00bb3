//! Beats: they prove that the agent lives, and count only as long as the agent has servers to tell of it.
//!
//! An agent answers beats whether or not it reaches its servers. While it doesn't, its node's own check turns critical
//! there within seconds, and nobody is shown any of its services. So the agent is asked for the leader after the
//! beats, which it has to ask a server for: any answer of a server counts, also that there is no leader, as nobody is
//! hidden by that and stale reads go on.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use registry_core::{
    Error, ErrorKind, InstanceKey,
    backend::{Lifetime, Renewal},
};
use tokio::time::{Instant, timeout_at};

use super::ConsulLease;

/// Beats at the same time: all of a client are due together.
const BEATS: usize = 32;

impl ConsulLease {
    /// One beat for each instance; those that didn't count are missed.
    pub(super) async fn beat(&self, deadline: Instant) -> Result<Renewal, Error> {
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
        let left = deadline.saturating_duration_since(Instant::now());
        let by = deadline - left / 10;
        // One beat that hangs leaves time to ask for the leader, without which none of the others would count.
        let beats_by = deadline - left / 3;
        let total = held.len();
        let late = |what: &str| {
            let message = format!("{what} got no answer from {} in time", agent.server);
            Error::new(ErrorKind::Timeout, message).with_context(super::super::NAME, "renew")
        };
        let beats: Vec<_> = held
            .into_iter()
            .map(|(key, id)| {
                let (agent, late) = (&agent, &late);
                async move {
                    // Also one that waits for a token.
                    let answer = timeout_at(beats_by, agent.pass(&id, Some(beats_by))).await;
                    (key, answer.unwrap_or_else(|_| Err(late("the beat"))))
                }
            })
            .collect();
        let beats = stream::iter(beats).buffer_unordered(BEATS).collect::<Vec<_>>();
        let answers = beats.await;
        // Not beside them: each connection more of every client counts against what an agent allows an address.
        let reaches = timeout_at(by, agent.reaches_servers(Some(by))).await;
        let mut failure = reaches.unwrap_or_else(|_| Err(late("the question for the leader"))).err();
        let is_cut_off = failure.is_some();
        for (key, answer) in answers {
            match answer {
                Ok(true) if is_cut_off => renewal.missed.push(key),
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
            Some(error) if renewal.missed.len() == total => Err(self.failed("renew", error)),
            _ => {
                if !is_cut_off {
                    self.state().heard = Instant::now();
                }
                Ok(renewal)
            }
        }
    }

    /// What a failure is: the loss of the lease, if the agent has been away, or without servers, for long and others are
    /// there.
    pub(super) fn failed(&self, operation: &'static str, error: Error) -> Error {
        let Some(patience) = patience(self.lifetime) else { return error };
        let (heard, agent, is_bound) = {
            let state = self.state();
            (state.heard, state.agent.clone(), state.is_bound)
        };
        let is_away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        let others = self.session.config.common.servers.len() > 1;
        if !is_away || !others || !is_bound || heard.elapsed() < patience {
            return error;
        }
        // Nobody asks this lease again. What was to be withdrawn from it counts as gone, and isn't published elsewhere either.
        self.owners.give_up(self.number);
        let agent = agent.as_deref().unwrap_or_default().to_owned();
        let message = format!("the agent {agent} has been away or without servers for {patience:?}");
        Error::new(ErrorKind::LeaseLost, message)
            .with_context(super::super::NAME, operation)
            .with_source(error)
    }
}

/// For how long an agent may be away before another one is used: until the core gives the instances up for lost, or just
/// before.
fn patience(lifetime: Lifetime) -> Option<Duration> {
    match lifetime {
        Lifetime::Leased { ttl } => Some(ttl),
        Lifetime::Verified { every } => Some(2 * every - every / 20),
        _ => None,
    }
}
