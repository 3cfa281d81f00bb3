//! Hashes that are the same in every process, on every machine and in every version of this crate, so that all
//! clients send a key to the same instance.

use twox_hash::XxHash64;

use crate::model::Instance;

/// XXH64 with seed 0.
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// Of what an instance is called, not of where it is: it keeps its keys when it moves.
pub(crate) fn hash_of_instance(instance: &Instance) -> u64 {
    XxHash64::oneshot(hash_of(instance.service().as_str().as_bytes()), instance.id().as_str().as_bytes())
}

/// A further hash of the same thing.
pub(crate) fn rehash(hash: u64, number: u64) -> u64 {
    XxHash64::oneshot(number, &hash.to_le_bytes())
}

/// Spreads keys that were chosen by hand, such as 1, 2 and 3, over all bits: the product of 64 bits with 64 others,
/// folded (the mixing step of wyhash). The constants are random bits, half of them set.
#[inline]
pub(super) fn mix(key: u64) -> u64 {
    let product = u128::from(key ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x8bb8_4b93_962e_acc9_u64);
    (product >> 64) as u64 ^ product as u64
}

/// A hash as a number below `len`, by its upper bits: a multiplication where a remainder would divide.
#[inline]
pub(super) fn below(hash: u64, len: usize) -> usize {
    ((u128::from(hash) * len as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change() {
        // XXH64 of the empty input and of "abc", from its specification.
        assert_eq!(hash_of(b""), 0xef46_db37_51d8_e999);
        assert_eq!(hash_of(b"abc"), 0x44bc_2cf5_ad77_0999);
        assert_eq!(mix(7), 0x37a8_5eb1_8527_ea11);
        let instance = Instance::builder("orders").id("i1").endpoint("http://10.0.0.1:80").build().unwrap();
        assert_eq!(hash_of_instance(&instance), 0xa016_5451_fce5_ea6c);
        assert_eq!(rehash(1, 2), 0xb425_aca0_2715_8691);
    }

    #[test]
    fn keys_in_a_row_are_spread_evenly() {
        for step in [1, 2, 1 << 20, 1 << 40, 1 << 60] {
            let mut counts = [0_u32; 16];
            (0..16_000_u64).for_each(|key| counts[below(mix(key.wrapping_mul(step)), 16)] += 1);
            if step == 1 << 60 {
                // 16 different keys in all.
                assert!(counts.iter().filter(|count| **count > 0).count() > 6, "{counts:?}");
            } else {
                assert!(counts.iter().all(|count| (800..1_200).contains(count)), "step {step}: {counts:?}");
            }
        }
        assert_eq!(below(u64::MAX, 10), 9);
    }
}
