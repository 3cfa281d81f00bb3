//! The bodies of answers, of all three versions of the API, and of the lists that pushes carry.
//!
//! A list is split into raw entries only; what an entry is, [`codec`](super::codec) says. `lastRefTime` is new in every
//! answer, so bodies are never equal: what is compared is the array of hosts.

use std::borrow::Cow;

use http::StatusCode;
use registry_core::{Error, ErrorKind};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::api::Api;
use crate::http::Answer;

/// A complete list of the instances of a service, not yet decoded.
#[derive(Debug)]
pub(crate) struct List<'a> {
    hosts: Hosts<'a>,
    /// Whether the server calls everybody healthy because too few are.
    pub(crate) is_protected: bool,
}

#[derive(Debug)]
enum Hosts<'a> {
    /// From the first entry to the end of the last, and all of them: one scan of the body tells.
    Split { bytes: &'a str, entries: Vec<&'a RawValue> },
    /// Something else than an array of entries; nothing is an empty one.
    Other(Option<&'a RawValue>),
}

/// What stands around the hosts, whatever they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "H: Deserialize<'de>"))]
struct ServiceInfo<H> {
    /// All servers say it, also where there is nobody; some as null.
    #[serde(default, deserialize_with = "present")]
    hosts: Option<Option<H>>,
    reach_protection_threshold: Option<bool>,
}

/// Tells what is null from what is absent.
fn present<'de, D: Deserializer<'de>, H: Deserialize<'de>>(wire: D) -> Result<Option<Option<H>>, D::Error> {
    Option::deserialize(wire).map(Some)
}

impl<H> ServiceInfo<H> {
    /// Whether it describes a service: any object fits, such as somebody else's, and many have a name.
    fn is_one(&self) -> bool {
        self.hosts.is_some()
    }
}

/// The code and the data of [`Wrapped`], if they are of this kind.
#[derive(Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de>"))]
struct Data<D> {
    code: Option<i64>,
    data: Option<D>,
}

/// What v2 and v3 wrap around everything.
#[derive(Deserialize)]
pub(crate) struct Wrapped<'a> {
    pub(crate) code: Option<i64>,
    #[serde(borrow)]
    pub(crate) message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

/// The answer to a beat, in v1 and v2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Beat {
    code: Option<i64>,
    client_beat_interval: Option<u64>,
    light_beat_enabled: Option<bool>,
}

/// What became of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beaten {
    /// Counted; the next one is wanted after so many milliseconds, if the server says so.
    Alive { next: Option<u64> },
    /// The server knows no such instance.
    Unknown,
    /// The server takes full beats only, and this wasn't one.
    TooLight,
}

/// No error on HTTP's level, but no success either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: i64,
    pub(crate) message: String,
}

const SUCCESS: [i64; 2] = [0, 200];
/// `NamingResponseCode.OK` and `RESOURCE_NOT_FOUND` of v1 and v2; `INSTANCE_NOT_FOUND` and `RESOURCE_NOT_FOUND` of v3.
const BEAT_OK: i64 = 10200;
const BEAT_UNKNOWN: [i64; 3] = [20404, 21003, 20004];

/// What servers write in front of the entries is far shorter.
const FRONT: usize = 4096;

/// A list without anybody.
pub(crate) fn nobody(api: Api) -> &'static str {
    match api {
        Api::V1 => r#"{"hosts":[]}"#,
        Api::V2 => r#"{"code":0,"data":{"hosts":[]}}"#,
        Api::V3 => r#"{"code":0,"data":[]}"#,
    }
}

impl<'a> List<'a> {
    /// # Errors
    /// `Protocol` if the body is no list.
    pub(crate) fn parse(api: Api, body: &'a [u8]) -> Result<Self, Error> {
        let body = text(body)?;
        match api {
            Api::V1 => Self::of_info(body),
            Api::V2 => match data::<ServiceInfo<Vec<&'a RawValue>>>(body) {
                Some(info) if info.is_one() => Ok(Self::split(body, info)),
                _ => Self::of_info(unwrap(body)?.get()),
            },
            Api::V3 => {
                if let Some(entries) = data::<Vec<&'a RawValue>>(body) {
                    let info = ServiceInfo { hosts: Some(Some(entries)), reach_protection_threshold: None };
                    return Ok(Self::split(body, info));
                }
                let hosts = unwrap(body)?;
                if !hosts.get().starts_with('[') {
                    return Err(malformed("its data is no list"));
                }
                Ok(Self { hosts: Hosts::Other(Some(hosts)), is_protected: false })
            }
        }
    }

    /// Where the entries begin in a list that is written as servers write it.
    pub(crate) fn open(api: Api, body: &[u8]) -> Option<usize> {
        let key: &[u8] = match api {
            Api::V1 | Api::V2 => b"\"hosts\":[",
            Api::V3 => b"\"data\":[",
        };
        // Quotes within texts are escaped, so this is no part of one.
        let front = &body[..body.len().min(FRONT)];
        front.windows(key.len()).position(|here| here == key).map(|at| at + key.len())
    }

    /// Whether the service is protected, by what stands around the array from `open` to `close`; `None` if that isn't the
    /// array of hosts.
    pub(crate) fn around(api: Api, body: &[u8], open: usize, close: usize) -> Option<bool> {
        let rest = [&body[..open], b"0", &body[close..]].concat();
        let list = List::parse(api, &rest).ok()?;
        // An entry that stands where it does is one of the hosts, not of something else's.
        std::ptr::eq(list.bytes().as_ptr(), &raw const rest[open]).then_some(list.is_protected)
    }

    /// The form of v1, which pushes have too.
    pub(crate) fn of_info(body: &'a str) -> Result<Self, Error> {
        let split = serde_json::from_str::<ServiceInfo<Vec<&'a RawValue>>>(body).ok();
        if let Some(info) = split.filter(ServiceInfo::is_one) {
            return Ok(Self::split(body, info));
        }
        let info: ServiceInfo<&'a RawValue> = serde_json::from_str(body)
            .map_err(|error| malformed("it is no description of a service").with_source(error))?;
        if !info.is_one() {
            return Err(malformed("it describes no service"));
        }
        let is_protected = info.reach_protection_threshold.unwrap_or(false);
        Ok(Self { hosts: Hosts::Other(info.hosts.flatten()), is_protected })
    }

    fn split(body: &'a str, info: ServiceInfo<Vec<&'a RawValue>>) -> Self {
        let entries = info.hosts.flatten().unwrap_or_default();
        // Where a part of the body stands in it.
        let place = |part: &str| part.as_ptr() as usize - body.as_ptr() as usize;
        let bytes = match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => &body[place(first.get())..place(last.get()) + last.get().len()],
            _ => "",
        };
        let is_protected = info.reach_protection_threshold.unwrap_or(false);
        Self { hosts: Hosts::Split { bytes, entries }, is_protected }
    }

    /// What tells two lists apart.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match &self.hosts {
            Hosts::Split { bytes, .. } => bytes.as_bytes(),
            Hosts::Other(hosts) => hosts.map_or(b"null", |hosts| hosts.get().as_bytes()),
        }
    }

    /// The raw entries.
    ///
    /// # Errors
    /// `Protocol` if the hosts are no array.
    pub(crate) fn entries(&self) -> Result<Vec<&'a [u8]>, Error> {
        let raw = |entry: &&'a RawValue| entry.get().as_bytes();
        match &self.hosts {
            Hosts::Split { entries, .. } => Ok(entries.iter().map(raw).collect()),
            Hosts::Other(None) => Ok(Vec::new()),
            Hosts::Other(Some(hosts)) => {
                let entries: Option<Vec<&'a RawValue>> = serde_json::from_str(hosts.get())
                    .map_err(|error| malformed("its hosts are no list").with_source(error))?;
                Ok(entries.unwrap_or_default().iter().map(raw).collect())
            }
        }
    }
}

/// The record in the answer to a question for one instance, if it may be one.
pub(crate) fn one(api: Api, body: &[u8]) -> Option<&[u8]> {
    match api {
        Api::V1 => Some(body),
        Api::V2 | Api::V3 => data::<&RawValue>(text(body).ok()?).map(|data| data.get().as_bytes()),
    }
}

/// Whether the answer to a change of several instances says that any was changed.
pub(crate) fn changed(api: Api, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Changed {
        updated: Vec<serde::de::IgnoredAny>,
    }

    let Ok(body) = text(body) else { return false };
    let changed = match api {
        Api::V1 => serde_json::from_str::<Changed>(body).ok(),
        Api::V2 | Api::V3 => data(body),
    };
    changed.is_some_and(|changed: Changed| !changed.updated.is_empty())
}

/// The data of a success, if they are what is expected; what else it is, [`unwrap`] says.
fn data<'a, D: Deserialize<'a>>(body: &'a str) -> Option<D> {
    let whole: Data<D> = serde_json::from_str(body).ok()?;
    whole.data.filter(|_| whole.code.is_some_and(|code| SUCCESS.contains(&code)))
}

/// What the body of a write says. v1 says `ok` and nothing else, also to the removal of what isn't there.
///
/// # Errors
/// `Protocol` if it is no answer to a write: somebody else's in between.
pub(crate) fn refusal(api: Api, body: &[u8]) -> Result<Option<Refused>, Error> {
    if api == Api::V1 {
        return match text(body)?.trim() {
            "ok" => Ok(None),
            other => Err(malformed(&format!("not \"ok\" but {:?}", crate::http::said(other)))),
        };
    }
    refused(&wrapped(text(body)?)?)
}

/// # Errors
/// `Protocol` without a code, which all of Nacos' own have.
fn refused(wrapped: &Wrapped<'_>) -> Result<Option<Refused>, Error> {
    let code = wrapped.code.ok_or_else(|| malformed("it has no code"))?;
    if SUCCESS.contains(&code) {
        return Ok(None);
    }
    let said = wrapped.message.as_deref().unwrap_or_default();
    let detail = wrapped.data.map_or("", |data| data.get());
    let message = if matches!(detail, "" | "null") { said.to_owned() } else { format!("{said}: {detail}") };
    Ok(Some(Refused { code, message: crate::http::said(&message) }))
}

/// # Errors
/// `Protocol` if it is no answer to a beat; the refusal if it is one.
pub(crate) fn beat(api: Api, body: &[u8]) -> Result<Result<Beaten, Refused>, Error> {
    let body = text(body)?;
    if api == Api::V3 {
        let wrapped = wrapped(body)?;
        return Ok(match refused(&wrapped)? {
            None => Ok(Beaten::Alive { next: None }),
            Some(refused) if BEAT_UNKNOWN.contains(&refused.code) => Ok(Beaten::Unknown),
            Some(refused) => Err(refused),
        });
    }
    let beat: Beat = serde_json::from_str(body)
        .map_err(|error| malformed("it is no answer to a beat").with_source(error))?;
    Ok(match beat.code {
        // Servers before light beats give the interval only.
        None if beat.client_beat_interval.is_none() => return Err(malformed("it is no answer to a beat")),
        None | Some(BEAT_OK | 0) => Ok(Beaten::Alive { next: beat.client_beat_interval }),
        Some(code) if BEAT_UNKNOWN.contains(&code) => Ok(Beaten::Unknown),
        Some(code) => Err(Refused { code, message: "the beat was refused".to_owned() }),
    })
}

/// Whether a server takes light beats, if its answer to a beat says so. Those from before there were any say what they
/// miss.
pub(crate) fn takes_light_beats(api: Api, answer: &Answer) -> Option<bool> {
    let body = text(&answer.body).ok().filter(|_| api != Api::V3)?;
    if answer.status == StatusCode::BAD_REQUEST {
        return body.contains("'beat'").then_some(false);
    }
    serde_json::from_str::<Beat>(body).ok()?.light_beat_enabled
}

fn unwrap(body: &str) -> Result<&RawValue, Error> {
    let wrapped = wrapped(body)?;
    if let Some(Refused { code, message }) = refused(&wrapped)? {
        return Err(Error::new(super::error::kind_of_code(code), format!("code {code}: {message}")));
    }
    wrapped.data.ok_or_else(|| malformed("it has no data"))
}

pub(crate) fn wrapped(body: &str) -> Result<Wrapped<'_>, Error> {
    serde_json::from_str(body)
        .map_err(|error| malformed("it is not wrapped as v2 and v3 do").with_source(error))
}

pub(crate) fn text(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|error| malformed("it is not UTF-8").with_source(error))
}

/// An answer that makes no sense.
pub(crate) fn malformed(why: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the answer can't be understood: {why}"))
}

#[cfg(test)]
mod tests;
