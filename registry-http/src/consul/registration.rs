//! The body of a registration.

use std::time::Duration;

use registry_core::{
    Endpoint, Error, ErrorKind, Instance, Status,
    backend::{Lifetime, Publish},
};
use serde_json::{Map, Value, json};

use super::{
    agent::{check_id, reason},
    codec::{encode_meta, facing},
    config::{ConsulCheck, ConsulConfig},
    entry::SERVICE_MAINTENANCE,
    names::Names,
};

/// The shortest time after which Consul removes what is critical.
const LEAST_DEREGISTER: Duration = Duration::from_secs(60);

/// How long the check that is a new service's maintenance waits for what never comes. Once it is over, it says so in the
/// agent's log and stays as critical as it is.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What is known of the service that is registered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Whether the agent has it not, so that nothing says yet whether it is in traffic.
    pub(super) is_new: bool,
    /// Whether Consul's check called it critical when it was last seen.
    pub(super) is_failing: bool,
}

/// What registers an instance under `id`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it is too large, or has no endpoint for the configured check.
pub(super) fn body(
    config: &ConsulConfig,
    names: &Names,
    record: &Publish,
    lifetime: Lifetime,
    id: &str,
    known: Known,
) -> Result<Vec<u8>, Error> {
    let instance = &*record.instance;
    let endpoint = facing(instance);
    let mut checks = vec![check(config, instance, lifetime, id, known)?];
    if known.is_new && instance.status() != Status::Serving {
        checks.push(maintenance(id, instance.status()));
    }
    let mut body = json!({
        "ID": id,
        "Name": names.service(instance.service()),
        "Address": endpoint.host(),
        "Port": endpoint.port(),
        "Tags": instance.tags().collect::<Vec<_>>(),
        "Meta": encode_meta(instance, record.version)?,
        "Checks": checks,
    });
    let tagged = tagged_addresses(instance);
    if !tagged.is_empty() {
        body["TaggedAddresses"] = Value::Object(tagged);
    }
    if config.weights {
        // The least Consul takes; our own readers know better.
        let weight = instance.weight().get().clamp(1, 65_535);
        body["Weights"] = json!({ "Passing": weight, "Warning": weight });
    }
    if let Some(ns) = &config.ns {
        body["Namespace"] = ns.as_str().into();
    }
    if let Some(partition) = &config.partition {
        body["Partition"] = partition.as_str().into();
    }
    Ok(body.to_string().into_bytes())
}

fn check(
    config: &ConsulConfig,
    instance: &Instance,
    lifetime: Lifetime,
    id: &str,
    known: Known,
) -> Result<Value, Error> {
    let ttl = match lifetime {
        Lifetime::Leased { ttl } => ttl,
        Lifetime::Verified { .. } | Lifetime::Permanent => config.check_interval,
        _ => config.check_interval,
    };
    let after = config.deregister_after.unwrap_or_else(|| (10 * ttl).max(LEAST_DEREGISTER));
    let mut check = json!({
        "CheckID": check_id(id),
        "Name": "service-registry",
        // Without it nobody sees the instance before the first check; of one that failed, nobody is to.
        "Status": if known.is_failing { "critical" } else { "passing" },
        "DeregisterCriticalServiceAfter": go(after),
    });
    match config.check {
        ConsulCheck::Ttl => check["TTL"] = go(ttl).into(),
        ConsulCheck::Http => {
            let endpoint = find(instance, &["http", "https"], "an http or https endpoint")?;
            let path = config.check_path.as_deref().unwrap_or("/");
            check["HTTP"] = format!("{}://{}{path}", endpoint.scheme(), endpoint.authority()).into();
            if let Some(method) = &config.check_method {
                check["Method"] = method.as_str().into();
            }
            if let Some((name, value)) = &config.check_header {
                check["Header"] = json!({ name.as_str(): [value] });
            }
        }
        ConsulCheck::Tcp => check["TCP"] = instance.endpoint().authority().into(),
        ConsulCheck::Grpc => {
            let endpoint = find(instance, &["grpc", "grpcs"], "a grpc or grpcs endpoint")?;
            let service = config.check_path.as_deref().map(|path| path.trim_start_matches('/'));
            check["GRPC"] = match service.filter(|service| !service.is_empty()) {
                Some(service) => format!("{}/{service}", endpoint.authority()).into(),
                None => endpoint.authority().into(),
            };
            check["GRPCUseTLS"] = (endpoint.scheme() == "grpcs").into();
        }
    }
    if config.check != ConsulCheck::Ttl {
        check["Interval"] = go(config.check_interval).into();
        check["Timeout"] = go(config.check_timeout).into();
    }
    if config.check_tls_skip_verify {
        check["TLSSkipVerify"] = true.into();
    }
    if let Some(name) = &config.check_tls_server_name {
        check["TLSServerName"] = name.as_str().into();
    }
    Ok(check)
}

/// Maintenance as a check of the registration, so that there is no moment at which others see the instance in traffic.
/// Consul knows its own by the id alone: an operator lifts this one as any, and asking for it again changes nothing.
fn maintenance(id: &str, status: Status) -> Value {
    json!({
        "CheckID": format!("{SERVICE_MAINTENANCE}{id}"),
        "Name": "Service Maintenance Mode",
        "Notes": reason(status),
        "Status": "critical",
        "TTL": go(NEVER),
    })
}

fn find<'a>(instance: &'a Instance, schemes: &[&str], what: &str) -> Result<&'a Endpoint, Error> {
    let found = instance.endpoints().iter().find(|endpoint| schemes.contains(&endpoint.scheme()));
    found.ok_or_else(|| {
        let message = format!("{} has not {what} for the check to ask", instance.key());
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

/// All endpoints, if one `Address` can't tell them: as Kratos writes and reads them.
fn tagged_addresses(instance: &Instance) -> Map<String, Value> {
    let endpoints = instance.endpoints();
    if let [only] = endpoints
        && matches!(only.scheme(), "http" | "https")
    {
        return Map::new();
    }
    let mut tagged = Map::new();
    for endpoint in endpoints {
        let one = || json!({ "Address": endpoint.to_string(), "Port": endpoint.port() });
        tagged.entry(endpoint.scheme()).or_insert_with(one);
    }
    tagged
}

/// A duration as Go reads it.
fn go(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests;
