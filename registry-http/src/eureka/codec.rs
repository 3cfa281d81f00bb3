//! From an [`Instance`] to Eureka's `InstanceInfo` and back.
//!
//! What others read stands where they look for it: host, ports, status, vip addresses; `version`, `weight`, `zone` and
//! `gRPC_port` in the metadata, beside the instance's own entries. What has no place there (other endpoints, tags, whose
//! record it is) is in the entry `sdk-record`, a native record. So is metadata that would break a reader: `InstanceInfo`
//! travels as XML too, where keys are element names.
//!
//! The status is always Eureka's own, as operators override it there.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use registry_core::{
    Endpoint, Error, ErrorKind, Instance, InstanceBuilder, InstanceId, InstanceKey, Metadata, ServiceName,
    Status,
    model::{RecordVersion, decode_quoted_record_among, decode_record, encode_record},
};

use super::{
    config::Address,
    names::Names,
    wire::{Info, RECORD, Registration, Written, WrittenDataCenter, WrittenLease, WrittenPort},
};

/// The metadata entry with the namespace, if it isn't the default one.
const NAMESPACE: &str = "sdk-namespace";
/// Entries that are written from fields, and become fields again where others wrote them.
const LIFTED: [&str; 4] = ["version", "weight", "zone", "gRPC_port"];

/// What XML can't hold but JSON leaves as it is, unlike control characters.
const NONCHARACTERS: [(char, &str); 2] = [('\u{FFFE}', "\\ufffe"), ('\u{FFFF}', "\\uffff")];

/// The longest record that readers take, in bytes.
const MAX_RECORD: usize = 64 * 1024;

/// As many entries as metadata can have.
const MAX_METADATA: usize = 64;

/// What a record needs beside the instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) version: RecordVersion,
    /// `lastDirtyTimestamp`, in ms.
    pub(crate) dirty: u64,
    pub(crate) ttl: Duration,
}

/// The body that registers an instance.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it is too large.
pub(crate) fn encode(names: &Names, instance: &Instance, marks: &Marks) -> Result<Vec<u8>, Error> {
    let (plain, rest): (Vec<_>, Vec<_>) =
        instance.metadata().iter().partition(|(key, value)| is_plain(key, value));
    let record = instance.to_builder().all_metadata(Metadata::from_pairs(rest)?).build()?;
    let record = String::from_utf8(encode_record(&record, Some(marks.version))?)
        .map_err(|e| malformed("the record is not UTF-8").with_source(e))?;
    let record = NONCHARACTERS.iter().fold(record, |record, (c, escaped)| record.replace(*c, escaped));
    if record.len() > MAX_RECORD {
        let key = instance.key();
        let message = format!(
            "the record of {key} has {} bytes with what XML can't hold escaped; at most {MAX_RECORD} are allowed",
            record.len()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let facing = Facing::of(instance);
    let (app, vip) = (names.app(instance.service()), names.vip(instance.service()));
    // Beside the record only what XML can hold; the record has them all.
    let [group, version, zone] = [instance.group(), instance.version(), instance.zone()]
        .map(|text| text.filter(|text| is_legal(text)));
    let group = group.map(str::to_ascii_uppercase);
    let mut metadata: BTreeMap<&str, Cow<'_, str>> =
        plain.into_iter().map(|(key, value)| (key, Cow::Borrowed(value))).collect();
    metadata.extend(version.map(|version| ("version", version.into())));
    metadata.extend(zone.map(|zone| ("zone", zone.into())));
    if instance.weight() != registry_core::Weight::NEUTRAL {
        metadata.insert("weight", instance.weight().to_string().into());
    }
    let grpc = instance.endpoints().iter().find(|endpoint| matches!(endpoint.scheme(), "grpc" | "grpcs"));
    metadata.extend(grpc.map(|endpoint| ("gRPC_port", endpoint.port().to_string().into())));
    metadata.extend(names.namespace().map(|namespace| (NAMESPACE, namespace.into())));
    metadata.insert(RECORD, record.into());
    let (status, overridden_status) = written_status(instance.status());
    let seconds = lease_seconds(marks.ttl);
    let written = Written {
        instance_id: &names.instance_id(&instance.key()),
        host_name: &facing.host,
        app: &app,
        app_group_name: group.as_deref(),
        ip_addr: &facing.ip,
        status,
        overridden_status,
        port: WrittenPort::new(facing.port, 80),
        secure_port: WrittenPort::new(facing.secure_port, 443),
        country_id: 1,
        data_center_info: WrittenDataCenter::OWN,
        lease_info: WrittenLease {
            renewal_interval_in_secs: (seconds / 3).max(1),
            duration_in_secs: seconds,
        },
        metadata,
        vip_address: &vip,
        secure_vip_address: &vip,
        is_coordinating_discovery_server: "false",
        last_updated_timestamp: marks.dirty.to_string(),
        last_dirty_timestamp: marks.dirty.to_string(),
    };
    serde_json::to_vec(&Registration { instance: written }).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, "the instance can't be written as JSON").with_source(e)
    })
}

/// Leases last whole seconds.
pub(crate) fn lease_seconds(ttl: Duration) -> u64 {
    ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0))
}

/// Status and override. A record that is *registered* as `OUT_OF_SERVICE` can't leave that state again, as the server
/// then prefers the old status and has no override to delete; an override in the body is one.
fn written_status(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Starting => ("STARTING", "UNKNOWN"),
        Status::Draining => ("UP", "OUT_OF_SERVICE"),
        Status::Down => ("DOWN", "UNKNOWN"),
        // Also what a later core may know.
        _ => ("UP", "UNKNOWN"),
    }
}

fn read_status(status: Option<&str>) -> Status {
    match status {
        Some("UP") => Status::Serving,
        Some("STARTING") => Status::Starting,
        Some("OUT_OF_SERVICE") => Status::Draining,
        // DOWN, UNKNOWN, and what Eureka itself reads as UNKNOWN.
        _ => Status::Down,
    }
}

/// Whether an entry may stand in the metadata as it is: a key that can be an element's name, a value that XML can hold.
fn is_plain(key: &str, value: &str) -> bool {
    let name = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'));
    let reserved = key.starts_with("sdk-") || LIFTED.contains(&key);
    name && !reserved && is_legal(value)
}

/// Whether XML 1.0 can hold a text.
fn is_legal(text: &str) -> bool {
    let legal =
        |c: char| matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && !matches!(c, '\u{FFFE}' | '\u{FFFF}'));
    text.bytes().all(|c| matches!(c, b' '..=b'~')) || text.chars().all(legal)
}

/// The host and the ports that others call.
struct Facing {
    host: String,
    ip: String,
    port: Option<u16>,
    secure_port: Option<u16>,
}

impl Facing {
    fn of(instance: &Instance) -> Self {
        let first = instance
            .endpoint_with_scheme("http")
            .or_else(|| instance.endpoint_with_scheme("https"))
            .unwrap_or_else(|| instance.endpoint());
        let host = first.host();
        let beside =
            |scheme| instance.endpoint_with_scheme(scheme).filter(|endpoint| endpoint.host() == host);
        let secure = beside("https");
        let plain = (first.scheme() != "https").then_some(first);
        let ip = first.ip().or_else(|| instance.endpoints().iter().find_map(Endpoint::ip));
        Self {
            ip: ip.map_or_else(|| host.clone(), |ip| ip.to_string()),
            // Java's clients build URLs of it by pasting.
            host: if host.contains(':') { format!("[{host}]") } else { host },
            port: plain.map(Endpoint::port),
            secure_port: secure.map(Endpoint::port),
        }
    }
}

/// What an entry of a list is to somebody who looks for one service.
#[derive(Debug)]
pub(crate) enum Reading {
    Instance(Arc<Instance>),
    /// A record of another service or namespace.
    Other,
    /// Malformed; with its key as far as that can be told.
    Malformed(Option<InstanceKey>, Error),
}

/// What an entry says to somebody who looks for `service`.
///
/// `exact` is whether a record of ours has to be that service's: an application has no case, and a vip address may be
/// shared.
pub(crate) fn read(
    names: &Names,
    service: &ServiceName,
    exact: bool,
    address: Address,
    raw: &str,
) -> Reading {
    match serde_json::from_str(raw) {
        Ok(info) => read_info(names, service, exact, address, &info),
        Err(error) => {
            let key = outline_id(raw).and_then(|id| key_for(names, service, exact, &id));
            Reading::Malformed(key, malformed("it is not the JSON of an instance").with_source(error))
        }
    }
}

/// The same of one whose JSON has been read.
pub(crate) fn read_info(
    names: &Names,
    service: &ServiceName,
    exact: bool,
    address: Address,
    info: &Info<'_>,
) -> Reading {
    let Some(record) = info.metadata.quoted_record() else {
        if names.namespace().is_some() {
            return Reading::Other;
        }
        return match foreign(service, address, info) {
            Ok(instance) => Reading::Instance(Arc::new(instance)),
            Err(error) => {
                let id = info.id().and_then(|id| InstanceId::foreign(id).ok());
                Reading::Malformed(id.map(|id| InstanceKey::new(service.clone(), id)), error)
            }
        };
    };
    if info.metadata.get(NAMESPACE) != names.namespace() {
        return Reading::Other;
    }
    match native(names, Some(service), info, record) {
        Ok(instance) if instance.service() == service => Reading::Instance(Arc::new(instance)),
        Ok(_) if exact => Reading::Other,
        Ok(instance) => match renamed(&instance, service) {
            Ok(instance) => Reading::Instance(Arc::new(instance)),
            Err(error) => Reading::Malformed(None, error),
        },
        Err(error) => {
            let key = info.instance_id.text().and_then(|id| key_for(names, service, exact, id));
            Reading::Malformed(key, error)
        }
    }
}

/// One of our records, whichever service it belongs to; `None` for a foreign one.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is malformed.
pub(crate) fn own(names: &Names, info: &Info<'_>) -> Result<Option<Instance>, Error> {
    let Some(record) = info.metadata.quoted_record() else { return Ok(None) };
    native(names, None, info, record).map(Some)
}

/// Whether a record of ours says that its writer wanted it drained.
pub(crate) fn wants_draining(info: &Info<'_>) -> bool {
    let record = info.metadata.quoted_record().and_then(|record| unquoted(record).ok());
    let record = record.and_then(|record| decode_record(record.as_bytes()).ok());
    record.is_some_and(|record| record.status() == Status::Draining)
}

/// The status that a beat tells.
pub(crate) fn beat_status(status: Status) -> &'static str {
    match written_status(status) {
        (_, overridden) if overridden != "UNKNOWN" => overridden,
        (status, _) => status,
    }
}

/// The text of a record that stands in quotes.
fn unquoted(record: &str) -> Result<String, Error> {
    serde_json::from_str(record).map_err(|error| malformed("its record is no text").with_source(error))
}

fn native(
    names: &Names,
    wanted: Option<&ServiceName>,
    info: &Info<'_>,
    record: &str,
) -> Result<Instance, Error> {
    let key = |service: &ServiceName| {
        let id = names.spelt_id(info.instance_id.text()?, service)?;
        Some(InstanceKey::new(service.clone(), InstanceId::foreign(id).ok()?))
    };
    let key = wanted.and_then(key);
    let beside = info.metadata.iter().filter(|(key, value)| is_plain(key, value)).collect();
    let instance = decode_quoted_record_among(record, key.as_ref(), beside, read_status(info.status.text()))?;
    let (service, id) = (instance.service(), instance.id());
    let is_here = info.instance_id.text().is_some_and(|text| names.is_instance_id(text, service, id))
        && info.app.text().is_some_and(|app| names.is_app(app, service));
    if !is_here {
        return Err(malformed(format!("it holds the record of {}", instance.key())));
    }
    Ok(instance)
}

/// A record without any mark of ours, as Spring Cloud and others write it.
fn foreign(service: &ServiceName, address: Address, info: &Info<'_>) -> Result<Instance, Error> {
    let id = info.id().ok_or_else(|| malformed("it has no id"))?;
    let key = InstanceKey::new(service.clone(), InstanceId::foreign(id).map_err(restated)?);
    let mut builder = InstanceBuilder::of_key(key);
    let secure = info.secure_port.used(false);
    // Like Spring's clients: the secure port, where it is enabled.
    let mut ports: Vec<(&str, u16)> = secure.map(|port| ("https", port)).into_iter().collect();
    ports.extend(info.port.used(true).map(|port| ("http", port)));
    let grpc = info.metadata.get("gRPC_port").and_then(|port| port.parse().ok());
    ports.extend(grpc.map(|port| ("grpc", port)));
    let (host, ip) = (info.host_name.text(), info.ip_addr.text());
    let hosts = match address {
        Address::Host => [host, ip],
        Address::Ip => [ip, host],
    };
    for (scheme, port) in ports {
        let mut fault = malformed("it has no host");
        let endpoint = hosts
            .iter()
            .flatten()
            .find_map(|host| Endpoint::new(scheme, host, port).map_err(|error| fault = restated(error)).ok());
        builder = builder.endpoint(endpoint.ok_or(fault)?.to_string());
    }
    let machine_zone = info.data_center_info.metadata.get("availability-zone");
    let mut metadata: BTreeMap<&str, &str> = info.metadata.iter().collect();
    for key in LIFTED {
        let Some(&value) = metadata.get(key) else { continue };
        // A value that can't be the field stays what it is.
        let lifted = match key {
            "version" => builder.clone().version(value),
            "zone" => builder.clone().zone(value),
            "weight" => match value.parse() {
                Ok(weight) => builder.clone().weight(weight),
                Err(_) => continue,
            },
            "gRPC_port" if grpc.is_some() => builder.clone(),
            _ => continue,
        };
        if lifted.clone().build().is_ok() {
            builder = lifted;
            metadata.remove(key);
        }
    }
    if let (Some(zone), false) = (machine_zone, info.metadata.get("zone").is_some()) {
        builder = builder.zone(zone);
    }
    if let Some(group) = info.app_group_name.text().filter(|group| *group != "UNKNOWN") {
        builder = builder.group(group);
    }
    let status = read_status(info.status.text());
    builder.status(status).all_metadata(fitting(metadata)).build().map_err(restated)
}

/// As much of somebody's metadata as we can take: an oversized entry is no reason to lose the instance.
fn fitting(metadata: BTreeMap<&str, &str>) -> Metadata {
    let fits = |(key, value): &(&str, &str)| Metadata::from_pairs([(*key, *value)]).is_ok();
    let fitting: Vec<_> = metadata.into_iter().filter(fits).take(MAX_METADATA).collect();
    Metadata::from_pairs(fitting).unwrap_or_default()
}

/// The same instance under the name that it was asked for by.
fn renamed(instance: &Instance, service: &ServiceName) -> Result<Instance, Error> {
    called(instance, service, instance.id())
}

/// The same instance under another key.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it can't have that.
pub(crate) fn called(instance: &Instance, service: &ServiceName, id: &InstanceId) -> Result<Instance, Error> {
    let builder = InstanceBuilder::of(service.clone())
        .parsed_id(id.clone())
        .weight(instance.weight().get())
        .status(instance.status())
        .all_metadata(instance.metadata().clone());
    let builder = instance.endpoints().iter().fold(builder, |b, endpoint| b.endpoint(endpoint.to_string()));
    let builder = instance.tags().fold(builder, InstanceBuilder::tag);
    let builder = instance.version().into_iter().fold(builder, InstanceBuilder::version);
    let builder = instance.zone().into_iter().fold(builder, InstanceBuilder::zone);
    let builder = instance.group().into_iter().fold(builder, InstanceBuilder::group);
    Ok(builder.build().map_err(restated)?.with_record_version(instance.record_version()))
}

/// The key that a record of this id would have for somebody who looks for `service`.
fn key_for(names: &Names, service: &ServiceName, exact: bool, id: &str) -> Option<InstanceKey> {
    match names.key_of(id) {
        Some(key) if key.service == *service => Some(key),
        // Of the same application, in another case.
        Some(key) if exact && names.app(&key.service) == names.app(service) => None,
        Some(key) if !exact => Some(InstanceKey::new(service.clone(), key.id)),
        _ => Some(InstanceKey::new(service.clone(), InstanceId::foreign(id).ok()?)),
    }
}

/// The id of an entry that can't be read as a whole.
fn outline_id(raw: &str) -> Option<String> {
    let parts: BTreeMap<Cow<'_, str>, super::wire::Loose<'_>> = serde_json::from_str(raw).ok()?;
    parts.get("instanceId").and_then(|id| id.text()).map(str::to_owned)
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Protocol, format!("malformed record: {why}"))
}

/// What the model refuses is the record's fault here.
fn restated(error: Error) -> Error {
    malformed(error)
}

#[cfg(test)]
mod tests;
