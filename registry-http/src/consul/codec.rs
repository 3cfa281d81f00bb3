//! An instance as a service of Consul's, and back.
//!
//! Consul has fields for one address, tags, and `Meta`: at most 64 pairs with keys of `[A-Za-z0-9_-]` up to 128 bytes and
//! values up to 512. The native record goes into `Meta` in chunks of that size, `service-registry`, `service-registry-2`,
//! and so on. What others can read stands where they look for it: the HTTP endpoint, or else the first, as `Address` and
//! `Port`, with `secure` in `Meta` (as Spring has it), all of several as `TaggedAddresses` (as Kratos has it), tags as
//! `Tags`, metadata, version, zone, group, a weight that isn't neutral and the port of a gRPC endpoint in `Meta`.
//!
//! Tags and metadata are stored once: if all metadata fits into `Meta` as it is, the record leaves them out.

use std::collections::BTreeMap;

use registry_core::{
    Endpoint, Error, ErrorKind, Instance, InstanceKey, Weight,
    model::{RecordVersion, decode_quoted_record, decode_record, decode_record_beside, encode_record},
};

use super::text::{Pairs, Text};

/// The key of the first chunk of the record.
pub(super) const RECORD: &str = "service-registry";
/// The key of the second.
const SECOND: &str = "service-registry-2";
/// Most pairs of `Meta`.
const MAX_PAIRS: usize = 64;
/// Longest key.
const MAX_KEY: usize = 128;
/// Longest value, in bytes.
const MAX_VALUE: usize = 512;
/// Longest record: 64 chunks, each of which may end up to three bytes early.
pub(super) const MAX_RECORD: usize = 60 * (MAX_VALUE - 3);

pub(super) type Meta = BTreeMap<String, String>;

/// The pairs that carry an instance.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if the record doesn't fit.
pub(super) fn encode_meta(instance: &Instance, version: RecordVersion) -> Result<Meta, Error> {
    let plain = instance.metadata().iter().all(|(key, value)| is_plain(key, value));
    let reduced = bare(instance)?;
    let mut meta = chunks(&encode_record(&reduced, Some(version))?);
    if plain && meta.len() + instance.metadata().len() <= MAX_PAIRS {
        meta.extend(instance.metadata().iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    } else {
        meta = chunks(&encode_record(instance, Some(version))?);
    }
    if meta.len() > MAX_PAIRS {
        let message = format!("the record of {} is too long for Consul", instance.key());
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    for (key, value) in extras(instance) {
        if meta.len() < MAX_PAIRS && value.len() <= MAX_VALUE {
            meta.insert(key.to_owned(), value);
        }
    }
    Ok(meta)
}

/// The instance that these pairs carry; `None` if they are none of ours.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is malformed or that of another key.
pub(super) fn decode_meta<P: Carrier>(
    pairs: &P,
    tags: &[P::Text],
    key: &InstanceKey,
) -> Option<Result<Instance, Error>> {
    let Some(second) = pairs.value(SECOND) else {
        let instance = match pairs.quoted() {
            Some(quoted) => {
                restore(pairs, tags, |beside, tags| decode_quoted_record(quoted, key, beside, tags))
            }
            None => {
                let record = pairs.value(RECORD)?.as_bytes();
                restore(pairs, tags, |beside, tags| decode_record_beside(record, beside, tags))
            }
        };
        return Some(instance.and_then(|instance| of_key(instance, key)));
    };
    let rest = (3..=MAX_PAIRS).map_while(|number| pairs.value(&chunk_key(number)));
    let record: String = [pairs.value(RECORD)?, second].into_iter().chain(rest).collect();
    let instance = restore(pairs, tags, |beside, tags| decode_record_beside(record.as_bytes(), beside, tags));
    Some(instance.and_then(|instance| of_key(instance, key)))
}

/// Whether these pairs carry an instance.
pub(super) fn is_ours(pairs: &impl Carrier) -> bool {
    pairs.quoted().is_some() || pairs.value(RECORD).is_some()
}

/// Pairs that may carry an instance.
pub(super) trait Carrier {
    /// What a tag beside them is.
    type Text: AsRef<str>;

    fn value(&self, key: &str) -> Option<&str>;
    /// Those beside the record, and it may be among them.
    fn others(&self) -> impl Iterator<Item = (&str, &str)>;
    /// The first chunk of the record as a JSON string, if that is at hand.
    fn quoted(&self) -> Option<&str>;
}

impl Carrier for Meta {
    type Text = String;

    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(key, value)| (&**key, &**value))
    }

    fn quoted(&self) -> Option<&str> {
        None
    }
}

impl<'a> Carrier for Pairs<'a> {
    type Text = Text<'a>;

    fn value(&self, key: &str) -> Option<&str> {
        self.get(key)
    }

    fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others()
    }

    fn quoted(&self) -> Option<&str> {
        self.record()
    }
}

/// Who wrote a record, if it is one of ours.
pub(super) fn version_of(meta: &Meta) -> Option<RecordVersion> {
    let record: String = (1..=MAX_PAIRS).map_while(|number| meta.get(&chunk_key(number))).cloned().collect();
    if record.is_empty() {
        return None;
    }
    decode_record(record.as_bytes()).ok()?.record_version()
}

fn restore<'p, P: Carrier>(
    pairs: &'p P,
    tags: &'p [P::Text],
    read: impl FnOnce(Vec<(&'p str, &'p str)>, Vec<&'p str>) -> Result<Instance, Error>,
) -> Result<Instance, Error> {
    let metadata = pairs.others().filter(|(key, _)| !is_reserved(key)).collect();
    read(metadata, tags.iter().map(AsRef::as_ref).collect())
}

fn of_key(instance: Instance, key: &InstanceKey) -> Result<Instance, Error> {
    if (instance.service(), instance.id()) != (&key.service, &key.id) {
        let message = format!("the record under {key} is that of {}", instance.key());
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    Ok(instance)
}

/// Without what stands elsewhere.
fn bare(instance: &Instance) -> Result<Instance, Error> {
    // A builder can't take tags away, so it starts anew.
    let mut builder = registry_core::InstanceBuilder::of(instance.service().clone())
        .parsed_id(instance.id().clone())
        .weight(instance.weight().get())
        .status(instance.status());
    for endpoint in instance.endpoints() {
        builder = builder.endpoint(endpoint.to_string());
    }
    if let Some(version) = instance.version() {
        builder = builder.version(version);
    }
    if let Some(zone) = instance.zone() {
        builder = builder.zone(zone);
    }
    if let Some(group) = instance.group() {
        builder = builder.group(group);
    }
    builder.build()
}

fn chunks(record: &[u8]) -> Meta {
    let text = std::str::from_utf8(record).expect("JSON is UTF-8");
    let mut meta = Meta::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut at = rest.len().min(MAX_VALUE);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (chunk, next) = rest.split_at(at);
        meta.insert(chunk_key(meta.len() + 1), chunk.to_owned());
        rest = next;
    }
    meta
}

fn chunk_key(number: usize) -> String {
    if number == 1 { RECORD.to_owned() } else { format!("{RECORD}-{number}") }
}

/// The endpoint that stands in `Address` and `Port`: whoever knows nothing of others speaks HTTP there.
pub(super) fn facing(instance: &Instance) -> &Endpoint {
    instance
        .endpoint_with_scheme("http")
        .or_else(|| instance.endpoint_with_scheme("https"))
        .unwrap_or_else(|| instance.endpoint())
}

/// What others look for in `Meta`, where we have it.
fn extras(instance: &Instance) -> impl Iterator<Item = (&'static str, String)> {
    let facing = facing(instance);
    let secure = matches!(facing.scheme(), "https" | "grpcs" | "wss" | "tls");
    // Its readers know no host but the one address.
    let beside = |scheme| instance.endpoint_with_scheme(scheme).filter(|one| one.host() == facing.host());
    let grpc = beside("grpc").or_else(|| beside("grpcs"));
    let weight = Some(instance.weight()).filter(|weight| *weight != Weight::NEUTRAL);
    let text = |text: Option<&str>| text.map(str::to_owned);
    [
        ("gRPC_port", grpc.map(|endpoint| endpoint.port().to_string())),
        ("group", text(instance.group())),
        ("secure", Some(secure.to_string())),
        ("version", text(instance.version())),
        ("weight", weight.map(|weight| weight.get().to_string())),
        ("zone", text(instance.zone())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
}

/// Keys that are ours to write, so that they are nobody's metadata.
fn is_reserved(key: &str) -> bool {
    key.starts_with(RECORD) || matches!(key, "gRPC_port" | "group" | "secure" | "version" | "weight" | "zone")
}

/// Whether a pair of metadata can stand in `Meta` as it is.
fn is_plain(key: &str, value: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let fits = key.len() <= MAX_KEY && value.len() <= MAX_VALUE && key.chars().all(allowed);
    fits && !is_reserved(key) && !key.starts_with("consul-")
}

#[cfg(test)]
mod tests;
