//! Lists whose elements are read as they are found, which also tells where they end.

use std::marker::PhantomData;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::trim_start;

/// The elements of an array, read one after the other.
pub(crate) struct Elements<'a, T> {
    /// What follows the last one, or the bracket.
    rest: &'a str,
    met: usize,
    end: Option<End>,
    element: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Malformed,
}

pub(crate) enum Element<'a, T> {
    Read(&'a str, T),
    /// JSON, but nothing of the kind.
    Raw(&'a str),
}

impl<T> AsRef<[u8]> for Element<'_, T> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Read(raw, _) | Self::Raw(raw) => raw.as_bytes(),
        }
    }
}

impl<'a, T: Deserialize<'a>> Elements<'a, T> {
    /// Those of the array that was opened just before `rest`.
    pub(crate) fn new(rest: &'a str) -> Self {
        Self { rest, met: 0, end: None, element: PhantomData }
    }

    /// How many there were.
    #[cfg(feature = "consul")]
    pub(crate) fn met(&self) -> usize {
        self.met
    }

    /// What follows the closing bracket; `None` if none was found where one should be.
    #[cfg(feature = "consul")]
    pub(crate) fn after(&self) -> Option<&'a str> {
        Some(self.rest).filter(|_| self.end == Some(End::Closed))
    }

    /// The rest at the next element; `Err` says how the array ends.
    #[inline]
    fn open(&self) -> Result<&'a str, (&'a str, End)> {
        let rest = trim_start(self.rest);
        if let Some(after) = rest.strip_prefix(']') {
            return Err((after, End::Closed));
        }
        match (self.met, rest.strip_prefix(',')) {
            (0, None) => Ok(rest),
            (1.., Some(next)) => Ok(trim_start(next)),
            _ => Err((rest, End::Malformed)),
        }
    }
}

impl<'a, T: Deserialize<'a>> Iterator for Elements<'a, T> {
    type Item = Element<'a, T>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a, T>> {
        if self.end.is_some() {
            return None;
        }
        let text = match self.open() {
            Ok(text) => text,
            Err((rest, end)) => {
                (self.rest, self.end) = (rest, Some(end));
                return None;
            }
        };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        // An element may be large, so it goes straight to where it is wanted.
        if let Ok(element) = T::deserialize(&mut deserializer) {
            let (raw, rest) = text.split_at(deserializer.into_iter::<IgnoredAny>().byte_offset());
            self.rest = rest;
            self.met += 1;
            return Some(Element::Read(raw, element));
        }
        self.raw(text)
    }
}

impl<'a, T> Elements<'a, T> {
    /// The element that the rest begins with, whatever it is.
    #[cold]
    fn raw(&mut self, text: &'a str) -> Option<Element<'a, T>> {
        let Some(Ok(raw)) = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().next() else {
            self.end = Some(End::Malformed);
            return None;
        };
        self.rest = &text[raw.get().len()..];
        self.met += 1;
        Some(Element::Raw(raw.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements as they stand there, and whether the end was one.
    fn read(rest: &str) -> (Vec<&str>, bool) {
        let mut elements = Elements::<u8>::new(rest);
        let read = elements.by_ref().map(|element| match element {
            Element::Read(raw, _) | Element::Raw(raw) => raw,
        });
        (read.collect(), elements.end == Some(End::Closed))
    }

    #[test]
    fn an_array_is_read_to_its_end_over_what_is_white_space_to_json() {
        assert_eq!(read("]"), (vec![], true));
        assert_eq!(read(" \t\n\r1 \t\n\r, \t\n\r\"a\" \t\n\r] x"), (vec!["1", "\"a\""], true));
        for (text, before) in [
            ("\u{c}1]", 0),
            ("\u{b}1]", 0),
            ("\u{a0}1]", 0),
            (" \u{c}]", 0),
            ("1\u{c}]", 1),
            ("1\u{c},2]", 1),
            ("1,\u{c}2]", 1),
            ("1,\u{c}\"a\"]", 1),
        ] {
            let (elements, is_closed) = read(text);
            assert_eq!((elements.len(), is_closed), (before, false), "{text:?}");
        }
    }
}
