//! One entry of a list of healthy services: node, service and checks, ours or anybody's.
//!
//! An entry that a check calls critical is as good as gone, save that maintenance means draining: an operator's word or
//! our own. Foreign entries become instances as their own fleets read them: Kratos' `TaggedAddresses` with whole URLs,
//! Spring's `secure`, `zone` and `gRPC_port`, else plain `Address` and `Port`. Their id is `{ID}@{node}`, as one id may
//! stand on every node.

use std::fmt;

use registry_core::{
    Endpoint, Error, ErrorKind, Instance, InstanceId, InstanceKey, ServiceName, Status, Weight, model::Sketch,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    codec::{decode_meta, is_ours},
    names::Names,
    text::{Pairs, Text, Wan},
};

/// Begins the ids of the checks that maintenance makes.
pub(super) const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const NODE_MAINTENANCE: &str = "_node_maintenance";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry<'a> {
    #[serde(borrow, default)]
    node: Option<Node<'a>>,
    #[serde(borrow)]
    service: Service<'a>,
    #[serde(default)]
    checks: Option<Health>,
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
    tagged_addresses: Option<&'a RawValue>,
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
    /// Agents take any number.
    #[serde(default)]
    port: Option<i64>,
    #[serde(borrow, default)]
    tags: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    meta: Option<Pairs<'a>>,
    #[serde(borrow, default)]
    tagged_addresses: Option<&'a RawValue>,
    #[serde(default)]
    weights: Option<Weights>,
}

/// What of a service's tagged addresses may count.
#[derive(Default)]
struct TaggedAddresses<'a> {
    /// Whole URLs, with the scheme they stand under.
    urls: Vec<(Text<'a>, Text<'a>)>,
    wan: Option<Tagged<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagged<'a> {
    #[serde(borrow, default)]
    address: Option<Text<'a>>,
    #[serde(default)]
    port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default)]
    passing: Option<f64>,
    #[serde(default)]
    warning: Option<f64>,
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
    pub(super) fn decode(&self, raw: &str) -> Result<Instance, Option<InstanceKey>> {
        let entry: Entry<'_> = serde_json::from_str(raw).map_err(|error| {
            tracing::debug!(%error, "skipped an entry of a list");
            self.key_at_least(raw)
        })?;
        self.instance(&entry)
    }

    /// The same of an entry that was read.
    pub(super) fn instance(&self, entry: &Entry<'_>) -> Result<Instance, Option<InstanceKey>> {
        // Consul ignores case; we don't.
        if !self.is_prepared && !self.names.is_name_of(self.service, &entry.service.service) {
            return Err(None);
        }
        let health = entry.checks.unwrap_or(Health::Passing);
        if health == Health::Critical {
            return Err(None);
        }
        let none = Pairs::default();
        let meta = entry.service.meta.as_ref().unwrap_or(&none);
        let tags = entry.service.tags.as_deref().unwrap_or_default();
        let own_key = if is_ours(meta) { self.own_key(entry) } else { None };
        let ours = own_key.and_then(|key| decode_meta(meta, tags, &key).map(|instance| (key, instance)));
        let (key, instance) = match ours {
            Some((key, instance)) => (Some(key), instance),
            None => {
                let key = self.foreign_key(entry);
                let instance = key.clone().and_then(|key| self.foreign(entry, key, meta, tags, health));
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
            tracing::debug!(id = %*entry.service.id, error = format!("{error:#}"), "skipped a record");
            key
        })
    }

    /// The keys that an entry at a place of a list may have: whether it is one of ours, only its record tells.
    pub(super) fn keys_at(&self, node: &str, id: &str) -> Vec<InstanceKey> {
        let own = self.names.key_of(self.service, id);
        let foreign = InstanceId::foreign([id, "@", node].concat());
        own.into_iter().chain(foreign.ok().map(|id| InstanceKey::new(self.service.clone(), id))).collect()
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
        let id = InstanceId::foreign([&*entry.service.id, "@", node].concat())?;
        Ok(InstanceKey::new(self.service_of(entry)?, id))
    }

    fn foreign(
        &self,
        entry: &Entry<'_>,
        key: InstanceKey,
        meta: &Pairs<'_>,
        tags: &[Text<'_>],
        health: Health,
    ) -> Result<Instance, Error> {
        let given = |key: &str| meta.get(key).filter(|text| !text.is_empty());
        let mut sketch = Sketch::new(key);
        sketch.endpoints = self.endpoints(&entry.service, entry.node.as_ref(), given, tags)?;
        // What doesn't fit a field stays metadata.
        let fits = |text: &&str| text.len() <= 256;
        let (version, zone, group) =
            (given("version").filter(fits), given("zone").filter(fits), given("group").filter(fits));
        let told = given("weight").and_then(|text| Weight::from_f64(text.parse().ok()?).ok());
        let lifted = [
            version.map(|_| "version"),
            zone.map(|_| "zone"),
            group.map(|_| "group"),
            told.map(|_| "weight"),
        ];
        sketch.version = version
            .or_else(|| tags.iter().find_map(|tag| tag.strip_prefix("version=")).filter(|v| !v.is_empty()));
        (sketch.zone, sketch.group) = (zone, group);
        sketch.weight = match told {
            Some(told) => told,
            None => neutral(entry.service.weights.as_ref(), health)?,
        };
        let own = |tag: &&str| !tag.starts_with("version=") && !tag.is_empty() && tag.len() <= 256;
        sketch.tags = tags.iter().map(|tag| &**tag).filter(own).take(64).collect();
        sketch.metadata = meta.iter().filter(|(key, _)| !lifted.contains(&Some(*key))).collect();
        sketch.build()
    }

    fn endpoints<'t>(
        &self,
        service: &'t Service<'_>,
        node: Option<&'t Node<'_>>,
        given: impl Fn(&str) -> Option<&'t str>,
        tags: &[Text<'_>],
    ) -> Result<Vec<Endpoint>, Error> {
        let is_remote = self.is_remote(node);
        // Read where they may count: nearly all entries have some, and they say once more what `Address` says.
        let counts = |raw: &&RawValue| is_remote || raw.get().contains("://") || raw.get().contains('\\');
        let tagged = service.tagged_addresses.filter(counts);
        let tagged = tagged.map(|raw| serde_json::from_str::<TaggedAddresses<'_>>(raw.get())).transpose();
        let tagged = tagged.map_err(|_| malformed("its tagged addresses are none"))?;
        let tagged = tagged.as_ref();
        // Kratos: whole URLs by scheme.
        let urls = tagged.map(|tagged| &*tagged.urls).unwrap_or_default();
        let mut urls: Vec<Endpoint> = urls.iter().filter_map(|(_, url)| url.parse().ok()).collect();
        let port = service.port.unwrap_or(0);
        if !urls.is_empty() {
            // The first endpoint is the one that stands in `Port` too.
            urls.sort_by_key(|url| i64::from(url.port()) != port);
            return Ok(urls);
        }
        let wan = tagged.filter(|_| is_remote).and_then(|tagged| tagged.wan.as_ref());
        let node_wan = node.filter(|_| is_remote).and_then(|node| node.tagged_addresses);
        let node_wan = node_wan.and_then(|raw| serde_json::from_str::<Wan<'_>>(raw.get()).ok()?.0);
        let host = filled(wan.and_then(|wan| wan.address.as_ref()))
            .or_else(|| filled(service.address.as_ref()))
            .or_else(|| filled(node_wan.as_ref()))
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

fn filled<'t>(text: Option<&'t Text<'_>>) -> Option<&'t str> {
    text.map(|text| &**text).filter(|text| !text.is_empty())
}

fn endpoint(scheme: &str, host: &str, port: i64) -> Result<Endpoint, Error> {
    let port =
        u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| malformed("it has no port"))?;
    Endpoint::new(scheme, host, port)
}

fn malformed(why: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, why)
}

/// Our weight for Consul's, whose neutral one is 1. One that is too large is the largest, and one below zero none: where
/// it doesn't count, it costs nobody the entry.
fn neutral(weights: Option<&Weights>, health: Health) -> Result<Weight, Error> {
    let told = weights.and_then(|weights| match health {
        Health::Warning => weights.warning,
        Health::Passing | Health::Maintenance | Health::Critical => weights.passing,
    });
    let weight = told.unwrap_or(1.0) * f64::from(Weight::NEUTRAL.get());
    Weight::from_f64(weight.min(f64::from(Weight::MAX.get())))
}

impl Check<'_> {
    fn health(&self) -> Health {
        let id = self.id.as_deref().unwrap_or_default();
        match self.status.as_deref() {
            Some("critical") if id.starts_with(SERVICE_MAINTENANCE) || id == NODE_MAINTENANCE => {
                Health::Maintenance
            }
            Some("critical") => Health::Critical,
            Some("warning") => Health::Warning,
            _ => Health::Passing,
        }
    }
}

impl Health {
    fn worst(checks: &[Check<'_>]) -> Self {
        checks.iter().map(Check::health).max().unwrap_or(Self::Passing)
    }
}

/// Whether all of a list of checks pass, as far as that shows without reading them.
///
/// Checks are half of an entry, and nearly all of them pass. A list in which neither other word occurs, nor an escape
/// that might spell one, needs no reading.
fn all_pass(raw: &str) -> bool {
    raw.starts_with('[') && !["critical", "warning", "\\u"].iter().any(|word| raw.contains(word))
}

/// Of a list of checks: what the worst of them says.
impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        if all_pass(raw) {
            return Ok(Self::Passing);
        }
        let checks: Vec<Check<'_>> = serde_json::from_str(raw).map_err(D::Error::custom)?;
        Ok(Self::worst(&checks))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TaggedAddresses<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = TaggedAddresses<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of addresses")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = TaggedAddresses::default();
                while let Some((key, tagged)) = map.next_entry::<Text<'de>, Tagged<'de>>()? {
                    if let Some(url) = tagged.address.as_ref().filter(|address| address.contains("://")) {
                        found.urls.push((key.clone(), url.clone()));
                    }
                    if *key == *"wan" {
                        found.wan = Some(tagged);
                    }
                }
                found.urls.sort_by(|(a, _), (b, _)| a.cmp(b));
                Ok(found)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

mod salvage;
#[cfg(test)]
mod tests;
