//! The wire form of one instance, read tolerantly: any field may be null or absent, numbers may stand as text.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

use super::codec::{Address, DEFAULT_CLUSTER};
use crate::json::Scalar;

/// One element of `hosts`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Host {
    ip: Option<String>,
    #[serde(default, deserialize_with = "number")]
    port: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    pub(crate) weight: Option<f64>,
    healthy: Option<bool>,
    enabled: Option<bool>,
    cluster_name: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Host {
    /// What can be read of an object whose fields aren't all of their types.
    pub(crate) fn salvage(entry: &[u8]) -> Option<Self> {
        let mut fields: Map<String, Value> = serde_json::from_slice(entry).ok()?;
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.retain(|_, value| !value.is_object() && !value.is_array());
        }
        fields.retain(|key, value| {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            Self::deserialize(Value::Object(alone)).is_ok()
        });
        Self::deserialize(Value::Object(fields)).ok()
    }

    /// Where it stands; `None` without an address or with an impossible port.
    pub(crate) fn address(&self) -> Option<Address> {
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
        Some(Address { ip: ip.to_owned(), port, cluster: cluster.to_owned() })
    }

    /// Whether the server found it healthy and no operator has disabled it.
    pub(crate) fn is_usable(&self) -> bool {
        self.healthy.unwrap_or(true) && self.enabled.unwrap_or(true)
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
fn texts<'de, D: Deserializer<'de>>(wire: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map = Option::<BTreeMap<String, Scalar<'de>>>::deserialize(wire)?.unwrap_or_default();
    if map.values().any(|value| matches!(value, Scalar::Nested)) {
        return Err(D::Error::custom("a list or an object instead of a text"));
    }
    let text = |(key, value): (_, Scalar<'_>)| Some((key, value.into_text()?.into_owned()));
    Ok(map.into_iter().filter_map(text).collect())
}
