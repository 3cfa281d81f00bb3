//! What an instance says of itself.

use std::{fmt, str::FromStr};

use crate::{Error, ErrorKind};

/// What an instance says of itself, in the order of its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Registered, not yet ready for requests.
    Starting,
    /// Takes requests. The default; also what a record without a status means.
    #[default]
    Serving,
    /// Finishes what it has and leaves soon; picked only when nothing else is left.
    Draining,
    /// Registered but unable to serve, for example because its own health probe fails.
    Down,
}

impl Status {
    /// The wire word: `starting`, `serving`, `draining` or `down`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "starting" => Ok(Self::Starting),
            "serving" => Ok(Self::Serving),
            "draining" => Ok(Self::Draining),
            "down" => Ok(Self::Down),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                "a status is one of starting, serving, draining, down",
            )),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
