//! One bound as a benchmark printed it: `BOUND`, then id, what, measured, bound, gate and verdict, with tabs between.

use crate::failure::{Failure, Result};

const MARK: &str = "BOUND\t";

/// Whether a miss fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Hard,
    Report,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    Misses,
    /// Not judged, for this reason.
    Skipped(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) what: String,
    /// As printed, with its bound's unit in `bound`.
    pub(crate) measured: String,
    pub(crate) bound: String,
    pub(crate) gate: Gate,
    pub(crate) verdict: Verdict,
}

impl Line {
    /// Reads a line of output; `None` if it is about something else.
    pub(crate) fn parse(line: &str) -> Option<Result<Self>> {
        // A test's first line may follow the name that libtest printed without an end of line.
        let at = line.find(MARK)?;
        Some(Self::read(&line[at + MARK.len()..]).ok_or_else(|| {
            Failure::new(format!("a bound that can't be read: {}", line.replace('\t', " | ")))
        }))
    }

    /// A line about something that could not be measured.
    pub(crate) fn skipped(id: &str, what: &str, why: &str) -> Self {
        Self {
            id: id.to_owned(),
            what: what.to_owned(),
            measured: "-".to_owned(),
            bound: "-".to_owned(),
            gate: Gate::Report,
            verdict: Verdict::Skipped(why.lines().next().unwrap_or(why).to_owned()),
        }
    }

    fn read(fields: &str) -> Option<Self> {
        let fields: Vec<&str> = fields.split('\t').collect();
        let [id, what, measured, bound, gate, verdict] = fields[..] else { return None };
        let gate = match gate {
            "hard" => Gate::Hard,
            "report" => Gate::Report,
            _ => return None,
        };
        let verdict = match verdict.trim_end() {
            "holds" => Verdict::Holds,
            "misses" => Verdict::Misses,
            other => Verdict::Skipped(other.strip_prefix("skipped: ")?.to_owned()),
        };
        let [id, what, measured, bound] = [id, what, measured, bound].map(str::to_owned);
        Some(Self { id, what, measured, bound, gate, verdict })
    }

    /// Whether the run fails for it.
    pub(crate) fn fails(&self) -> bool {
        self.gate == Gate::Hard && self.verdict == Verdict::Misses
    }

    /// Measured ÷ bound, or the reverse where more is better: up to 1 is within. `None` if it wasn't judged or is no
    /// number.
    pub(crate) fn share(&self) -> Option<f64> {
        if matches!(self.verdict, Verdict::Skipped(_)) {
            return None;
        }
        let measured: f64 = self.measured.parse().ok()?;
        let (sign, rest) = self.bound.split_once(' ')?;
        let limit: f64 = rest.split(' ').next()?.parse().ok()?;
        match sign {
            // A count that must be nought has no share; what holds uses nothing of it.
            _ if limit == 0.0 => Some(if self.verdict == Verdict::Holds { 0.0 } else { f64::INFINITY }),
            "<=" | "=" => Some(measured / limit),
            ">=" => Some(limit / measured),
            _ => None,
        }
    }
}

impl Verdict {
    /// As in the table.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Holds => "holds".to_owned(),
            Self::Misses => "MISSES".to_owned(),
            Self::Skipped(why) => format!("skipped: {why}"),
        }
    }
}

impl Gate {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Report => "report",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Gate, Line, Verdict};

    pub(crate) fn line(text: &str) -> Line {
        Line::parse(&format!("BOUND\t{}", text.replace(" | ", "\t")))
            .expect("it is one")
            .expect("it is readable")
    }

    #[test]
    fn a_bound_is_read_from_a_line_of_output() {
        let line = line("P1 | round robin, N = 10 | 1.04 | <= 1.25 x guard | hard | holds");
        assert_eq!((line.id.as_str(), line.what.as_str()), ("P1", "round robin, N = 10"));
        assert_eq!((line.measured.as_str(), line.bound.as_str()), ("1.04", "<= 1.25 x guard"));
        assert_eq!((line.gate, &line.verdict), (Gate::Hard, &Verdict::Holds));
        assert!(!line.fails());
    }

    #[test]
    fn a_bound_may_follow_the_name_of_a_test() {
        let line = Line::parse("test notices ... BOUND\tF1\tx\t15\t<= 15.5 s\thard\tholds");
        assert_eq!(line.expect("it is one").expect("it is readable").id, "F1");
    }

    #[test]
    fn other_output_is_no_bound_and_a_broken_one_is_an_error() {
        assert!(Line::parse("N = 10").is_none());
        for broken in [
            "BOUND\tP1",
            "BOUND\tP1\tx\t1\t<= 2\thard",
            "BOUND\tP1\tx\t1\t<= 2\tsoft\tholds",
            "BOUND\tP1\tx\t1\t<= 2\thard\tmaybe",
            "BOUND\tP1\tx\t1\t<= 2\thard\tholds\tmore",
        ] {
            assert!(Line::parse(broken).is_some_and(|line| line.is_err()), "{broken:?}");
        }
    }

    #[test]
    fn only_a_hard_miss_fails() {
        assert!(line("A1 | x | 3 | <= 2 us | hard | misses").fails());
        assert!(!line("P9 | x | 3 | <= 2 x volo | report | misses").fails());
        assert!(!line("P3 | x | 1 | >= 1.8 | hard | skipped: others are busy").fails());
    }

    #[test]
    fn the_share_of_a_bound_is_up_to_one_when_it_holds() {
        let share = |text: &str| line(text).share();
        assert_eq!(share("P1 | x | 1 | <= 2 x guard | hard | holds"), Some(0.5));
        assert_eq!(share("R1 | x | 60 | >= 30 x | hard | holds"), Some(0.5));
        assert_eq!(share("F3 | x | 1 | = 1 | hard | holds"), Some(1.0));
        assert_eq!(share("P2 | x | 0 | = 0 allocations | hard | holds"), Some(0.0));
        assert_eq!(share("P2 | x | 2 | = 0 allocations | hard | misses"), Some(f64::INFINITY));
        assert_eq!(share("P3 | x | 1 | >= 1.8 | hard | skipped: why"), None);
    }
}
