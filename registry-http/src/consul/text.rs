//! The pieces of lists.

use std::{cell::OnceCell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::codec::RECORD;
pub(super) use crate::json::Text;

/// Room that pairs get at first: most have a few, and to grow to that step by step would copy them each time.
const FEW: usize = 12;

/// `Meta`: text by text, in the order of the body, and the first chunk of a record by itself.
#[derive(Default)]
pub(super) struct Pairs<'a> {
    others: Vec<(Text<'a>, Text<'a>)>,
    record: Option<Quoted<'a>>,
}

/// A text of which a third is escapes, so that they are undone only for those who need it.
struct Quoted<'a> {
    raw: &'a RawValue,
    text: OnceCell<String>,
}

impl<'a> Pairs<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        if key == RECORD {
            return self.record.as_ref().map(Quoted::text);
        }
        self.others.iter().rev().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others().chain(self.record.iter().map(|record| (RECORD, record.text())))
    }

    /// All but the first chunk of a record.
    pub(super) fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The first chunk of a record as it stands in the body.
    pub(super) fn record(&self) -> Option<&'a str> {
        self.record.as_ref().map(|record| record.raw.get())
    }
}

impl<'a> Quoted<'a> {
    fn of<E: Error>(raw: &'a RawValue) -> Result<Self, E> {
        // What isn't a text or may stand for none is found out at once: half a surrogate pair is one of those.
        let is_text = raw.get().starts_with('"') && !raw.get().contains("\\u");
        let text = match is_text {
            true => OnceCell::new(),
            false => OnceCell::from(serde_json::from_str::<String>(raw.get()).map_err(E::custom)?),
        };
        Ok(Self { raw, text })
    }

    fn text(&self) -> &str {
        // Whatever else is escaped is some text.
        self.text.get_or_init(|| serde_json::from_str(self.raw.get()).unwrap_or_default())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Pairs { others: Vec::with_capacity(FEW), record: None };
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    if *key == *RECORD {
                        pairs.record = Some(Quoted::of(map.next_value()?)?);
                    } else {
                        pairs.others.push((key, map.next_value()?));
                    }
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// What a map has under `wan`, and nothing else of it.
#[derive(Debug)]
pub(super) struct Wan<'a>(pub(super) Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Wan<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Wan<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of addresses")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut wan = None;
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    if *key == *"wan" {
                        wan = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Wan(wan))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
