//! Values that something else follows.

use serde::Deserialize;

/// Reads the value that a text begins with; with its length.
#[inline]
pub(crate) fn leading<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}
