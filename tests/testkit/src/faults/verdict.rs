//! What a validator says: a figure worth reporting, or what was violated and when.

use std::{fmt, time::Duration};

/// A promise that is judged; the meaning of each is at its validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each validator says what it stands for")]
pub enum Invariant {
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    D1,
    D2,
    D3,
    D4,
    D5,
    D6,
    D7,
    D8,
    H1,
    H2,
    L1,
    L2,
    S1,
    S2,
    X2,
    /// The run itself went wrong, or has seen too little to judge.
    Run,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which promise.
    pub invariant: Invariant,
    /// What was seen instead.
    pub what: String,
    /// When, since the start of the history; none where it is about the whole of it.
    pub at: Option<Duration>,
}

impl Violation {
    /// A violation without a moment.
    pub fn new(invariant: Invariant, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into(), at: None }
    }

    /// A violation at a moment.
    pub fn at(invariant: Invariant, at: Duration, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into(), at: Some(at) }
    }

    /// The run itself went wrong: a server that doesn't start, a call that has to succeed and doesn't.
    pub fn run(what: impl fmt::Display) -> Self {
        Self::new(Invariant::Run, what.to_string())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violated", self.invariant)?;
        if let Some(at) = self.at {
            write!(f, " at {}", Millis(at))?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Violation {}

/// A result worth reporting: a phrase such as `back after 71 ms, 100 registrations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figure(String);

impl Figure {
    /// A measured value with what it measures, such as `back after` and a duration.
    pub fn new(what: &str, value: impl Into<Value>) -> Self {
        Self::default().and(what, value)
    }

    /// Adds another.
    #[must_use]
    pub fn and(mut self, what: &str, value: impl Into<Value>) -> Self {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        let separator = if what.is_empty() { "" } else { " " };
        self.0.push_str(&format!("{what}{separator}{}", value.into()));
        self
    }

    /// Adds all of another figure.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        if other.0.is_empty() { self } else { self.and("", other.0.as_str()) }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value of a figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self(Millis(time).to_string())
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self(count.to_string())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self(count.to_string())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A duration as people read it: `71 ms`, `3.2 s`, `24 h`.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 if !self.0.is_zero() => write!(f, "{} µs", self.0.as_micros()),
            millis @ 0..1_000 => write!(f, "{millis} ms"),
            1_000..180_000 => write!(f, "{:.2} s", self.0.as_secs_f64()),
            180_000..7_200_000 => write!(f, "{:.1} min", self.0.as_secs_f64() / 60.0),
            _ => write!(f, "{:.1} h", self.0.as_secs_f64() / 3600.0),
        }
    }
}
