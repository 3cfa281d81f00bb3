//! Lists whose elements are read as they are found, which also tells where they end.

use std::marker::PhantomData;

use serde::Deserialize;
use serde_json::value::RawValue;

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
    pub(crate) fn met(&self) -> usize {
        self.met
    }

    /// What follows the closing bracket; `None` if none was found where one should be.
    pub(crate) fn after(&self) -> Option<&'a str> {
        Some(self.rest).filter(|_| self.end == Some(End::Closed))
    }

    /// The next element, or how the array ends.
    #[inline]
    fn element(&mut self) -> Result<Element<'a, T>, End> {
        let rest = self.rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(']') {
            self.rest = after;
            return Err(End::Closed);
        }
        let rest = match (self.met, rest.strip_prefix(',')) {
            (0, None) => rest,
            (1.., Some(next)) => next.trim_ascii_start(),
            _ => return Err(End::Malformed),
        };
        let (element, length) = read(rest).ok_or(End::Malformed)?;
        self.rest = &rest[length..];
        self.met += 1;
        Ok(element)
    }
}

impl<'a, T: Deserialize<'a>> Iterator for Elements<'a, T> {
    type Item = Element<'a, T>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a, T>> {
        if self.end.is_some() {
            return None;
        }
        self.element().inspect_err(|end| self.end = Some(*end)).ok()
    }
}

/// The value that a text begins with, and its length.
#[inline]
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(Element<'a, T>, usize)> {
    let mut elements = serde_json::Deserializer::from_str(text).into_iter::<T>();
    if let Some(Ok(element)) = elements.next() {
        let length = elements.byte_offset();
        return Some((Element::Read(&text[..length], element), length));
    }
    let raw = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().next()?.ok()?;
    Some((Element::Raw(raw.get()), raw.get().len()))
}
