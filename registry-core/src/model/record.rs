//! The native record: the JSON that a registry stores for one instance, and the disk view for many.
//!
//! Encoding is strict and stable (fixed field order, sorted metadata, absent fields left out). Decoding is
//! tolerant: unknown fields are skipped, `null` means absent, a number may stand as a string. It is bounded, as a
//! record is untrusted: 64 KiB, and the limits of the model.
//!
//! ```json
//! {"service":"orders","id":"a1","endpoints":["http://10.0.0.7:8080"],"version":"2.4.1","weight":100,
//!  "zone":"z1","tags":["canary"],"metadata":{"team":"core"},"status":"serving",
//!  "incarnation":"00000000000000000000000000000001","epoch":1,"sequence":3}
//! ```

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Incarnation, Instance, InstanceBuilder, InstanceId, Metadata, ServiceName, Status, Weight};
use crate::{Error, ErrorKind};

/// Largest record, in bytes.
pub(crate) const MAX_RECORD: usize = 64 * 1024;

/// Who published a record, and how often: enough to tell our stale record from a rival's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordVersion {
    /// The client life that wrote it.
    pub incarnation: Incarnation,
    /// Raised each time this life lost the registration, from 1.
    pub epoch: u64,
    /// Raised with each update of the content, from 1.
    pub sequence: u64,
}

#[derive(Serialize)]
struct Wire<'a> {
    service: &'a str,
    id: &'a str,
    endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

#[derive(Deserialize)]
struct Draft {
    service: Option<String>,
    id: Option<String>,
    endpoints: Option<Vec<String>>,
    version: Option<String>,
    #[serde(default, deserialize_with = "number")]
    weight: Option<f64>,
    zone: Option<String>,
    group: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<BTreeMap<String, Option<String>>>,
    status: Option<String>,
    incarnation: Option<String>,
    #[serde(default, deserialize_with = "number")]
    epoch: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    sequence: Option<u64>,
}

/// Encodes an instance and its version (or, without one, the version it was read with) as a native record.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if the record is larger than 64 KiB.
pub fn encode_record(instance: &Instance, version: Option<RecordVersion>) -> Result<Vec<u8>, Error> {
    let version = version.or_else(|| instance.record_version());
    let wire = Wire {
        service: instance.service().as_str(),
        id: instance.id().as_str(),
        endpoints: instance.endpoints().iter().map(ToString::to_string).collect(),
        version: instance.version(),
        weight: instance.weight().get(),
        zone: instance.zone(),
        group: instance.group(),
        tags: instance.tags().collect(),
        metadata: instance.metadata().iter().collect(),
        status: instance.status().as_str(),
        incarnation: version.map(|v| v.incarnation.to_string()),
        epoch: version.map(|v| v.epoch),
        sequence: version.map(|v| v.sequence),
    };
    let bytes = serde_json::to_vec(&wire)
        .map_err(|e| Error::invalid("the instance can't be written as JSON").with_source(e))?;
    if bytes.len() > MAX_RECORD {
        return Err(Error::invalid(format!(
            "the record of {} has {} bytes; at most {MAX_RECORD} are allowed",
            instance.key(),
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// Decodes a native record that somebody else may have written.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is too large, not JSON, or holds something that can't be an instance; the
/// message says what.
pub fn decode_record(bytes: &[u8]) -> Result<Instance, Error> {
    if bytes.len() > MAX_RECORD {
        return Err(malformed(format!("it has {} bytes; at most {MAX_RECORD} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| malformed("it is not UTF-8").with_source(e))?;
    let draft: Draft =
        serde_json::from_str(text).map_err(|e| malformed("it is not the JSON of a record").with_source(e))?;
    build(draft).map_err(|e| malformed(e.to_string()))
}

fn build(draft: Draft) -> Result<Instance, Error> {
    let service = draft.service.ok_or_else(|| Error::invalid("it has no service"))?;
    let id = draft.id.ok_or_else(|| Error::invalid("it has no id"))?;
    let mut builder = InstanceBuilder::of_parsed(ServiceName::foreign(service)?, InstanceId::foreign(id)?);
    for endpoint in draft.endpoints.unwrap_or_default() {
        builder = builder.endpoint(endpoint);
    }
    // Empty text is how other writers say "none".
    let given = |text: Option<String>| text.filter(|t| !t.is_empty());
    if let Some(version) = given(draft.version) {
        builder = builder.version(version);
    }
    if let Some(zone) = given(draft.zone) {
        builder = builder.zone(zone);
    }
    if let Some(group) = given(draft.group) {
        builder = builder.group(group);
    }
    for tag in draft.tags.unwrap_or_default() {
        builder = builder.tag(tag);
    }
    if let Some(weight) = draft.weight {
        builder = builder.weight(Weight::from_f64(weight)?.get());
    }
    if let Some(status) = given(draft.status) {
        builder = builder.status(status.parse::<Status>()?);
    }
    if let Some(metadata) = draft.metadata {
        let pairs = metadata.into_iter().map(|(key, value)| (key, value.unwrap_or_default()));
        builder = builder.all_metadata(Metadata::from_pairs(pairs)?);
    }
    let version = match given(draft.incarnation) {
        Some(incarnation) => Some(RecordVersion {
            incarnation: incarnation.parse()?,
            epoch: draft.epoch.unwrap_or(1),
            sequence: draft.sequence.unwrap_or(1),
        }),
        None => None,
    };
    Ok(builder.build()?.with_record_version(version))
}

fn malformed(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, format!("malformed record: {}", why.into()))
}

/// A number, a number in a string, or nothing: `null` and the empty string.
fn number<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + FromStr<Err: Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number<N> {
        Number(N),
        Text(String),
    }
    match Option::<Number<N>>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Number::Number(number)) => Ok(Some(number)),
        Some(Number::Text(text)) if text.trim().is_empty() => Ok(None),
        Some(Number::Text(text)) => text.trim().parse().map(Some).map_err(de::Error::custom),
    }
}
