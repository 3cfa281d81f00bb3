//! The pieces of lists.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::json;
pub(super) use crate::json::Text;

/// Text by text, in the order of the body.
pub(super) type Pairs<'a> = json::Pairs<Text<'a>, Text<'a>>;

impl Pairs<'_> {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
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
