//! Objects that may as well be something else.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{BorrowedStrDeserializer, MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::Scalar;

/// An object, or what stands in its place.
pub(crate) enum Object<'a, T> {
    Is(T),
    Not(Scalar<'a>),
}

impl<T: Default> Object<'_, T> {
    /// The object; whatever else stands in its place says nothing.
    pub(crate) fn or_default(self) -> T {
        match self {
            Self::Is(object) => object,
            Self::Not(_) => T::default(),
        }
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Object<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = Object<'de, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object::Is)
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Scalar::deserialize(BorrowedStrDeserializer::new(text)).map(Object::Not)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Scalar::deserialize(text.into_deserializer()).map(Object::Not)
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Object::Not(Scalar::Bool(flag)))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Object::Not(Scalar::Unsigned(number)))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Object::Not(Scalar::Signed(number)))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Object::Not(Scalar::Float(number)))
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Object::Not(Scalar::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Scalar::deserialize(SeqAccessDeserializer::new(seq)).map(Object::Not)
            }
        }

        deserializer.deserialize_any(Any(PhantomData))
    }
}
