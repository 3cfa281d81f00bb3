//! JSON as machines write it: without white space, with numbers that are short.

#[cfg(feature = "nacos")]
use std::borrow::Cow;

#[cfg(feature = "eureka")]
use serde::Deserialize;

#[cfg(feature = "eureka")]
use super::leading;

/// A reader of that, which gives up on whatever else there may be in JSON. It reads nothing that `serde_json` reads
/// otherwise or refuses, so that whoever is given up on goes there.
///
/// A list has a dozen short keys, texts and numbers per entry, and that a general reader takes care of each alike is most
/// of what it costs.
pub(crate) struct Plain<'a> {
    text: &'a str,
    at: usize,
}

/// So many digits fit 64 bits.
#[cfg(feature = "eureka")]
const INTEGER: usize = 19;

/// So many digits fit into the fraction of a float, and so do the powers of ten below.
#[cfg(feature = "nacos")]
const DIGITS: usize = 15;
#[cfg(feature = "nacos")]
const POWERS: [f64; DIGITS + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

impl<'a> Plain<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How much was read.
    pub(crate) fn length(&self) -> usize {
        self.at
    }

    /// Reads an object: `each` is given the keys, and the reader to read the value with.
    #[inline]
    pub(crate) fn object(&mut self, mut each: impl FnMut(&'a str, &mut Self) -> Option<()>) -> Option<()> {
        self.eat(b'{')?;
        if self.next()? == b'}' {
            return self.eat(b'}');
        }
        loop {
            let key = self.quoted()?;
            self.eat(b':')?;
            each(key, self)?;
            match self.next()? {
                b',' => self.at += 1,
                _ => return self.eat(b'}'),
            }
        }
    }

    /// Passes over a value that is neither an object nor a list.
    #[inline]
    pub(crate) fn skip(&mut self) -> Option<()> {
        match self.next()? {
            b'"' => self.quoted().map(drop),
            b'0'..=b'9' => self.decimal().map(drop),
            b'n' => self.null(),
            _ => self.flag().map(drop),
        }
    }

    /// Any value, read by `serde_json`.
    #[cfg(feature = "eureka")]
    #[inline]
    pub(crate) fn general<T: Deserialize<'a>>(&mut self) -> Option<T> {
        let (value, length) = leading(self.text.get(self.at..)?)?;
        self.at += length;
        Some(value)
    }

    #[inline]
    pub(crate) fn null(&mut self) -> Option<()> {
        self.word(b"null")
    }

    #[inline]
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.next()? {
            b't' => self.word(b"true").map(|()| true),
            _ => self.word(b"false").map(|()| false),
        }
    }

    /// A text. Escapes are undone as `serde_json` does it.
    #[cfg(feature = "nacos")]
    #[inline]
    pub(crate) fn text(&mut self) -> Option<Cow<'a, str>> {
        let from = self.at;
        match self.quoted() {
            Some(text) => Some(Cow::Borrowed(text)),
            None => self.escaped(from),
        }
    }

    /// A text without escapes.
    #[inline]
    pub(crate) fn quoted(&mut self) -> Option<&'a str> {
        self.eat(b'"')?;
        let from = self.at;
        let to = from + special(self.text.as_bytes().get(from..)?)?;
        self.at = to + 1;
        self.text.get(from..to).filter(|_| self.text.as_bytes()[to] == b'"')
    }

    #[cfg(feature = "nacos")]
    #[cold]
    fn escaped(&mut self, from: usize) -> Option<Cow<'a, str>> {
        self.at = from;
        self.eat(b'"')?;
        loop {
            self.at += special(self.text.as_bytes().get(self.at..)?)?;
            match self.next()? {
                b'"' => break,
                // What follows a backslash is no end, whatever it is.
                b'\\' => self.at += 2,
                _ => return None,
            }
        }
        self.at += 1;
        serde_json::from_str(self.text.get(from..self.at)?).ok().map(Cow::Owned)
    }

    /// A whole number without a sign, as it stands there, which is as it would be written again.
    #[cfg(feature = "eureka")]
    #[inline]
    pub(crate) fn integer(&mut self) -> Option<&'a str> {
        let from = self.at;
        let digits = self.whole(&mut 0)?;
        self.text.get(from..self.at).filter(|_| digits <= INTEGER)
    }

    /// A number without a sign and an exponent.
    #[cfg(feature = "nacos")]
    #[inline]
    pub(crate) fn number(&mut self) -> Option<f64> {
        let (number, digits, fraction) = self.decimal()?;
        if digits > DIGITS {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "so few digits fit")]
        let whole = number as f64;
        // The quotient of two that are exact is the nearest there is.
        Some(if fraction == 0 { whole } else { whole / POWERS[fraction] })
    }

    /// Its digits, how many they are, and how many of them stand behind the point.
    #[inline]
    fn decimal(&mut self) -> Option<(u64, usize, usize)> {
        let mut number = 0;
        let whole = self.whole(&mut number)?;
        let mut fraction = 0;
        if self.next()? == b'.' {
            self.at += 1;
            fraction = self.digits(&mut number);
            if fraction == 0 {
                return None;
            }
        }
        Some((number, whole + fraction, fraction))
    }

    /// Like `digits`, of a whole number: there are some, and one that begins with a zero is zero.
    #[inline]
    fn whole(&mut self, number: &mut u64) -> Option<usize> {
        let is_zero = self.next()? == b'0';
        let digits = self.digits(number);
        (digits == 1 || digits > 1 && !is_zero).then_some(digits)
    }

    /// Adds digits to a number, which counts for nothing if they were too many; returns how many there are.
    #[inline]
    fn digits(&mut self, number: &mut u64) -> usize {
        let from = self.at;
        while let Some(digit @ b'0'..=b'9') = self.next() {
            *number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        self.at - from
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        let is_it = self.text.as_bytes().get(self.at..)?.starts_with(word);
        self.at += word.len();
        is_it.then_some(())
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> Option<()> {
        let is_it = self.next()? == byte;
        self.at += 1;
        is_it.then_some(())
    }

    /// The byte that comes next.
    #[inline]
    pub(crate) fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// Where the first byte is that ends a text or isn't itself in one: a quote, a backslash, or a control character.
#[inline]
fn special(bytes: &[u8]) -> Option<usize> {
    /// A byte in each of the eight.
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }

    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    let (eights, rest) = bytes.as_chunks::<8>();
    for (at, eight) in eights.iter().enumerate() {
        // The lowest byte of which the highest bit is set afterwards is the first; those above may be wrong
        // (Bit Twiddling Hacks, "Determine if a word has a byte less than n").
        let word = u64::from_le_bytes(*eight);
        let below = |word: u64, byte: u8| word.wrapping_sub(each(byte)) & !word;
        let found = below(word, b' ') | below(word ^ each(b'"'), 1) | below(word ^ each(b'\\'), 1);
        let found = found & each(0x80);
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(is_special).map(|at| eights.len() * 8 + at)
}
