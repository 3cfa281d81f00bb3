//! From our weights to pingora's.
//!
//! Ours go up to 1,000,000 with 100 as neutral; pingora's selections hold one entry (weighted round robin) or 160 points
//! (ketama) per unit of weight. So the common divisor is taken out, and what is still large is scaled down.

/// The largest weight a backend gets: shares are exact to 1 %, and a selection stays small.
const MOST: u32 = 100;

/// Weights of at most 100 in the same proportions, as nearly as whole numbers can be; none is 0, as pingora knows no
/// backend without traffic.
pub(crate) fn scaled(weights: &[u32]) -> Vec<usize> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let largest = weights.iter().copied().max().unwrap_or(0) / divisor;
    let scale = |weight: u32| match weight / divisor {
        share if largest <= MOST => share,
        share => {
            u32::try_from((u64::from(share) * u64::from(MOST) + u64::from(largest) / 2) / u64::from(largest))
                .expect("a share is at most the largest one")
        }
    };
    weights.iter().map(|weight| scale(*weight).max(1) as usize).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn equal_weights_become_one() {
        assert_eq!(scaled(&[100, 100, 100]), [1, 1, 1]);
        assert_eq!(scaled(&[0, 0]), [1, 1]);
        assert_eq!(scaled(&[]), [0_usize; 0]);
    }

    #[test]
    fn small_proportions_are_exact() {
        assert_eq!(scaled(&[100, 50, 25]), [4, 2, 1]);
        assert_eq!(scaled(&[70, 30]), [7, 3]);
    }

    #[test]
    fn large_weights_are_scaled_and_none_vanishes() {
        assert_eq!(scaled(&[1_000_000, 500_001, 1]), [100, 50, 1]);
    }
}
