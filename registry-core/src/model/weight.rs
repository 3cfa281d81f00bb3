//! The relative share of traffic.

use std::fmt;

use crate::{Error, ErrorKind};

/// Relative share of traffic: an integer from 0 to 1,000,000 where 100 is neutral and 0 means no traffic.
///
/// Weights compare only within one service. If all instances have weight 0, they count as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// The largest weight.
    pub const MAX: Self = Self(1_000_000);
    /// The default share, 100: what the fleets people already run call neutral.
    pub const NEUTRAL: Self = Self(100);
    /// No traffic.
    pub const ZERO: Self = Self(0);

    /// Checks a weight.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] above 1,000,000.
    pub fn new(weight: u32) -> Result<Self, Error> {
        if weight > Self::MAX.0 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("weight {weight} is outside 0 to 1000000"),
            ));
        }
        Ok(Self(weight))
    }

    /// Checks a weight that a foreign record carries as a floating-point number, rounding to the nearest.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is not finite, negative, or above 1,000,000.
    pub fn from_f64(weight: f64) -> Result<Self, Error> {
        if !weight.is_finite() || !(0.0..=f64::from(Self::MAX.0)).contains(&weight) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("weight {weight} is not a number from 0 to 1000000"),
            ));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was just checked"
        )]
        Ok(Self(weight.round() as u32))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::NEUTRAL
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
