//! The versions of the API: their paths, and how each names what all of them say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use http::Method;
use registry_core::Error;
use serde::Serialize;

use super::{
    codec::{Address, Record},
    names::{Place, Wanted},
    push::Subscription,
};
use crate::http::{Call, Path};

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Api {
    V1,
    V2,
    V3,
}

/// Which version is used for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Apis {
    /// To register, beat and deregister.
    pub(crate) write: Api,
    /// To list instances.
    pub(crate) read: Api,
}

/// What a write is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) place: &'a Place,
    pub(crate) address: &'a Address,
    pub(crate) ephemeral: bool,
}

/// What a full beat says: `BeatInfo` of the Java client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Beat<'a> {
    cluster: &'a str,
    ip: &'a str,
    port: u16,
    metadata: &'a BTreeMap<String, String>,
    scheduled: bool,
    service_name: &'a str,
    weight: f64,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        })
    }
}

impl Api {
    fn instance(self) -> &'static str {
        match self {
            Self::V1 => "/v1/ns/instance",
            Self::V2 => "/v2/ns/instance",
            Self::V3 => "/v3/client/ns/instance",
        }
    }

    /// Where operators are told of instances, and set something of them.
    fn told(self) -> &'static str {
        match self {
            Self::V1 | Self::V2 => self.instance(),
            Self::V3 => "/v3/admin/ns/instance",
        }
    }

    /// A question that any server with this version refuses as incomplete, and any other as unknown.
    pub(crate) fn probe(self, context: &str) -> String {
        format!("{context}{}/list", self.instance())
    }

    pub(crate) fn register(
        self,
        context: &str,
        subject: Subject<'_>,
        record: &Record,
    ) -> Result<Call, Error> {
        let metadata = serde_json::to_string(&record.metadata).map_err(|error| {
            crate::http::invalid("the metadata can't be written as JSON").with_source(error)
        })?;
        let (port, weight) = (subject.address.port.to_string(), record.weight.to_string());
        let mut pairs = self.named(subject, &port);
        // Not `enabled`, which is the operator's.
        let healthy = if record.is_healthy { "true" } else { "false" };
        pairs.extend([("weight", weight.as_str()), ("metadata", &metadata), ("healthy", healthy)]);
        let service = self.service(subject.place, false);
        pairs.push(("serviceName", &service));
        let path = format!("{context}{}", self.instance());
        Ok(Call::post("publish", path).form(Path::form(pairs)).repeatable())
    }

    /// A light beat, which an unknown instance isn't registered by; or, in v1 and v2 with a record, one by which it is.
    pub(crate) fn beat(
        self,
        context: &str,
        subject: Subject<'_>,
        record: Option<&Record>,
    ) -> Result<Call, Error> {
        let port = subject.address.port.to_string();
        let pairs = self.named(subject, &port);
        // The v2 beat has kept the form of v1.
        let service = self.service(subject.place, self == Self::V2);
        if self == Self::V3 {
            let pairs = pairs.into_iter().chain([("serviceName", service.as_str()), ("heartBeat", "true")]);
            let call = Call::post("renew", format!("{context}{}", self.instance()));
            return Ok(call.form(Path::form(pairs)).repeatable());
        }
        let path = Path::new(format!("{context}{}/beat", self.instance()));
        let call = Call::new("renew", Method::PUT, query(path, pairs).query("serviceName", &service));
        let Some(record) = record else { return Ok(call.repeatable()) };
        let beat = Beat {
            cluster: &subject.address.cluster,
            ip: &subject.address.ip,
            port: subject.address.port,
            metadata: &record.metadata,
            scheduled: true,
            service_name: &subject.place.grouped(),
            weight: record.weight,
        };
        let beat = serde_json::to_string(&beat)
            .map_err(|error| crate::http::invalid("the beat can't be written as JSON").with_source(error))?;
        Ok(call.form(Path::form([("beat", beat.as_str())])).repeatable())
    }

    pub(crate) fn deregister(self, context: &str, operation: &'static str, subject: Subject<'_>) -> Call {
        let port = subject.address.port.to_string();
        let service = self.service(subject.place, false);
        let path = Path::new(format!("{context}{}", self.instance()));
        let target = query(path, self.named(subject, &port)).query("serviceName", &service);
        Call::delete(operation, target).repeatable()
    }

    /// Takes keys out of what operators have set for an instance, so that it shows its own. Weight and switch stay. v3
    /// does that for operators only.
    pub(crate) fn unset(
        self,
        context: &str,
        operation: &'static str,
        subject: Subject<'_>,
        keys: &BTreeSet<String>,
    ) -> Result<Call, Error> {
        let Subject { place, address, ephemeral } = subject;
        let json = |value: &serde_json::Value| {
            serde_json::to_string(value)
                .map_err(|error| crate::http::invalid("the keys can't be written as JSON").with_source(error))
        };
        let instance = serde_json::json!([{
            "ip": address.ip, "port": address.port, "clusterName": address.cluster, "ephemeral": ephemeral,
        }]);
        let keys = keys.iter().map(|key| (key.clone(), "".into())).collect::<serde_json::Map<_, _>>();
        let mut path = Path::new(format!("{context}{}/metadata/batch", self.told()))
            .query("namespaceId", &place.namespace)
            .query("serviceName", &self.service(place, false));
        if self != Self::V1 {
            path = path.query("groupName", &place.group);
        }
        let path = path
            .query("consistencyType", if ephemeral { "ephemeral" } else { "persist" })
            .query("instances", &json(&instance)?)
            .query("metadata", &json(&keys.into())?);
        Ok(Call::delete(operation, path).repeatable())
    }

    /// Lists all that isn't disabled, and asks v1 for pushes.
    pub(crate) fn list(
        self,
        context: &str,
        operation: &'static str,
        wanted: &Wanted,
        push: Option<&Subscription>,
    ) -> Call {
        let Wanted { place, clusters } = wanted;
        let clusters_key = if self == Self::V1 { "clusters" } else { "clusterName" };
        let mut path = Path::new(format!("{context}{}/list", self.instance()))
            .query("namespaceId", &place.namespace)
            .query("serviceName", &self.service(place, false));
        if self != Self::V1 {
            path = path.query("groupName", &place.group);
        }
        path =
            path.maybe_query(clusters_key, Some(clusters.as_str()).filter(|clusters| !clusters.is_empty()));
        let Some(push) = push.filter(|_| self == Self::V1) else {
            return Call::get(operation, path).list();
        };
        let path = path.query("udpPort", &push.port.to_string()).query("clientIP", &push.ip.to_string());
        push.announce(Call::get(operation, path).list())
    }

    /// Asks for one instance, also for one that is disabled. v3 tells that to operators only.
    pub(crate) fn one(self, context: &str, operation: &'static str, subject: Subject<'_>) -> Call {
        let port = subject.address.port.to_string();
        let path = Path::new(format!("{context}{}", self.told()));
        let service = self.service(subject.place, false);
        Call::get(operation, query(path, self.named(subject, &port)).query("serviceName", &service))
    }

    /// v1 takes the group in the name, v2 and v3 beside it.
    fn service(self, place: &Place, grouped: bool) -> String {
        if self == Self::V1 || grouped { place.grouped() } else { place.service.clone() }
    }

    fn named<'a>(self, subject: Subject<'a>, port: &'a str) -> Vec<(&'a str, &'a str)> {
        let Subject { place, address, ephemeral } = subject;
        let mut pairs = vec![
            ("namespaceId", place.namespace.as_str()),
            ("ip", &address.ip),
            ("port", port),
            ("clusterName", &address.cluster),
            ("ephemeral", if ephemeral { "true" } else { "false" }),
        ];
        if self != Self::V1 {
            pairs.push(("groupName", &place.group));
        }
        pairs
    }
}

fn query(path: Path, pairs: Vec<(&str, &str)>) -> Path {
    pairs.into_iter().fold(path, |path, (key, value)| path.query(key, value))
}
