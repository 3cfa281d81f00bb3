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

mod canonical;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Display},
    marker::PhantomData,
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer},
};

use super::{Incarnation, Instance, InstanceId, InstanceKey, ServiceName, Sketch, Status, Weight};
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
struct Draft<'a> {
    #[serde(borrow)]
    service: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    endpoints: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    version: Option<Text<'a>>,
    #[serde(default, deserialize_with = "number")]
    weight: Option<f64>,
    #[serde(borrow)]
    zone: Option<Text<'a>>,
    #[serde(borrow)]
    group: Option<Text<'a>>,
    #[serde(borrow)]
    tags: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    metadata: Option<Pairs<'a>>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(borrow)]
    incarnation: Option<Text<'a>>,
    #[serde(default, deserialize_with = "number")]
    epoch: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    sequence: Option<u64>,
}

/// A map in the order of the record. A key that stands twice has its last value, and both have to be valid.
struct Pairs<'a>(Vec<(Text<'a>, Option<Text<'a>>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> de::Visitor<'de> for Entries {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// A string, borrowed unless an escape is in it. (Serde's own, for a `Cow` within anything else, always copies.)
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;

        impl<'de> de::Visitor<'de> for Borrowed {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrowed)
    }
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
    decode_record_beside(bytes, Vec::new(), Vec::new())
}

/// The same of a record that may have left metadata and tags to fields that stand beside it. They are added if it has no
/// metadata of its own.
///
/// # Errors
/// [`ErrorKind::Protocol`], as [`decode_record`].
pub fn decode_record_beside(
    bytes: &[u8],
    metadata: Vec<(&str, &str)>,
    tags: Vec<&str>,
) -> Result<Instance, Error> {
    decode(bytes, |own| Beside::of_bare(own, metadata, tags))
}

/// The same of a record that is a text within other JSON: `quoted` is that text as it stands there, in its quotes and
/// with its escapes, which need no undoing as a rule. What it holds is made once if it is the record of `key`; whose it
/// is has to be checked all the same.
///
/// # Errors
/// [`ErrorKind::Protocol`], as [`decode_record`], and if `quoted` is no text.
pub fn decode_quoted_record(
    quoted: &str,
    key: &InstanceKey,
    metadata: Vec<(&str, &str)>,
    tags: Vec<&str>,
) -> Result<Instance, Error> {
    decode_quoted(quoted, Some(key), |own| Beside::of_bare(own, metadata, tags))
}

/// The same of a record beside which some of the metadata and the status stand too, which count as by
/// [`decode_record_among`].
///
/// # Errors
/// [`ErrorKind::Protocol`], as [`decode_record`], and if `quoted` is no text.
pub fn decode_quoted_record_among(
    quoted: &str,
    key: Option<&InstanceKey>,
    metadata: Vec<(&str, &str)>,
    status: Status,
) -> Result<Instance, Error> {
    decode_quoted(quoted, key, |_| Beside { metadata, tags: Vec::new(), status: Some(status) })
}

/// The same of a record beside which some of the metadata and the status stand too: metadata from there is added to the
/// record's own and counts before it, and so does the status.
///
/// # Errors
/// [`ErrorKind::Protocol`], as [`decode_record`].
pub fn decode_record_among(
    bytes: &[u8],
    metadata: Vec<(&str, &str)>,
    status: Status,
) -> Result<Instance, Error> {
    decode(bytes, |_| Beside { metadata, tags: Vec::new(), status: Some(status) })
}

/// What stands beside a record.
#[derive(Default)]
struct Beside<'a> {
    metadata: Vec<(&'a str, &'a str)>,
    tags: Vec<&'a str>,
    status: Option<Status>,
}

impl<'a> Beside<'a> {
    /// What counts beside a record only if it has no metadata of its own.
    fn of_bare(own: &Sketch<'_>, metadata: Vec<(&'a str, &'a str)>, tags: Vec<&'a str>) -> Self {
        match own.metadata.is_empty() {
            true => Self { metadata, tags, status: None },
            false => Self::default(),
        }
    }
}

fn decode<'b>(bytes: &[u8], beside: impl FnOnce(&Sketch<'_>) -> Beside<'b>) -> Result<Instance, Error> {
    if bytes.len() > MAX_RECORD {
        return Err(malformed(format!("it has {} bytes; at most {MAX_RECORD} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| malformed("it is not UTF-8").with_source(e))?;
    let draft = match canonical::read::<false>(text) {
        Some(draft) => draft,
        None => serde_json::from_str(text)
            .map_err(|e| malformed("it is not the JSON of a record").with_source(e))?,
    };
    build(&draft, None, beside).map_err(|e| malformed(e.to_string()))
}

fn decode_quoted<'b>(
    quoted: &str,
    key: Option<&InstanceKey>,
    beside: impl FnOnce(&Sketch<'_>) -> Beside<'b>,
) -> Result<Instance, Error> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let draft = inner.filter(|inner| inner.len() <= MAX_RECORD);
    let Some(draft) = draft.and_then(canonical::read::<true>) else {
        let text: String =
            serde_json::from_str(quoted).map_err(|e| malformed("it is no text").with_source(e))?;
        return decode(text.as_bytes(), beside);
    };
    build(&draft, key, beside).map_err(|e| malformed(e.to_string()))
}

fn build<'a, 'b: 'a>(
    draft: &'a Draft<'_>,
    known: Option<&InstanceKey>,
    beside: impl FnOnce(&Sketch<'_>) -> Beside<'b>,
) -> Result<Instance, Error> {
    let text = |text: &'a Option<Text<'_>>| text.as_ref().map(|text| &*text.0);
    let service = text(&draft.service).ok_or_else(|| Error::invalid("it has no service"))?;
    let id = text(&draft.id).ok_or_else(|| Error::invalid("it has no id"))?;
    let key = match known.filter(|key| (key.service.as_str(), key.id.as_str()) == (service, id)) {
        Some(known) => known.clone(),
        None => InstanceKey::new(ServiceName::foreign(service)?, InstanceId::foreign(id)?),
    };
    let mut sketch = Sketch::new(key);
    let endpoints = draft.endpoints.as_deref().unwrap_or_default();
    sketch.endpoints.reserve_exact(endpoints.len());
    for endpoint in endpoints {
        sketch.endpoints.push(endpoint.0.parse()?);
    }
    // Empty text is how other writers say "none".
    let given = |given: &'a Option<Text<'_>>| text(given).filter(|text| !text.is_empty());
    sketch.version = given(&draft.version);
    sketch.zone = given(&draft.zone);
    sketch.group = given(&draft.group);
    sketch.tags = draft.tags.iter().flatten().map(|tag| &*tag.0).collect();
    if let Some(weight) = draft.weight {
        sketch.weight = Weight::from_f64(weight)?;
    }
    if let Some(status) = given(&draft.status) {
        sketch.status = status.parse::<Status>()?;
    }
    let own = draft.metadata.iter().flat_map(|pairs| &pairs.0);
    sketch.metadata =
        own.map(|(key, value)| (&*key.0, value.as_ref().map_or("", |value| &*value.0))).collect();
    let beside = beside(&sketch);
    add(&mut sketch.metadata, beside.metadata);
    add(&mut sketch.tags, beside.tags);
    sketch.status = beside.status.unwrap_or(sketch.status);
    if let Some(incarnation) = given(&draft.incarnation) {
        sketch.record_version = Some(RecordVersion {
            incarnation: incarnation.parse()?,
            epoch: draft.epoch.unwrap_or(1),
            sequence: draft.sequence.unwrap_or(1),
        });
    }
    sketch.build()
}

/// Without a copy where there is nothing to add to, which is the rule.
fn add<T>(own: &mut Vec<T>, beside: Vec<T>) {
    match own.is_empty() {
        true => *own = beside,
        false => own.extend(beside),
    }
}

fn malformed(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, format!("malformed record: {}", why.into()))
}

/// A number, a number in a string, or nothing: `null` and the empty string. By hand, as a derived choice copies what it
/// looks at, and lists have thousands.
fn number<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: Number,
{
    struct Any<N>(PhantomData<N>);

    impl<'de, N: Number> de::Visitor<'de> for Any<N> {
        type Value = Option<N>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number or a number in a string")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            N::deserialize(number.into_deserializer()).map(Some)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            N::deserialize(number.into_deserializer()).map(Some)
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
            N::deserialize(number.into_deserializer()).map(Some)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            match text.trim() {
                "" => Ok(None),
                number => number.parse().map(Some).map_err(de::Error::custom),
            }
        }
    }

    deserializer.deserialize_any(Any(PhantomData))
}

trait Number: de::DeserializeOwned + FromStr<Err: Display> {}

impl<N: de::DeserializeOwned + FromStr<Err: Display>> Number for N {}
