//! What a caller tells a pick, and what a policy is told.

use super::{Members, hashing::hash_of};
use crate::model::InstanceKey;

/// What a caller knows about the request it picks for. Borrowed, so that a pick allocates nothing.
///
/// ```
/// use registry_core::balance::PickContext;
///
/// let context = PickContext::new().hash_key(7).zone("z1");
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct PickContext<'a> {
    hash_key: Option<u64>,
    tried: &'a [InstanceKey],
    zone: Option<&'a str>,
}

impl<'a> PickContext<'a> {
    /// Nothing known.
    pub const fn new() -> Self {
        Self { hash_key: None, tried: &[], zone: None }
    }

    /// Requests of one key go to one instance, under policies that hash; without one, to a random instance. Any
    /// number will do, such as a customer's; for anything else see [`hash_of`](Self::hash_of).
    pub const fn hash_key(mut self, key: u64) -> Self {
        self.hash_key = Some(key);
        self
    }

    /// A [`hash_key`](Self::hash_key) of bytes or text. XXH64 with seed 0, in this and every later version, so that
    /// clients that aren't updated together agree.
    ///
    /// ```
    /// use registry_core::balance::PickContext;
    ///
    /// let context = PickContext::new().hash_key(PickContext::hash_of("customer 4711"));
    /// assert_eq!(PickContext::hash_of("abc"), 0x44bc_2cf5_ad77_0999);
    /// ```
    #[must_use]
    pub fn hash_of(key: impl AsRef<[u8]>) -> u64 {
        hash_of(key.as_ref())
    }

    /// Instances this request has been tried on; picked again only when no other is left. With any, the pick doesn't try
    /// whether an [ejected](crate::Ejection) instance is well again: this request has had its bad luck.
    pub const fn tried(mut self, tried: &'a [InstanceKey]) -> Self {
        self.tried = tried;
        self
    }

    /// The caller's zone, for policies of your own. Which instances are near is told by the client's zone
    /// ([`ClientConfig::zone`](crate::ClientConfig::zone)), whatever this says: requests travel from this process.
    pub const fn zone(mut self, zone: &'a str) -> Self {
        self.zone = Some(zone);
        self
    }

    /// See [`hash_key`](Self::hash_key).
    #[must_use]
    pub const fn get_hash_key(&self) -> Option<u64> {
        self.hash_key
    }

    /// See [`tried`](Self::tried).
    #[must_use]
    pub const fn get_tried(&self) -> &'a [InstanceKey] {
        self.tried
    }

    /// See [`zone`](Self::zone).
    #[must_use]
    pub const fn get_zone(&self) -> Option<&'a str> {
        self.zone
    }
}

/// One question to a [`Picker`](super::Picker).
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    pub(super) members: &'a Members,
    pub(super) context: &'a PickContext<'a>,
    pub(super) attempt: u32,
}

impl<'a> Draw<'a> {
    /// The members to choose from: those the picker was made for.
    #[must_use]
    #[inline]
    pub fn members(&self) -> &'a Members {
        self.members
    }

    /// What the caller told.
    pub fn context(&self) -> &'a PickContext<'a> {
        self.context
    }

    /// 0, and one more for each earlier choice within this pick that couldn't be used.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
