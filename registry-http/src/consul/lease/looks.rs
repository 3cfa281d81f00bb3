//! Looks: whether what was published is there, at the agent and in the catalogue, and whether anybody sees it.

use futures_util::future::{BoxFuture, join_all};
use registry_core::{Error, InstanceKey, backend::Presence};
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::{
        agent::{Agent, Holding, Holdings},
        owners::LeftBehind,
    },
    CONCURRENT, ConsulLease, LOOK_AGAIN, LOOKS,
};
use crate::http::abreast;

impl ConsulLease {
    pub(super) async fn look(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let agent = self.agent("inspect");
        // The catalogue is read from any agent, which says nothing of this one's servers.
        let holdings = agent.holdings().await.map_err(|error| self.failed("inspect", error))?;
        agent.reaches_servers(None).await.map_err(|error| self.failed("inspect", error))?;
        self.state().heard = Instant::now();
        let ids: Vec<String> = keys.iter().map(|key| self.names.id(key)).collect();
        let mut looks: Vec<BoxFuture<'_, Result<Option<Holding>, Error>>> = Vec::with_capacity(ids.len());
        for id in &ids {
            looks.push(Box::pin(agent.held(&holdings, id)));
        }
        let held = abreast(looks, CONCURRENT).await;
        let mut found: Vec<Presence> =
            ids.iter().zip(held).map(|(id, held)| self.judge(id, held, &holdings)).collect();
        let Some(node) = &holdings.node else { return Ok(found) };
        if !found.iter().any(|presence| matches!(presence, Presence::Ours { .. })) {
            return Ok(found);
        }
        let mut pause = LOOK_AGAIN;
        for look in 1..=LOOKS {
            // What any server shows is there. That something isn't, only the leader knows.
            let is_last = look == LOOKS;
            let catalogued = match agent.catalogued(node, !is_last).await {
                Ok(Some(catalogued)) => catalogued,
                // The agent's word is all there is to be had.
                Ok(None) => break,
                Err(error) if is_last && error.kind().is_ambiguous() => {
                    // Nobody is hidden by the lack of a leader.
                    tracing::debug!(error = format!("{error:#}"), "the leader's catalogue can't be read");
                    break;
                }
                Err(error) => return Err(error),
            };
            let is_behind = |(id, presence): (&String, &Presence)| match presence {
                Presence::Ours { version } => catalogued.get(id) != Some(&Some(*version)),
                _ => false,
            };
            let behind: Vec<bool> = ids.iter().zip(&found).map(is_behind).collect();
            if !behind.contains(&true) {
                break;
            }
            if !is_last {
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

    /// Removes what stands at agents that were given up: of what Consul itself checks nothing else would, as long as it
    /// passes. What can't be reached soon is left for the next time.
    pub(super) async fn tidy(&self, left: LeftBehind) {
        // Whoever waits for more than this has other things to do.
        let within = self.session.config.common.request_timeout / 2;
        let removals = left.into_iter().map(async |(server, ids)| {
            let agent = Agent { session: &self.session, server, operation: "withdraw" };
            let removed = timeout(within, self.remove_left(&agent, &ids)).await;
            if let Ok(Err(error)) = &removed {
                tracing::debug!(agent = %agent.server, error = format!("{error:#}"), "left instances behind");
            }
            self.owners.asked(&agent.server, matches!(removed, Ok(Ok(()))));
        });
        join_all(removals).await;
    }

    async fn remove_left(&self, agent: &Agent<'_>, ids: &[String]) -> Result<(), Error> {
        let holdings = agent.holdings().await?;
        for id in ids {
            let held = agent.held(&holdings, id).await?;
            // It may be on its way back here, and this would take what comes.
            let Some(_removing) = self.owners.removing(&agent.server) else { return Ok(()) };
            // It may have come back meanwhile.
            if held.is_some_and(|holding| self.is_ours(&holding)) && self.owners.is_left(id, &agent.server) {
                agent.deregister(id).await?;
            }
            self.owners.removed(id, &agent.server);
        }
        Ok(())
    }
}
