//! Free text that travels with an instance.

use std::{fmt, sync::Arc};

use super::name::{invalid, is_deceptive};
use crate::{Error, ErrorKind};

/// Most entries of one instance.
const MAX_ENTRIES: usize = 64;
/// Longest key, in bytes.
const MAX_KEY: usize = 256;
/// Longest value, in bytes.
const MAX_VALUE: usize = 4096;

/// String-to-string metadata, sorted by key: at most 64 entries, keys of 1 to 256 bytes, values of at most 4 KiB.
///
/// Don't put secrets here: every reader of the registry sees metadata, and so does the disk view.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Metadata(Arc<[(Box<str>, Box<str>)]>);

impl Metadata {
    /// Builds metadata from pairs; a later duplicate of a key wins.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] past the limits above, or for a key with control characters.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut map = std::collections::BTreeMap::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            check(key, value)?;
            map.insert(Box::<str>::from(key), Box::<str>::from(value));
            if map.len() > MAX_ENTRIES {
                return Err(Error::new(ErrorKind::InvalidArgument, "metadata has more than 64 entries"));
            }
        }
        Ok(Self(map.into_iter().collect()))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// The entries in key order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn check(key: &str, value: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(invalid("metadata key", key, "must have 1 to 256 bytes"));
    }
    if key.chars().any(is_deceptive) {
        return Err(invalid("metadata key", key, "holds a control character"));
    }
    if value.len() > MAX_VALUE {
        return Err(invalid("metadata value of", key, "is longer than 4096 bytes"));
    }
    Ok(())
}
