//! The wire form of one instance, read tolerantly: any field may be null or absent, numbers may stand as text.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::{Map, Value};

use super::codec::{Address, DEFAULT_CLUSTER};

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

/// A text, number or truth value. By hand, as a derived choice copies what it looks at, and lists have thousands.
enum Scalar {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(wire: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a truth value")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                #[expect(clippy::cast_precision_loss, reason = "beyond what any field means")]
                Ok(i64::try_from(value).map_or(Scalar::Number(value as f64), Scalar::Integer))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
        }

        wire.deserialize_any(Any)
    }
}

fn number<'de, D: Deserializer<'de>>(wire: D) -> Result<Option<f64>, D::Error> {
    Ok(match Option::<Scalar>::deserialize(wire)? {
        Some(Scalar::Integer(number)) => {
            #[expect(clippy::cast_precision_loss, reason = "ports and weights are far below 2^53")]
            let number = number as f64;
            Some(number)
        }
        Some(Scalar::Number(number)) => Some(number),
        Some(Scalar::Text(text)) => {
            Some(text.parse().map_err(|_| D::Error::custom("a text that is not a number"))?)
        }
        Some(Scalar::Bool(_)) => return Err(D::Error::custom("a truth value instead of a number")),
        None => None,
    })
}

/// A map whose values are texts, or scalars that stand for one; a null value is left out.
fn texts<'de, D: Deserializer<'de>>(wire: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map = Option::<BTreeMap<String, Option<Scalar>>>::deserialize(wire)?.unwrap_or_default();
    let text = |value| match value {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        Scalar::Number(value) => value.to_string(),
        Scalar::Text(value) => value,
    };
    Ok(map.into_iter().filter_map(|(key, value)| Some((key, text(value?)))).collect())
}
