//! The wire form of one instance, read tolerantly: any field may be null or absent, numbers may stand as text.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

use super::codec::{Address, DEFAULT_CLUSTER};
use crate::json::{Pairs, Scalar, Text};

/// One element of `hosts`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Host<'a> {
    #[serde(borrow)]
    ip: Option<Text<'a>>,
    #[serde(default, deserialize_with = "number")]
    port: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    pub(crate) weight: Option<f64>,
    healthy: Option<bool>,
    enabled: Option<bool>,
    #[serde(borrow)]
    cluster_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "texts")]
    metadata: Texts<'a>,
}

/// Texts by key, in the order of the body; a later one of the same key counts.
type Texts<'a> = Vec<(Text<'a>, Cow<'a, str>)>;

/// Where an instance stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) ip: &'a str,
    pub(crate) port: u16,
    pub(crate) cluster: &'a str,
}

impl Host<'_> {
    /// What can be read of an object whose fields aren't all of their types, as an object that can be read.
    pub(crate) fn salvage(entry: &[u8]) -> Option<String> {
        let mut fields: Map<String, Value> = serde_json::from_slice(entry).ok()?;
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.retain(|_, value| !value.is_object() && !value.is_array());
        }
        let is_readable = |entry: &Map<String, Value>| {
            serde_json::to_string(entry).is_ok_and(|entry| serde_json::from_str::<Host<'_>>(&entry).is_ok())
        };
        fields.retain(|key, value| is_readable(&Map::from_iter([(key.clone(), value.clone())])));
        serde_json::to_string(&fields).ok()
    }

    /// `None` without an address or with an impossible port.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        let ip = self.ip.as_deref().map(|ip| ip.trim_matches(['[', ']'])).filter(|ip| !ip.is_empty())?;
        let port = self.port.filter(|port| port.fract() == 0.0 && (1.0..=65535.0).contains(port))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was just checked"
        )]
        let port = port as u16;
        let cluster =
            self.cluster_name.as_deref().filter(|cluster| !cluster.is_empty()).unwrap_or(DEFAULT_CLUSTER);
        Some(Place { ip, port, cluster })
    }

    pub(crate) fn address(&self) -> Option<Address> {
        self.place().map(Place::to_address)
    }

    /// Whether the server found it healthy and no operator has disabled it.
    pub(crate) fn is_usable(&self) -> bool {
        self.healthy.unwrap_or(true) && self.enabled.unwrap_or(true)
    }

    pub(crate) fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().map(|(key, value)| (&**key, &**value))
    }

    pub(crate) fn said(&self, key: &str) -> Option<&str> {
        self.metadata.iter().rev().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }
}

impl Place<'_> {
    pub(crate) fn to_address(self) -> Address {
        Address { ip: self.ip.to_owned(), port: self.port, cluster: self.cluster.to_owned() }
    }
}

fn number<'de, D: Deserializer<'de>>(wire: D) -> Result<Option<f64>, D::Error> {
    #[expect(clippy::cast_precision_loss, reason = "ports and weights are far below 2^53")]
    Ok(match Scalar::deserialize(wire)? {
        Scalar::Unsigned(number) => Some(number as f64),
        Scalar::Signed(number) => Some(number as f64),
        Scalar::Float(number) => Some(number),
        Scalar::Text(text) => {
            Some(text.parse().map_err(|_| D::Error::custom("a text that is not a number"))?)
        }
        Scalar::Bool(_) => return Err(D::Error::custom("a truth value instead of a number")),
        Scalar::Nested => return Err(D::Error::custom("a list or an object instead of a number")),
        Scalar::Null => None,
    })
}

/// A map whose values are texts, or scalars that stand for one; a null value is left out.
fn texts<'de, D: Deserializer<'de>>(wire: D) -> Result<Texts<'de>, D::Error> {
    struct Entry<'a>(Option<Cow<'a, str>>);

    impl<'de: 'a, 'a> Deserialize<'de> for Entry<'a> {
        #[inline]
        fn deserialize<D: Deserializer<'de>>(wire: D) -> Result<Self, D::Error> {
            match Scalar::deserialize(wire)? {
                Scalar::Text(text) => Ok(Self(Some(text))),
                Scalar::Nested => Err(D::Error::custom("a list or an object instead of a text")),
                other => Ok(Self(other.into_text())),
            }
        }
    }

    let pairs = Option::<Pairs<Text<'de>, Entry<'de>>>::deserialize(wire)?.unwrap_or_default();
    Ok(pairs.0.into_iter().filter_map(|(key, value)| Some((key, value.0?))).collect())
}
