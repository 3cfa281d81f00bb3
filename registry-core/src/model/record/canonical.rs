//! Records exactly as this crate writes them, read at a glance.
//!
//! Nearly all are: every field in its place, nothing between them, no character that JSON has to escape. Lists have
//! thousands of them, often as a text within other JSON, where each quote is `\"`: to undo that and to read the result
//! costs twice what there is to know. What differs in a single byte is left to the general reader, so that there is one
//! who decides what a record may be.

use std::borrow::Cow;

use super::{Draft, Pairs, Text};

/// What stands in front of a field, with the comma or the brace before it.
macro_rules! front {
    ($mark:literal, $name:literal) => {
        if QUOTED { concat!($mark, "\\\"", $name, "\\\":") } else { concat!($mark, "\"", $name, "\":") }
    };
}

/// The record that is this text or, `QUOTED`, that stands like this between the quotes of a JSON string; `None` if it
/// takes more to read it. Nothing in it has been judged.
pub(super) fn read<const QUOTED: bool>(text: &str) -> Option<Draft<'_>> {
    let mut at = Place::<QUOTED> { rest: text };
    let draft = Draft {
        service: Some(at.after(front!("{", "service"))?.text()?),
        id: Some(at.after(front!(",", "id"))?.text()?),
        endpoints: Some(at.after(front!(",", "endpoints"))?.texts()?),
        version: at.field(front!(",", "version"), Place::text)?,
        weight: at.field(front!(",", "weight"), Place::weight)?,
        zone: at.field(front!(",", "zone"), Place::text)?,
        group: at.field(front!(",", "group"), Place::text)?,
        tags: at.field(front!(",", "tags"), Place::texts)?,
        metadata: at.field(front!(",", "metadata"), Place::pairs)?,
        status: at.field(front!(",", "status"), Place::text)?,
        incarnation: at.field(front!(",", "incarnation"), Place::text)?,
        epoch: at.field(front!(",", "epoch"), Place::number)?,
        sequence: at.field(front!(",", "sequence"), Place::number)?,
    };
    (at.rest == "}").then_some(draft)
}

/// Where one is in a record.
struct Place<'a, const QUOTED: bool> {
    rest: &'a str,
}

impl<'a, const QUOTED: bool> Place<'a, QUOTED> {
    /// Passes what has to be next.
    #[inline(always)]
    fn after(&mut self, front: &str) -> Option<&mut Self> {
        self.rest = self.rest.strip_prefix(front)?;
        Some(self)
    }

    /// What a field holds that may be missing; `None` if it is there and something else.
    #[inline(always)]
    fn field<T>(&mut self, front: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.after(front) {
            Some(at) => read(at).map(Some),
            None => Some(None),
        }
    }

    #[inline]
    fn text(&mut self) -> Option<Text<'a>> {
        let quote = if QUOTED { "\\\"" } else { "\"" };
        let rest = self.rest.strip_prefix(quote)?;
        let end = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F))?;
        let (text, rest) = rest.split_at(end);
        self.rest = rest.strip_prefix(quote)?;
        Some(Text(Cow::Borrowed(text)))
    }

    fn texts(&mut self) -> Option<Vec<Text<'a>>> {
        let mut texts = vec![self.after("[")?.text()?];
        while let Some(at) = self.after(",") {
            texts.push(at.text()?);
        }
        self.after("]").map(|_| texts)
    }

    fn pairs(&mut self) -> Option<Pairs<'a>> {
        let mut pairs = vec![self.after("{")?.pair()?];
        while let Some(at) = self.after(",") {
            pairs.push(at.pair()?);
        }
        self.after("}").map(|_| Pairs(pairs))
    }

    fn pair(&mut self) -> Option<(Text<'a>, Option<Text<'a>>)> {
        Some((self.text()?, Some(self.after(":")?.text()?)))
    }

    fn weight(&mut self) -> Option<f64> {
        u32::try_from(self.number()?).ok().map(f64::from)
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        // JSON has no zeros in front.
        number.parse().ok().filter(|_| digits == 1 || !number.starts_with('0'))
    }
}
