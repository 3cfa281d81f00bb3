//! The wire form of one instance, read tolerantly: any field may be null or absent, numbers may stand as text.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

use super::codec::{Address, DEFAULT_CLUSTER};
use crate::json::{Pairs, Plain, Scalar, Text};

/// One element of `hosts`.
#[derive(Debug, Default, Deserialize)]
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
pub(crate) type Texts<'a> = Vec<(Text<'a>, Cow<'a, str>)>;

/// So many texts most have at most.
const LIKELY: usize = 12;

/// Where an instance stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) ip: &'a str,
    pub(crate) port: u16,
    pub(crate) cluster: &'a str,
}

impl<'a> Host<'a> {
    /// The one that a text begins with, and how long it is there, if it is written as servers write nearly all: then it is
    /// the one that the general reader reads, at a third of the cost. Its texts go where those of another were.
    #[inline]
    pub(crate) fn plain(text: &'a str, texts: Texts<'a>) -> Option<(Self, usize)> {
        let mut host = Host { metadata: texts, ..Host::default() };
        let mut has_metadata = false;
        let mut plain = Plain::new(text);
        plain.object(|key, plain| {
            match key {
                "ip" if host.ip.is_none() => host.ip = Some(plain.text()?.into()),
                "port" if host.port.is_none() => host.port = Some(plain.number()?),
                "weight" if host.weight.is_none() => host.weight = Some(plain.number()?),
                "healthy" if host.healthy.is_none() => host.healthy = Some(plain.flag()?),
                "enabled" if host.enabled.is_none() => host.enabled = Some(plain.flag()?),
                "clusterName" if host.cluster_name.is_none() => {
                    host.cluster_name = Some(plain.text()?.into());
                }
                "metadata" if !has_metadata => {
                    has_metadata = true;
                    host.metadata.reserve(LIKELY);
                    plain.object(|key, plain| {
                        host.metadata.push((Text::from(Cow::Borrowed(key)), plain.text()?));
                        Some(())
                    })?;
                }
                // One that stands twice is an error.
                "ip" | "port" | "weight" | "healthy" | "enabled" | "clusterName" | "metadata" => return None,
                _ => plain.skip()?,
            }
            Some(())
        })?;
        Some((host, plain.length()))
    }

    /// The place for the texts of another.
    pub(crate) fn into_empty(self) -> Texts<'a> {
        let mut texts = self.metadata;
        texts.clear();
        texts
    }
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

    /// Whether the server found it healthy, as far as it says.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.unwrap_or(true)
    }

    /// Whether the server found it healthy and no operator has disabled it.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_healthy() && self.enabled.unwrap_or(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: &str = r#"{"instanceId":null,"ip":"10.0.0.7","port":8080,"weight":1.0,"healthy":true,"enabled":false,"ephemeral":true,"clusterName":"DEFAULT","serviceName":"DEFAULT_GROUP@@orders","metadata":{"sr.id":"a","sr.tags":"[\"x\",\"\u00e4\"]","zone":"zürich-1"},"instanceHeartBeatInterval":5000,"n":-0.5e1}"#;

    fn plain(text: &str) -> Option<(Host<'_>, usize)> {
        Host::plain(text, Texts::new())
    }

    /// What the general reader makes of the value that a text begins with.
    fn general(text: &str) -> Option<(Host<'_>, usize)> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter();
        let host = values.next()?.ok()?;
        Some((host, values.byte_offset()))
    }

    #[test]
    fn what_servers_write_is_read_at_a_glance_as_the_general_reader_does() {
        let usual = USUAL.replace(r#","n":-0.5e1"#, "");
        let weights =
            ["0", "0.0", "0.01", "0.1", "0.29", "1.5", "100.0", "123456789012345", "0.00000000000001"];
        let bodies = weights.map(|weight| usual.replace("1.0", weight));
        let unread = r#"{"a":0.5,"b":12345678901234567890123.0,"c":0,"d":12345678901234567890}"#;
        for body in bodies.iter().map(String::as_str).chain([
            unread,
            "{}",
            r#"{"metadata":{}}"#,
            r#"{"ip":""},{"ip":"x"}]"#,
        ]) {
            let host = plain(body);
            assert!(host.is_some(), "{body}");
            assert_eq!(format!("{host:?}"), format!("{:?}", general(body)), "{body}");
        }
    }

    #[test]
    fn what_else_json_may_be_is_left_to_the_general_reader() {
        let usual = USUAL.replace(r#","n":-0.5e1"#, "");
        for (from, to) in [
            ("8080", "\"8080\""),
            ("8080", "08080"),
            ("8080", "1234567890123456"),
            ("1.0", "1."),
            ("1.0", "1e0"),
            ("1.0", "-1.0"),
            ("true", "null"),
            ("true", "truth"),
            ("\"ip\"", " \"ip\""),
            ("\"ip\"", "\"\\u0069p\""),
            ("clusterName", "ip"),
            ("serviceName", "metadata"),
            ("\"a\"", "7"),
            ("10.0.0.7", "10.0.\n0.7"),
            ("10.0.0.7", "\\x"),
            ("10.0.0.7", "\\"),
            ("5000", "{}"),
            ("5000", "[5000]"),
            ("5000}", "5000"),
            ("5000}", "5000,}"),
        ] {
            assert!(usual.contains(from));
            assert!(plain(&usual.replacen(from, to, 1)).is_none(), "{from} {to}");
        }
        assert!(plain("").is_none() && plain("null").is_none() && plain(USUAL).is_none());
    }

    #[test]
    fn nothing_is_read_at_a_glance_that_the_general_reader_reads_otherwise() {
        let mut random = fastrand::Rng::with_seed(7);
        let usual = USUAL.replace(r#","n":-0.5e1"#, "");
        let bits = [
            "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "7", ".", "e", "-", " ", "\u{1}", "\u{7f}", "ü",
            "u", "null", "true", "\"ip\":", "\\u00",
        ];
        let mut read = 0;
        for _ in 0..200_000 {
            let mut body = usual.clone();
            for _ in 0..=random.usize(..2) {
                let at = random.usize(..=body.len());
                let to = at + random.usize(..4);
                if body.is_char_boundary(at) && body.is_char_boundary(to) && to <= body.len() {
                    let bit = if random.bool() { "" } else { bits[random.usize(..bits.len())] };
                    body.replace_range(at..to, bit);
                }
            }
            let host = plain(&body);
            read += usize::from(host.is_some());
            assert!(host.is_none() || format!("{host:?}") == format!("{:?}", general(&body)), "{body}");
        }
        assert!(read > 20_000, "{read}");
    }
}
