//! One bound, what was measured, and the line that says so.

use std::{fmt, process::ExitCode};

/// A bound and what was measured against it.
///
/// Prints as one line of seven fields with tabs between, which `cargo xtask bench` collects:
///
/// ```
/// use registry_bench_support::Bound;
///
/// let bound = Bound::at_most("P1", "round robin, N = 1000", 1.0449, 1.25, "x guard");
/// assert_eq!(bound.to_string(), "BOUND\tP1\tround robin, N = 1000\t1.04\t<= 1.25 x guard\thard\tholds");
/// assert!(!bound.fails());
/// let slow = Bound::at_most("P9", "volo", 0.5, 0.35, "x volo").report();
/// assert_eq!(slow.to_string(), "BOUND\tP9\tvolo\t0.50\t<= 0.35 x volo\treport\tmisses");
/// assert!(!slow.fails(), "a report never fails a run");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a bound does nothing until it is printed and concluded"]
pub struct Bound {
    id: &'static str,
    what: String,
    measured: f64,
    limit: Limit,
    unit: &'static str,
    hard: bool,
    skipped: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Exactly(f64),
}

impl Bound {
    /// The measured figure may not be larger. `unit` is what both are counted in, such as `x guard`, `B` or `s`;
    /// it may be empty. Hard, unless [`report`](Self::report) follows.
    pub fn at_most(
        id: &'static str,
        what: impl Into<String>,
        measured: f64,
        limit: f64,
        unit: &'static str,
    ) -> Self {
        Self::new(id, what.into(), measured, Limit::AtMost(limit), unit)
    }

    /// The measured figure may not be smaller.
    pub fn at_least(
        id: &'static str,
        what: impl Into<String>,
        measured: f64,
        limit: f64,
        unit: &'static str,
    ) -> Self {
        Self::new(id, what.into(), measured, Limit::AtLeast(limit), unit)
    }

    /// The measured figure must be this: for counts.
    pub fn exactly(
        id: &'static str,
        what: impl Into<String>,
        measured: u64,
        limit: u64,
        unit: &'static str,
    ) -> Self {
        Self::new(id, what.into(), measured as f64, Limit::Exactly(limit as f64), unit)
    }

    fn new(id: &'static str, what: String, measured: f64, limit: Limit, unit: &'static str) -> Self {
        Self { id, what, measured, limit, unit, hard: true, skipped: None }
    }

    /// Only reports: a miss is printed and fails nothing.
    pub fn report(mut self) -> Self {
        self.hard = false;
        self
    }

    /// Doesn't judge if there is a reason not to, and says the reason.
    pub fn skip_if(mut self, reason: Option<impl Into<String>>) -> Self {
        self.skipped = reason.map(Into::into);
        self
    }

    /// Whether the measured figure is within the bound. One that is not a number is not.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.measured <= limit,
            Limit::AtLeast(limit) => self.measured >= limit,
            Limit::Exactly(limit) => self.measured == limit,
        }
    }

    /// Whether this must fail the run: a hard bound that was judged and missed.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.hard && self.skipped.is_none() && !self.holds()
    }
}

/// Prints the lines; fails if a hard bound misses, or if there is nothing to judge.
#[must_use]
pub fn conclude(bounds: &[Bound]) -> ExitCode {
    println!();
    bounds.iter().for_each(|bound| println!("{bound}"));
    if bounds.is_empty() || bounds.iter().any(Bound::fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, limit) = match self.limit {
            Limit::AtMost(limit) => ("<=", limit),
            Limit::AtLeast(limit) => (">=", limit),
            Limit::Exactly(limit) => ("=", limit),
        };
        let limit = format!("{sign} {limit} {}", self.unit);
        let gate = if self.hard { "hard" } else { "report" };
        let verdict = match &self.skipped {
            Some(reason) => format!("skipped: {}", one_field(reason)),
            None if self.holds() => "holds".to_owned(),
            None => "misses".to_owned(),
        };
        let what = one_field(&self.what);
        let (measured, limit) = (figure(self.measured), limit.trim_end());
        write!(f, "BOUND\t{}\t{what}\t{measured}\t{limit}\t{gate}\t{verdict}", self.id)
    }
}

/// Whole numbers as they are, others with two digits after the point, small ones with three that count.
fn figure(value: f64) -> String {
    match value {
        _ if value.fract() == 0.0 => format!("{value}"),
        _ if value.abs() < 0.1 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

fn one_field(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_seven_fields_whatever_the_texts_hold() {
        let bound = Bound::at_least("P3", "a\tb\nc", 1.5, 1.8, "").skip_if(Some("load\t2"));
        let line = bound.to_string();
        assert_eq!(line.split('\t').count(), 7);
        assert_eq!(line, "BOUND\tP3\ta b c\t1.50\t>= 1.8\thard\tskipped: load 2");
    }

    #[test]
    fn only_a_hard_bound_that_was_judged_and_missed_fails() {
        let missed = || Bound::at_most("A1", "x", 2.0, 1.0, "us");
        assert!(missed().fails());
        assert!(!missed().report().fails());
        assert!(!missed().skip_if(Some("why")).fails());
        assert!(missed().skip_if(None::<String>).fails());
        assert!(Bound::at_most("A1", "x", f64::NAN, 1.0, "us").fails());
        assert!(Bound::exactly("A3", "x", 2, 1, "snapshots").fails());
        assert!(!Bound::exactly("A3", "x", 1, 1, "snapshots").fails());
    }
}
