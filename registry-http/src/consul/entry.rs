//! One entry of a list of healthy services: node, service and checks, ours or anybody's.
//!
//! An entry that a check calls critical is as good as gone, save that maintenance means draining: an operator's word or
//! our own. Foreign entries become instances as their own fleets read them: Kratos' `TaggedAddresses` with whole URLs,
//! Spring's `secure`, `zone` and `gRPC_port`, else plain `Address` and `Port`. Their id is `{ID}@{node}`, as one id may
//! stand on every node.

use std::{borrow::Cow, collections::BTreeMap};

use registry_core::{
    Endpoint, Error, ErrorKind, Instance, InstanceBuilder, InstanceId, InstanceKey, Metadata, ServiceName,
    Status, Weight,
};
use serde::Deserialize;

use super::{codec::decode_meta, names::Names};

/// Begins the ids of the checks that maintenance makes.
pub(super) const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const NODE_MAINTENANCE: &str = "_node_maintenance";

type Text<'a> = Cow<'a, str>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow, default)]
    node: Option<Node<'a>>,
    #[serde(borrow)]
    service: Service<'a>,
    #[serde(borrow, default)]
    checks: Option<Vec<Check<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Node<'a> {
    #[serde(borrow, default)]
    node: Option<Text<'a>>,
    #[serde(borrow, default)]
    datacenter: Option<Text<'a>>,
    #[serde(borrow, default)]
    address: Option<Text<'a>>,
    #[serde(borrow, default)]
    tagged_addresses: Option<BTreeMap<Text<'a>, Text<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Service<'a> {
    #[serde(borrow, rename = "ID")]
    id: Text<'a>,
    #[serde(borrow)]
    service: Text<'a>,
    #[serde(borrow, default)]
    address: Option<Text<'a>>,
    #[serde(default)]
    port: Option<u32>,
    #[serde(borrow, default)]
    tags: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    meta: Option<BTreeMap<Text<'a>, Text<'a>>>,
    #[serde(borrow, default)]
    tagged_addresses: Option<BTreeMap<Text<'a>, Tagged<'a>>>,
    #[serde(default)]
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagged<'a> {
    #[serde(borrow, default)]
    address: Option<Text<'a>>,
    #[serde(default)]
    port: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default)]
    passing: Option<u32>,
    #[serde(default)]
    warning: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check<'a> {
    #[serde(borrow, rename = "CheckID", default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
}

/// What the checks of an entry say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Passing,
    Warning,
    Maintenance,
    Critical,
}

/// How lists are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) names: &'a Names,
    pub(super) service: &'a ServiceName,
    /// The agent's own data centre, where that is known and entries may be of another one: addresses of its own network
    /// may lead nowhere then.
    pub(super) home: Option<&'a str>,
    /// Whether entries are taken for another one's if that can't be told.
    pub(super) is_remote: bool,
    /// Whether the list is of a prepared query, which may name another service than the target.
    pub(super) is_prepared: bool,
}

impl Reading<'_> {
    /// The instance of an entry; `Err` with the key, as far as it can be told, of one that can't be read, and without a
    /// key for one that isn't there to be used.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Instance, Option<InstanceKey>> {
        let entry: Entry<'_> = serde_json::from_slice(bytes).map_err(|error| {
            tracing::debug!(%error, "skipped an entry of a list");
            self.key_at_least(bytes)
        })?;
        // Consul ignores case; we don't.
        if !self.is_prepared && *entry.service.service != *self.names.service(self.service) {
            return Err(None);
        }
        let health = health(entry.checks.as_deref().unwrap_or_default());
        if health == Health::Critical {
            return Err(None);
        }
        let empty = BTreeMap::new();
        let meta = entry.service.meta.as_ref().unwrap_or(&empty);
        let tags = entry.service.tags.as_deref().unwrap_or_default();
        let ours = self
            .own_key(&entry)
            .and_then(|key| decode_meta(meta, tags, &key).map(|instance| (key, instance)));
        let (key, instance) = match ours {
            Some((key, instance)) => (Some(key), instance),
            None => {
                let key = self.foreign_key(&entry);
                let instance = key.clone().and_then(|key| self.foreign(&entry, key, meta, tags, health));
                (key.ok(), instance)
            }
        };
        let instance = instance.and_then(|instance| match health {
            Health::Maintenance if instance.status() == Status::Serving => {
                let version = instance.record_version();
                let draining = instance.to_builder().status(Status::Draining).build()?;
                Ok(draining.with_record_version(version))
            }
            _ => Ok(instance),
        });
        instance.map_err(|error| {
            tracing::debug!(id = %entry.service.id, error = format!("{error:#}"), "skipped a record");
            key
        })
    }

    fn is_remote(&self, node: Option<&Node<'_>>) -> bool {
        let told = node.and_then(|node| node.datacenter.as_deref()).filter(|told| !told.is_empty());
        match (self.home, told) {
            (Some(home), Some(told)) => !told.eq_ignore_ascii_case(home),
            _ => self.is_remote,
        }
    }

    fn own_key(&self, entry: &Entry<'_>) -> Option<InstanceKey> {
        let service = self.service_of(entry).ok()?;
        self.names.key_of(&service, &entry.service.id)
    }

    fn service_of(&self, entry: &Entry<'_>) -> Result<ServiceName, Error> {
        if !self.is_prepared {
            return Ok(self.service.clone());
        }
        match self.names.service_of(&entry.service.service) {
            Some(service) => Ok(service),
            None => ServiceName::foreign(&entry.service.service),
        }
    }

    fn foreign_key(&self, entry: &Entry<'_>) -> Result<InstanceKey, Error> {
        let node = entry.node.as_ref().and_then(|node| node.node.as_deref()).unwrap_or_default();
        let id = InstanceId::foreign(format!("{}@{node}", entry.service.id))?;
        Ok(InstanceKey::new(self.service_of(entry)?, id))
    }

    fn foreign(
        &self,
        entry: &Entry<'_>,
        key: InstanceKey,
        meta: &BTreeMap<Text<'_>, Text<'_>>,
        tags: &[Text<'_>],
        health: Health,
    ) -> Result<Instance, Error> {
        let given = |key: &str| meta.get(key).map(|text| &**text).filter(|text| !text.is_empty());
        let mut builder = InstanceBuilder::of(key.service).parsed_id(key.id);
        for endpoint in self.endpoints(&entry.service, entry.node.as_ref(), given, tags)? {
            builder = builder.endpoint(endpoint.to_string());
        }
        // What doesn't fit a field stays metadata.
        let mut lifted = Vec::new();
        let fits = |text: &&str| text.len() <= 256;
        let version = given("version").filter(fits).inspect(|_| lifted.push("version"));
        let version = version
            .or_else(|| tags.iter().find_map(|tag| tag.strip_prefix("version=")).filter(|v| !v.is_empty()));
        if let Some(version) = version {
            builder = builder.version(version);
        }
        if let Some(zone) = given("zone").filter(fits) {
            lifted.push("zone");
            builder = builder.zone(zone);
        }
        if let Some(group) = given("group").filter(fits) {
            lifted.push("group");
            builder = builder.group(group);
        }
        let told = given("weight").and_then(|text| Weight::from_f64(text.parse().ok()?).ok());
        let weight = match told {
            Some(weight) => {
                lifted.push("weight");
                weight.get()
            }
            None => neutral(entry.service.weights.as_ref(), health),
        };
        builder = builder.weight(weight);
        let own = |tag: &&Text<'_>| !tag.starts_with("version=") && !tag.is_empty() && tag.len() <= 256;
        for tag in tags.iter().filter(own).take(64) {
            builder = builder.tag(&**tag);
        }
        let rest = meta.iter().filter(|(key, _)| !lifted.contains(&&***key));
        builder.all_metadata(Metadata::from_pairs(rest.map(|(key, value)| (&**key, &**value)))?).build()
    }

    fn endpoints<'t>(
        &self,
        service: &'t Service<'_>,
        node: Option<&'t Node<'_>>,
        given: impl Fn(&str) -> Option<&'t str>,
        tags: &[Text<'_>],
    ) -> Result<Vec<Endpoint>, Error> {
        let tagged = service.tagged_addresses.as_ref();
        let is_remote = self.is_remote(node);
        // Kratos: whole URLs by scheme.
        let urls = tagged.into_iter().flatten().filter_map(|(_, one)| one.address.as_deref());
        let mut urls: Vec<Endpoint> =
            urls.filter(|url| url.contains("://")).filter_map(|url| url.parse().ok()).collect();
        let port = service.port.unwrap_or(0);
        if !urls.is_empty() {
            // The first endpoint is the one that stands in `Port` too.
            urls.sort_by_key(|url| u32::from(url.port()) != port);
            return Ok(urls);
        }
        let filled = |text: Option<&'t Text<'_>>| text.map(|text| &**text).filter(|text| !text.is_empty());
        let wan = tagged.filter(|_| is_remote).and_then(|tagged| tagged.get("wan"));
        let node_wan = node.filter(|_| is_remote).and_then(|n| n.tagged_addresses.as_ref()?.get("wan"));
        let host = filled(wan.and_then(|wan| wan.address.as_ref()))
            .or_else(|| filled(service.address.as_ref()))
            .or_else(|| filled(node_wan))
            .or_else(|| filled(node.and_then(|node| node.address.as_ref())))
            .ok_or_else(|| malformed("it has no address"))?;
        let port = wan.and_then(|wan| wan.port).filter(|port| *port > 0).unwrap_or(port);
        let scheme = if given("secure") == Some("true") { "https" } else { "http" };
        let mut endpoints = vec![endpoint(scheme, host, port)?];
        let grpc = given("gRPC_port").or_else(|| tags.iter().find_map(|tag| tag.strip_prefix("gRPC.port=")));
        if let Some(grpc) = grpc.and_then(|port| port.parse().ok()) {
            endpoints.extend(endpoint("grpc", host, grpc));
        }
        Ok(endpoints)
    }
}

fn endpoint(scheme: &str, host: &str, port: u32) -> Result<Endpoint, Error> {
    let port =
        u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| malformed("it has no port"))?;
    Endpoint::new(scheme, host, port)
}

fn malformed(why: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, why)
}

/// Our weight for Consul's, whose neutral one is 1.
fn neutral(weights: Option<&Weights>, health: Health) -> u32 {
    let told = weights.and_then(|weights| match health {
        Health::Warning => weights.warning,
        Health::Passing | Health::Maintenance | Health::Critical => weights.passing,
    });
    told.unwrap_or(1).saturating_mul(Weight::NEUTRAL.get()).min(Weight::MAX.get())
}

fn health(checks: &[Check<'_>]) -> Health {
    let each = checks.iter().map(|check| {
        let id = check.id.as_deref().unwrap_or_default();
        match check.status.as_deref() {
            Some("critical") if id.starts_with(SERVICE_MAINTENANCE) || id == NODE_MAINTENANCE => {
                Health::Maintenance
            }
            Some("critical") => Health::Critical,
            Some("warning") => Health::Warning,
            _ => Health::Passing,
        }
    });
    each.max().unwrap_or(Health::Passing)
}

mod salvage;
#[cfg(test)]
mod tests;
