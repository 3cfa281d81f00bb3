//! All the same.

/// Uniform choice.
#[inline]
pub(super) fn random(len: usize) -> usize {
    fastrand::usize(..len)
}
