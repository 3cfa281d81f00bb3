//! An instance as a service of Consul's, and back.
//!
//! Consul has fields for one address, tags, and `Meta`: at most 64 pairs with keys of `[A-Za-z0-9_-]` up to 128 bytes and
//! values up to 512. The native record goes into `Meta` in chunks of that size, `service-registry`, `service-registry-2`,
//! and so on. What others can read stands where they look for it: the first endpoint as `Address` and `Port`, all of
//! several as `TaggedAddresses` (as Kratos has it), tags as `Tags`, metadata, version, zone and group in `Meta`.
//!
//! Tags and metadata are stored once: if all metadata fits into `Meta` as it is, the record leaves them out.

use std::collections::BTreeMap;

use registry_core::{
    Error, ErrorKind, Instance, InstanceKey, Metadata,
    model::{RecordVersion, decode_record, encode_record},
};

/// The key of the first chunk of the record.
pub(super) const RECORD: &str = "service-registry";
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
            meta.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(meta)
}

/// The instance that these pairs carry; `None` if they are none of ours.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is malformed or that of another key.
pub(super) fn decode_meta<K, V>(
    pairs: &BTreeMap<K, V>,
    tags: &[V],
    key: &InstanceKey,
) -> Option<Result<Instance, Error>>
where
    K: AsRef<str> + Ord + std::borrow::Borrow<str>,
    V: AsRef<str>,
{
    pairs.get(RECORD)?;
    let mut record = String::new();
    for number in 1..=MAX_PAIRS {
        let Some(chunk) = pairs.get(&*chunk_key(number)) else { break };
        record.push_str(chunk.as_ref());
    }
    Some(restore(&record, pairs, tags, key))
}

/// Who wrote a record, if it is one of ours.
pub(super) fn version_of(meta: &Meta) -> Option<RecordVersion> {
    let record: String = (1..=MAX_PAIRS).map_while(|number| meta.get(&chunk_key(number))).cloned().collect();
    if record.is_empty() {
        return None;
    }
    decode_record(record.as_bytes()).ok()?.record_version()
}

fn restore<K, V>(
    record: &str,
    pairs: &BTreeMap<K, V>,
    tags: &[V],
    key: &InstanceKey,
) -> Result<Instance, Error>
where
    K: AsRef<str> + Ord,
    V: AsRef<str>,
{
    let instance = decode_record(record.as_bytes())?;
    if instance.key() != *key {
        let message = format!("the record under {key} is that of {}", instance.key());
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    if !instance.metadata().is_empty() {
        return Ok(instance);
    }
    let version = instance.record_version();
    let own = pairs.iter().filter(|(key, _)| !is_reserved(key.as_ref()));
    let metadata = Metadata::from_pairs(own.map(|(key, value)| (key.as_ref(), value.as_ref())))?;
    if metadata.is_empty() && tags.is_empty() {
        return Ok(instance);
    }
    let mut builder = instance.to_builder().all_metadata(metadata);
    for tag in tags {
        builder = builder.tag(tag.as_ref());
    }
    Ok(builder.build()?.with_record_version(version))
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

/// What others look for in `Meta`, where we have it.
fn extras(instance: &Instance) -> impl Iterator<Item = (&'static str, &str)> {
    let secure = matches!(instance.endpoint().scheme(), "https" | "grpcs" | "wss" | "tls");
    [
        ("group", instance.group()),
        ("secure", secure.then_some("true")),
        ("version", instance.version()),
        ("zone", instance.zone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
}

/// Keys that are ours to write, so that they are nobody's metadata.
fn is_reserved(key: &str) -> bool {
    key.starts_with(RECORD) || matches!(key, "group" | "secure" | "version" | "zone")
}

/// Whether a pair of metadata can stand in `Meta` as it is.
fn is_plain(key: &str, value: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let fits = key.len() <= MAX_KEY && value.len() <= MAX_VALUE && key.chars().all(allowed);
    fits && !is_reserved(key) && !key.starts_with("consul-")
}

#[cfg(test)]
mod tests;
