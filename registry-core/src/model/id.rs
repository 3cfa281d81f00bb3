//! What identifies an instance, and one life of the client that published it.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use super::name::{ServiceName, foreign, strict, text};
use crate::{Error, ErrorKind};

/// The id of an instance, unique within its service and stable over re-registration.
///
/// Strict like a [`ServiceName`] when we create it; generated (32 hexadecimal digits) when none is given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

/// Service and id: what identifies one instance everywhere, as one id may occur in two services.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The service the instance belongs to.
    pub service: ServiceName,
    /// The id within that service.
    pub id: InstanceId,
}

/// A random 128-bit mark of one client life, written beside every record.
///
/// It tells our own stale record from a rival that uses the same id, and guards deletions: a record is only
/// removed by the life that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u128);

/// A map by key for long lists, of which each entry is looked up several times per re-list. Seeded at random, as what a
/// registry lists is written by others.
pub(crate) type KeyMap<T> = HashMap<InstanceKey, T, foldhash::fast::RandomState>;

impl InstanceId {
    /// Parses an id that we create.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] under the rules of [`ServiceName::new`].
    pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        strict("instance id", id)?;
        Ok(Self(id.into()))
    }

    /// Accepts an id that a registry or a dialect uses, under the rules of [`ServiceName::foreign`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is empty, too long, or holds a forbidden character.
    pub fn foreign(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        foreign("instance id", id)?;
        Ok(Self(id.into()))
    }

    /// A new random id: 32 hexadecimal digits from the operating system's generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("{:032x}", random()).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text!(InstanceId);

impl InstanceKey {
    /// Joins a service and an id.
    #[must_use]
    pub fn new(service: ServiceName, id: InstanceId) -> Self {
        Self { service, id }
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.id)
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Incarnation {
    /// A new random incarnation.
    #[must_use]
    pub fn generate() -> Self {
        Self(random())
    }

    /// An incarnation with a known value, for tests and codecs.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The value, for the packed form of an instance.
    pub(super) const fn to_bits(self) -> u128 {
        self.0
    }
}

/// What each byte is as a hexadecimal digit; 16 if it is none.
const HEXADECIMAL: [u8; 256] = {
    let mut values = [16; 256];
    let mut value = 0_u8;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

impl FromStr for Incarnation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Lists have thousands: a digit is looked up, and what else there may be is asked for once.
        let (mut bits, mut all) = (0, 0);
        for digits in text.as_bytes().chunks(16) {
            let mut half = 0_u64;
            for digit in digits {
                let value = HEXADECIMAL[usize::from(*digit)];
                half = half << 4 | u64::from(value & 15);
                all |= value;
            }
            bits = bits << 64 | u128::from(half);
        }
        let bits = Some(bits).filter(|_| text.len() == 32 && all < 16);
        let fault = || Error::new(ErrorKind::Protocol, "an incarnation has 32 hexadecimal digits");
        bits.map(Self).ok_or_else(fault)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Only exotic or broken systems get here; a weaker number is better than a process that can't register.
        return u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
    }
    u128::from_ne_bytes(bytes)
}
