//! An instance as a Nacos record and back.
//!
//! Nacos knows an instance by `ip`, `port` and cluster, gives it a weight, and lets it carry metadata: text to text, by
//! default at most 1,024 UTF-16 units of keys and values together. What our model has beside that goes into metadata:
//!
//! | key | holds | absent means |
//! |---|---|---|
//! | `version`, `zone` | what other fleets call so too | none |
//! | `sr.id` | the id; its presence says that the record is one of ours | a foreign record |
//! | `sr.by` | `incarnation/epoch/sequence` | unknown |
//! | `sr.w.LIFE.EPOCH.SEQUENCE` | `1`: a mark of this write, in its [key](super::mark) | unknown |
//! | `sr.urls` | all endpoints in their order, with a space between | `http://ip:port` |
//! | `sr.group`, `sr.tags` | the group; the tags as a JSON list | none |
//! | `sr.status` | what it says of itself | `serving` |
//! | `sr.weight` | the weight while the record's own has to be 0 | a hundred times the record's own |
//! | `sr.m.KEY` | the user's `KEY`, where that would mean one of these | |
//! | `secure` | `true` if the address speaks TLS, as Spring Cloud is told | |
//! | `gRPC_port` | the port of gRPC at the same host, likewise | |
//! | `preserved.*` | when the server gives an instance up | the server's defaults |
//!
//! - The weight is divided by 100: Nacos calls 1.0 neutral.
//! - Whoever doesn't serve has weight 0 on the wire, which every Nacos consumer honours. Not `enabled=false`: lists hide
//!   such records even from those who want to see them drain, servers have lost the flag in a restart
//!   (alibaba/nacos#11890), and it is the operator's switch.
//! - The address is that of the first endpoint of HTTP, else of HTTPS, else of any, whose host is an IP address: what
//!   other fleets call. Without one it is likewise the first host name: servers take any text, and consumers resolve it.
//! - A foreign record gets the id `ip:port`, with `#cluster` where that isn't `DEFAULT`; its own `instanceId` is null or
//!   irregular depending on how it was registered.
//!
//! Source: alibaba/nacos `Instance`, `PreservedMetadataKeys`, `ParamCheckRule`; Spring Cloud Alibaba's and Kratos'
//! registries for the foreign keys.

use std::{collections::BTreeMap, fmt, time::Duration};

use registry_core::{
    Endpoint, Error, ErrorKind, Incarnation, Instance, InstanceId, InstanceKey, ServiceName, Status, Weight,
    model::{RecordVersion, Sketch},
};

use super::{
    host::{Host, Place},
    mark,
};

/// The cluster of an instance that names none.
pub(crate) const DEFAULT_CLUSTER: &str = "DEFAULT";

const ID: &str = "sr.id";
const BY: &str = "sr.by";
const URLS: &str = "sr.urls";
const GROUP: &str = "sr.group";
const TAGS: &str = "sr.tags";
const STATUS: &str = "sr.status";
const WEIGHT: &str = "sr.weight";
const OURS: &str = "sr.";
const ESCAPED: &str = "sr.m.";
const SERVERS: &str = "preserved.";
const VERSION: &str = "version";
const ZONE: &str = "zone";
const SECURE: &str = "secure";
const GRPC_PORT: &str = "gRPC_port";
/// The weight of a record that has none.
const NEUTRAL: f64 = 1.0;
/// What is wrong with an entry that isn't even one.
const NO_FIELDS: &str = "it is not an object with the right fields";
/// Our weights per unit of theirs.
const SCALE: f64 = 100.0;

/// What identifies a record within its service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) ip: String,
    pub(crate) port: u16,
    pub(crate) cluster: String,
}

/// `ip:port`, with IPv6 in brackets, and the cluster unless it is the default one.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip.contains(':') {
            true => write!(f, "[{}]:{}", self.ip, self.port)?,
            false => write!(f, "{}:{}", self.ip, self.port)?,
        }
        if self.cluster == DEFAULT_CLUSTER { Ok(()) } else { write!(f, "#{}", self.cluster) }
    }
}

impl Address {
    /// Where an instance stands in Nacos.
    pub(crate) fn of(instance: &Instance, cluster: &str) -> Self {
        let endpoint = facing(instance);
        Self { ip: endpoint.host(), port: endpoint.port(), cluster: cluster.to_owned() }
    }
}

/// What other fleets call.
fn facing(instance: &Instance) -> &Endpoint {
    let rank = |endpoint: &&Endpoint| {
        let scheme = match endpoint.scheme() {
            "http" => 0,
            "https" => 1,
            _ => 2,
        };
        (endpoint.ip().is_none(), scheme)
    };
    // The first of equals.
    instance.endpoints().iter().min_by_key(rank).unwrap_or_else(|| instance.endpoint())
}

/// When the server gives up an instance that is silent, as it is told in the record's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// How often it may expect a beat.
    pub(crate) interval: Duration,
    /// Then it is unhealthy, so that no consumer uses it.
    pub(crate) unhealthy: Duration,
    /// Then it is deleted.
    pub(crate) deleted: Duration,
}

impl Patience {
    /// The server's own proportions, 5 to 15 to 30 s, for another time to live.
    pub(crate) fn of(ttl: Duration) -> Self {
        Self { interval: ttl / 3, unhealthy: ttl, deleted: 2 * ttl }
    }

    fn entries(self) -> [(&'static str, String); 3] {
        let millis = |time: Duration| time.as_millis().to_string();
        [
            ("preserved.heart.beat.interval", millis(self.interval)),
            ("preserved.heart.beat.timeout", millis(self.unhealthy)),
            ("preserved.ip.delete.timeout", millis(self.deleted)),
        ]
    }
}

/// A record as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) weight: f64,
    /// What the server takes for true until it finds out.
    pub(crate) is_healthy: bool,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Record {
    /// The instance as a record.
    pub(crate) fn of(
        instance: &Instance,
        version: Option<RecordVersion>,
        patience: Option<Patience>,
    ) -> Self {
        let mut metadata = BTreeMap::new();
        let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
        put(ID, instance.id().to_string());
        if let Some(RecordVersion { incarnation, epoch, sequence }) = version {
            put(BY, format!("{incarnation}/{epoch}/{sequence}"));
        }
        let urls: Vec<String> = instance.endpoints().iter().map(ToString::to_string).collect();
        if urls.len() != 1 || !urls[0].starts_with("http://") {
            put(URLS, urls.join(" "));
        }
        let facing = facing(instance);
        if matches!(facing.scheme(), "https" | "grpcs" | "wss" | "tls") {
            put(SECURE, "true".to_owned());
        }
        let is_beside = |endpoint: &&Endpoint| {
            matches!(endpoint.scheme(), "grpc" | "grpcs")
                && endpoint.host() == facing.host()
                && endpoint.port() != facing.port()
        };
        if let Some(grpc) = instance.endpoints().iter().find(is_beside) {
            put(GRPC_PORT, grpc.port().to_string());
        }
        for (key, value) in
            [(VERSION, instance.version()), (ZONE, instance.zone()), (GROUP, instance.group())]
        {
            if let Some(value) = value {
                put(key, value.to_owned());
            }
        }
        if instance.tags().len() > 0 {
            let tags = instance.tags().map(serde_json::Value::from).collect::<Vec<_>>();
            put(TAGS, serde_json::Value::from(tags).to_string());
        }
        let serves = instance.status() == Status::Serving;
        if !serves {
            put(STATUS, instance.status().as_str().to_owned());
            put(WEIGHT, instance.weight().to_string());
        }
        for (key, value) in patience.into_iter().flat_map(Patience::entries) {
            put(key, value);
        }
        for (key, value) in instance.metadata().iter() {
            match is_reserved(key) {
                true => put(&format!("{ESCAPED}{key}"), value.to_owned()),
                false => put(key, value.to_owned()),
            };
        }
        let weight = if serves { f64::from(instance.weight().get()) / SCALE } else { 0.0 };
        Self { weight, is_healthy: true, metadata }
    }

    /// With the mark of this write.
    pub(crate) fn marked(mut self, version: RecordVersion) -> Self {
        self.metadata.insert(mark::mark(version), "1".to_owned());
        self
    }

    /// What the server counts against its limit: UTF-16 units of keys and of values that aren't blank.
    pub(crate) fn size(&self) -> usize {
        let units = |text: &str| if text.trim().is_empty() { 0 } else { text.encode_utf16().count() };
        self.metadata.iter().map(|(key, value)| units(key) + units(value)).sum()
    }

    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the server wouldn't take it for its size.
    pub(crate) fn check(&self, key: &InstanceKey, most: usize) -> Result<(), Error> {
        let size = self.size();
        if size <= most {
            return Ok(());
        }
        let message = format!(
            "{key} needs {size} characters of Nacos metadata, {most} are allowed; shorten its metadata, tags or \
             endpoints, or raise the server's limit and option \"max_metadata\""
        );
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }
}

/// Whether a key of the metadata says what this module makes of it.
pub(crate) fn is_reserved(key: &str) -> bool {
    matches!(key, VERSION | ZONE | SECURE | GRPC_PORT) || key.starts_with(OURS) || key.starts_with(SERVERS)
}

/// What an entry of a list is.
#[derive(Debug)]
pub(crate) enum Entry {
    /// An instance that may be used.
    Usable(Instance),
    /// One that the server found unhealthy or that an operator has disabled.
    Hidden(Instance),
    /// The key of such a one that isn't an instance by our rules.
    Spoilt(InstanceKey, Error),
    /// Not an instance by our rules; its key, as far as it can be told.
    Bad(Option<InstanceKey>, Error),
}

/// Reads one entry of the list of `service`.
pub(crate) fn decode(service: &ServiceName, entry: &[u8]) -> Entry {
    let host = std::str::from_utf8(entry).map_err(|error| malformed(NO_FIELDS).with_source(error));
    let host = host.and_then(|entry| {
        serde_json::from_str::<Host<'_>>(entry).map_err(|error| malformed(NO_FIELDS).with_source(error))
    });
    let error = match host {
        Ok(host) => return read(service, &host),
        Err(error) => error,
    };
    let salvaged = Host::salvage(entry);
    let host = salvaged.as_deref().and_then(|salvaged| serde_json::from_str::<Host<'_>>(salvaged).ok());
    let usable = host.as_ref().is_none_or(Host::is_usable);
    bad(host.and_then(|host| key_of(service, &host)), usable, error)
}

/// What an entry says that has the right fields.
pub(crate) fn read(service: &ServiceName, host: &Host<'_>) -> Entry {
    let usable = host.is_usable();
    match instance_of(service, host) {
        Ok(instance) if usable => Entry::Usable(instance),
        Ok(instance) => Entry::Hidden(instance),
        Err(error) => bad(key_of(service, host), usable, error),
    }
}

fn bad(key: Option<InstanceKey>, usable: bool, error: Error) -> Entry {
    match key {
        // What is known of it shouldn't be used either.
        Some(key) if !usable => Entry::Spoilt(key, error),
        key => Entry::Bad(key, error),
    }
}

fn key_of(service: &ServiceName, host: &Host<'_>) -> Option<InstanceKey> {
    let id = match host.said(ID) {
        Some(id) => InstanceId::foreign(id),
        None => InstanceId::foreign(host.address()?.to_string()),
    };
    Some(InstanceKey::new(service.clone(), id.ok()?))
}

fn instance_of(service: &ServiceName, host: &Host<'_>) -> Result<Instance, Error> {
    let place = host.place().ok_or_else(|| malformed("it has no ip and port"))?;
    let sketch = |id| Sketch::new(InstanceKey::new(service.clone(), id));
    match host.said(ID) {
        Some(id) => ours(sketch(InstanceId::foreign(id)?), place, host),
        None => foreign(sketch(InstanceId::foreign(place.to_address().to_string())?), place, host),
    }
}

fn ours<'h>(mut sketch: Sketch<'h>, place: Place<'h>, host: &'h Host<'_>) -> Result<Instance, Error> {
    let (mut urls, mut tags, mut status, mut kept, mut by) = (None, None, None, None, None);
    let mut escaped = Vec::new();
    for (key, value) in host.metadata() {
        match key {
            ID => {}
            URLS => urls = Some(value),
            VERSION => sketch.version = Some(value),
            ZONE => sketch.zone = Some(value),
            GROUP => sketch.group = Some(value),
            TAGS => tags = Some(value),
            STATUS => status = Some(value),
            WEIGHT => kept = Some(value),
            BY => by = Some(value),
            _ => match key.strip_prefix(ESCAPED) {
                Some(key) => escaped.push((key, value)),
                None if is_reserved(key) => {}
                None => sketch.metadata.push((key, value)),
            },
        }
    }
    // The later of two with one key counts.
    sketch.metadata.append(&mut escaped);
    sketch.endpoints = match urls {
        Some(urls) => urls.split(' ').map(str::parse).collect::<Result<_, _>>()?,
        None => vec![Endpoint::new("http", place.ip, place.port)?],
    };
    let tags: Vec<String> = tags
        .map_or(Ok(Vec::new()), serde_json::from_str)
        .map_err(|error| malformed("its tags are no JSON list of texts").with_source(error))?;
    sketch.status = status.map_or(Ok(Status::Serving), str::parse)?;
    let weight = host.weight.unwrap_or(NEUTRAL);
    // An operator who gives weight to one that drains means the record's own.
    let kept = kept.filter(|_| weight == 0.0).map(str::parse::<f64>);
    sketch.weight = match kept {
        Some(kept) => Weight::from_f64(kept.map_err(|_| malformed("its weight is not a number"))?)?,
        None => Weight::from_f64(weight * SCALE)?,
    };
    sketch.record_version = by.map(version_of).transpose()?;
    build(sketch, &tags)
}

/// Builds a sketch with tags that were copied.
fn build<'t>(mut sketch: Sketch<'t>, tags: &'t [String]) -> Result<Instance, Error> {
    sketch.tags.extend(tags.iter().map(String::as_str));
    sketch.build()
}

/// What other fleets write: Spring Cloud Alibaba's `secure` and `gRPC_port`, Kratos' `kind`, Dubbo's `protocol`.
fn foreign<'h>(mut sketch: Sketch<'h>, place: Place<'h>, host: &'h Host<'_>) -> Result<Instance, Error> {
    let said = |key: &str| host.said(key);
    let given = |key: &str| host.said(key).filter(|text| !text.is_empty());
    let told = said("kind").or(said("protocol")).map(|kind| Endpoint::new(kind, place.ip, place.port));
    let first = match told {
        Some(Ok(endpoint)) => endpoint,
        _ if said(SECURE) == Some("true") => Endpoint::new("https", place.ip, place.port)?,
        _ => Endpoint::new("http", place.ip, place.port)?,
    };
    sketch.endpoints.push(first);
    if let Some(port) = said(GRPC_PORT).and_then(|port| port.parse().ok()).filter(|port| *port != place.port)
    {
        sketch.endpoints.push(Endpoint::new("grpc", place.ip, port)?);
    }
    let weight = host.weight.unwrap_or(NEUTRAL);
    // A text may be `NaN`, and the lesser of that and a limit is the limit.
    if !weight.is_finite() {
        return Err(malformed("its weight is not a number"));
    }
    sketch.version = given(VERSION);
    sketch.zone = given(ZONE).or(Some(place.cluster).filter(|cluster| *cluster != DEFAULT_CLUSTER));
    // Kratos, of which only `kind` tells, calls 100 neutral there too, as we do.
    let scale = if said("kind").is_some() { 1.0 } else { SCALE };
    sketch.weight = Weight::from_f64((weight * scale).min(f64::from(Weight::MAX.get())))?;
    sketch.metadata = host.metadata().filter(|(key, _)| !matches!(*key, VERSION | ZONE)).collect();
    sketch.build()
}

fn version_of(by: &str) -> Result<RecordVersion, Error> {
    let mut parts = by.split('/');
    let mut next = || parts.next().ok_or_else(|| malformed("its mark is incomplete"));
    let incarnation: Incarnation = next()?.parse()?;
    let mut counter =
        || next()?.parse().map_err(|_| malformed("its mark has a counter that is not a number"));
    Ok(RecordVersion { incarnation, epoch: counter()?, sequence: counter()? })
}

fn malformed(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

#[cfg(test)]
mod tests;
