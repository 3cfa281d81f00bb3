//! The agent that instances are registered at: what it holds, and what it is told.
//!
//! All of it goes to one agent, as an agent knows only what was registered there.

use std::{collections::HashMap, sync::Arc};

use registry_core::{Error, ErrorKind, Status, model::RecordVersion};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    codec::{Meta, version_of},
    entry::SERVICE_MAINTENANCE,
    error::{self, is_unknown_check, is_unknown_service},
    rights::{is_filtered, is_mute},
    session::Session,
};
use crate::http::{Answer, Call, Path};

/// The check that a node's maintenance is.
const NODE_MAINTENANCE: &str = "_node_maintenance";

/// What an agent has to ask its servers for, and anybody may: who leads them. Answered without a leader, too.
const LEADER: &str = "/v1/status/leader";

/// What maintenance of ours says as its reason, in front of the status.
const REASON: &str = "service-registry: ";

/// One agent, for one operation.
#[derive(Clone)]
pub(super) struct Agent<'a> {
    pub(super) session: &'a Session,
    pub(super) server: Arc<str>,
    pub(super) operation: &'static str,
}

/// What an agent holds, by service id.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    services: HashMap<String, Holding>,
    /// Whether it may hold more than it shows.
    is_partial: bool,
    /// Its node's name, if it holds anything.
    pub(super) node: Option<String>,
    /// A check of the node that is critical, so that nobody sees any of its services.
    obstacle: Option<Box<str>>,
    /// Whether an operator took the whole node out of traffic.
    is_node_out: bool,
}

/// One service at an agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    /// Who wrote it, if it was one of us.
    pub(super) version: Option<RecordVersion>,
    pub(super) maintenance: Option<Maintenance>,
    /// Whether its main check, `service:{id}`, is critical.
    pub(super) is_critical: bool,
    /// Another check of it that is critical, by whoever added it.
    pub(super) obstacle: Option<Box<str>>,
}

/// Who put a service into maintenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Maintenance {
    /// We did, for this status.
    Ours(String),
    Operator,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceHeld {
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckHeld {
    #[serde(default)]
    node: String,
    #[serde(rename = "CheckID", default)]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    notes: String,
    #[serde(rename = "ServiceID", default)]
    service_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeServices {
    #[serde(default)]
    services: Option<Vec<Catalogued>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Catalogued {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    meta: Option<Meta>,
}

impl Holdings {
    pub(super) fn get(&self, id: &str) -> Option<&Holding> {
        self.services.get(id)
    }

    /// Whether an operator took the whole node out of traffic.
    pub(super) fn is_node_out(&self) -> bool {
        self.is_node_out
    }

    /// The check of the node for which nobody sees any of its services.
    pub(super) fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    /// Whether nobody sees a service that is to be in traffic, for a check other than its main one.
    pub(super) fn hides(&self, holding: &Holding) -> bool {
        let is_out = self.is_node_out || holding.maintenance.is_some();
        !is_out && (self.obstacle.is_some() || holding.obstacle.is_some())
    }
}

impl Agent<'_> {
    /// Which agent answers now and reaches its servers, of all that are configured.
    pub(super) async fn answering(&self) -> Result<Arc<str>, Error> {
        let answer = self.session.call(Call::get(self.operation, Path::new(LEADER))).await?;
        match is_cut_off(&answer) {
            true => Err(cut_off(&answer, self.operation)),
            false => Ok(answer.server),
        }
    }

    /// Whether its servers answer it: without them nobody is told what it holds, and its node is hidden from everybody. A
    /// refusal, or that there is no leader, is an answer too.
    ///
    /// # Errors
    /// [`Unavailable`](registry_core::ErrorKind::Unavailable) or [`Timeout`](registry_core::ErrorKind::Timeout), also if
    /// the agent itself doesn't answer.
    pub(super) async fn reaches_servers(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let call = Call::get(self.operation, Path::new(LEADER)).only(Arc::clone(&self.server));
        let call = match deadline {
            Some(deadline) => call.until(deadline),
            None => call,
        };
        let answer = self.session.call(call).await?;
        match is_cut_off(&answer) {
            true => Err(cut_off(&answer, self.operation)),
            false => Ok(()),
        }
    }

    /// What it holds, as far as the token may know.
    pub(super) async fn holdings(&self) -> Result<Holdings, Error> {
        let services = self.list("/v1/agent/services");
        let checks = self.list("/v1/agent/checks");
        let (services, checks) = futures_util::future::try_join(services, checks).await?;
        let is_partial = is_filtered(&services) || is_mute(self.session, &services).await;
        let services: Option<HashMap<String, ServiceHeld>> = self.parse(&services)?;
        let checks: Option<HashMap<String, CheckHeld>> = self.parse(&checks)?;
        let mut holdings = Holdings { is_partial, ..Holdings::default() };
        for (id, held) in services.unwrap_or_default() {
            let version = held.meta.as_ref().and_then(version_of);
            holdings.services.insert(id, Holding { version, ..Holding::default() });
        }
        for check in checks.unwrap_or_default().into_values() {
            holdings.node.get_or_insert_with(|| check.node.clone());
            let is_critical = check.status == "critical";
            if check.service_id.is_empty() && is_critical {
                match check.id == NODE_MAINTENANCE {
                    true => holdings.is_node_out = true,
                    false => holdings.obstacle = Some(check.id.into()),
                }
                continue;
            }
            let Some(holding) = holdings.services.get_mut(&check.service_id) else { continue };
            if check.id.starts_with(SERVICE_MAINTENANCE) {
                holding.maintenance = Some(match check.notes.strip_prefix(REASON) {
                    Some(status) => Maintenance::Ours(status.to_owned()),
                    None => Maintenance::Operator,
                });
            } else if check.id == check_id(&check.service_id) {
                holding.is_critical = is_critical;
            } else if is_critical {
                holding.obstacle = Some(check.id.into());
            }
        }
        Ok(holdings)
    }

    /// One service of those it holds. Where the list doesn't show all, one that it lacks is asked for by its name, which
    /// tells what is hidden from what isn't there.
    ///
    /// # Errors
    /// [`PermissionDenied`](registry_core::ErrorKind::PermissionDenied) if it may be there, for all that the token may
    /// know; or what kept the agent from answering.
    pub(super) async fn held(&self, holdings: &Holdings, id: &str) -> Result<Option<Holding>, Error> {
        let listed = holdings.get(id);
        if listed.is_some() || !holdings.is_partial {
            return Ok(listed.cloned());
        }
        let path = self.session.path("/v1/agent/service", Some(id));
        let answer =
            self.session.call(Call::get(self.operation, path).only(Arc::clone(&self.server))).await?;
        if is_unknown_service(&answer) {
            return Ok(None);
        }
        if !answer.status.is_success() {
            return Err(error::refusal(&answer, self.operation));
        }
        // It came meanwhile.
        let held: ServiceHeld = self.parse(&answer)?;
        Ok(Some(Holding { version: held.meta.as_ref().and_then(version_of), ..Holding::default() }))
    }

    /// Which records the catalogue shows on a node, by id; `None` if the token may not know. A stale answer comes from any
    /// server, also without a leader.
    pub(super) async fn catalogued(
        &self,
        node: &str,
        is_stale: bool,
    ) -> Result<Option<HashMap<String, Option<RecordVersion>>>, Error> {
        let path = self.session.path("/v1/catalog/node-services", Some(node));
        let path = if is_stale { path.flag("stale") } else { path };
        let answer = self.session.success(Call::get(self.operation, path).list()).await?;
        let listed: Option<NodeServices> = self.parse(&answer)?;
        let services = listed.and_then(|listed| listed.services).unwrap_or_default();
        // Who may not see the node sees none of its services. One that shows some hides none that the agent showed.
        if services.is_empty() && (is_filtered(&answer) || is_mute(self.session, &answer).await) {
            return Ok(None);
        }
        let versions = services.into_iter().map(|one| {
            let version = one.meta.as_ref().and_then(version_of);
            (one.id, version)
        });
        Ok(Some(versions.collect()))
    }

    /// Creates or replaces a service; `replace` removes checks that the body doesn't name, maintenance included.
    pub(super) async fn register(&self, body: Vec<u8>, replace: bool) -> Result<(), Error> {
        let path = self.session.path("/v1/agent/service/register", None);
        let path = if replace { path.query("replace-existing-checks", "true") } else { path };
        self.tell(Call::put(self.operation, path).json(body)).await.map(|_| ())
    }

    /// Says that an instance lives; `false` if its check is unknown.
    pub(super) async fn pass(&self, id: &str, deadline: Option<Instant>) -> Result<bool, Error> {
        let path = self.session.path("/v1/agent/check/update", Some(&check_id(id)));
        let call = Call::put(self.operation, path).json(&br#"{"Status":"passing"}"#[..]);
        let call = match deadline {
            Some(deadline) => call.until(deadline),
            None => call,
        };
        let answer = self.session.call(call.only(Arc::clone(&self.server))).await?;
        match answer.status {
            status if status.is_success() => Ok(true),
            _ if is_unknown_check(&answer) => Ok(false),
            _ => Err(error::refusal(&answer, self.operation)),
        }
    }

    /// Takes a service out of traffic for a status of ours.
    pub(super) async fn maintain(&self, id: &str, status: Status) -> Result<(), Error> {
        let path = self.session.path("/v1/agent/service/maintenance", Some(id));
        let path = path.query("enable", "true").query("reason", &reason(status));
        self.tell(Call::put(self.operation, path)).await.map(|_| ())
    }

    /// Puts a service back into traffic.
    pub(super) async fn end_maintenance(&self, id: &str) -> Result<(), Error> {
        let path = self.session.path("/v1/agent/service/maintenance", Some(id));
        self.tell(Call::put(self.operation, path.query("enable", "false"))).await.map(|_| ())
    }

    /// Removes a service; one that is unknown is removed already.
    pub(super) async fn deregister(&self, id: &str) -> Result<(), Error> {
        let path = self.session.path("/v1/agent/service/deregister", Some(id));
        let call = Call::put(self.operation, path).only(Arc::clone(&self.server));
        let answer = self.session.call(call).await?;
        match answer.status.is_success() || is_unknown_service(&answer) {
            true => Ok(()),
            false => Err(error::refusal(&answer, self.operation)),
        }
    }

    async fn list(&self, path: &str) -> Result<Answer, Error> {
        let path: Path = self.session.path(path, None);
        self.tell(Call::get(self.operation, path).list()).await
    }

    async fn tell(&self, call: Call) -> Result<Answer, Error> {
        self.session.success(call.only(Arc::clone(&self.server))).await
    }

    fn parse<'a, T: Deserialize<'a>>(&self, answer: &'a Answer) -> Result<T, Error> {
        serde_json::from_slice(&answer.body)
            .map_err(|_| error::protocol(answer, self.operation, "not what this path answers"))
    }
}

/// Whether the answer says that no server could be asked.
fn is_cut_off(answer: &Answer) -> bool {
    answer.status.is_server_error()
        && error::refusal(answer, "").kind() == ErrorKind::Unavailable
        && !error::is_leaderless(answer)
}

fn cut_off(answer: &Answer, operation: &'static str) -> Error {
    let message = format!("the agent {} reaches none of its servers", answer.server);
    Error::new(ErrorKind::Unavailable, message)
        .with_context(super::NAME, operation)
        .with_source(error::refusal(answer, operation))
}

/// What maintenance of ours says as its reason.
pub(super) fn reason(status: Status) -> String {
    format!("{REASON}{status}")
}

/// The id of the check that says whether a service lives.
pub(super) fn check_id(service_id: &str) -> String {
    format!("service:{service_id}")
}
