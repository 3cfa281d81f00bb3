//! The random number of every ruler and of every case that draws one itself.

/// A position below `len`.
///
/// Neither this nor the generator is ever compiled into a case: that alone would move the cheapest ruler between 1 and
/// 3 ns, from one build to the next.
#[inline(never)]
#[must_use]
pub fn any(len: usize) -> usize {
    let wide = u128::from(word()) * len as u128;
    (wide >> 64) as usize
}

#[inline(never)]
fn word() -> u64 {
    fastrand::u64(..)
}

#[cfg(test)]
mod tests {
    use super::any;

    #[test]
    fn every_position_is_drawn_and_none_beyond() {
        let mut drawn = [0; 7];
        (0..7_000).for_each(|_| drawn[any(7)] += 1);
        assert!(drawn.iter().all(|times| *times > 500), "{drawn:?}");
    }
}
