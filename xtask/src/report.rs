//! What ran, on which registry and version, and what came of it.

use std::fmt;
use std::time::Duration;

use crate::failure::Failure;
use crate::tally::Tally;

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran and holds.
    Passed,
    /// It did not run, for this reason; never counted as passed.
    NotRun(String),
    /// It ran and does not hold, or should have run and could not.
    Failed(Failure),
}

/// One line of the report.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was checked.
    pub(crate) check: String,
    /// On which registry, where it concerns one.
    pub(crate) registry: Option<&'static str>,
    /// The version of the registry or tool that really ran.
    pub(crate) version: Option<String>,
    /// The tests that ran, where the step runs tests.
    pub(crate) tally: Option<Tally>,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// What a reader of the table has to know besides.
    pub(crate) note: Option<String>,
}

/// All rows, in the order they ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    elapsed: Duration,
}

impl Report {
    /// Adds what just ran.
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// The whole took so long: less than its steps together, as some run at the same time.
    pub(crate) fn ended(&mut self, after: Duration) {
        self.elapsed = after;
    }

    /// Whether nothing failed and at least something ran.
    pub(crate) fn succeeded(&self) -> bool {
        let failed = self.rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)));
        let passed = self.rows.iter().any(|row| row.outcome == Outcome::Passed);
        passed && !failed
    }

    fn count(&self, matches: impl Fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|row| matches(&row.outcome)).count()
    }
}

const HEADINGS: [&str; 8] =
    ["check", "registry", "version", "passed", "failed", "ignored", "seconds", "result"];

impl Row {
    /// A row that so far holds only what came of the step.
    pub(crate) fn new(check: &str, registry: Option<&'static str>, outcome: Outcome) -> Self {
        let check = check.to_owned();
        Self { check, registry, version: None, tally: None, elapsed: Duration::ZERO, outcome, note: None }
    }

    fn cells(&self) -> [String; 8] {
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        let count =
            |of: fn(&Tally) -> u64| self.tally.as_ref().map_or("-".to_owned(), |tally| of(tally).to_string());
        let mut result = match &self.outcome {
            Outcome::Passed => "pass".to_owned(),
            Outcome::NotRun(reason) => format!("not run: {reason}"),
            Outcome::Failed(_) => "FAIL".to_owned(),
        };
        if let Some(note) = &self.note {
            result = format!("{result} ({note})");
        }
        [
            self.check.clone(),
            text(self.registry),
            text(self.version.as_deref()),
            count(|tally| tally.passed),
            count(|tally| tally.failed),
            count(|tally| tally.ignored),
            format!("{:.1}", self.elapsed.as_secs_f64()),
            result,
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<[String; 8]> =
            std::iter::once(HEADINGS.map(str::to_owned)).chain(self.rows.iter().map(Row::cells)).collect();
        let widths: [usize; 8] = std::array::from_fn(|column| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        });
        for (number, line) in lines.iter().enumerate() {
            let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
                // Counts and seconds are numbers: their ends line up.
                3..=6 => format!("{cell:>width$}"),
                7 => cell.clone(),
                _ => format!("{cell:<width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
            if number == 0 {
                writeln!(f, "{}", widths.map(|width| "-".repeat(width)).join("  "))?;
            }
        }
        for row in &self.rows {
            if let Outcome::Failed(failure) = &row.outcome {
                writeln!(f, "\nFAIL {}: {failure}", row.check)?;
            }
        }
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "\n{}: {} passed, {} failed, {} not run, in {seconds:.0} s",
            if self.succeeded() { "ok" } else { "FAILED" },
            self.count(|outcome| *outcome == Outcome::Passed),
            self.count(|outcome| matches!(outcome, Outcome::Failed(_))),
            self.count(|outcome| matches!(outcome, Outcome::NotRun(_))),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outcome, Report, Row};
    use crate::failure::Failure;
    use crate::tally::Tally;

    fn row(check: &str, outcome: Outcome) -> Row {
        Row { elapsed: Duration::from_millis(1250), ..Row::new(check, None, outcome) }
    }

    fn report(rows: impl IntoIterator<Item = Row>) -> Report {
        let mut report = Report::default();
        rows.into_iter().for_each(|row| report.push(row));
        report.ended(Duration::from_secs(2));
        report
    }

    #[test]
    fn the_table_names_registry_version_counts_and_seconds() {
        let mut tests = row("real server", Outcome::Passed);
        tests.registry = Some("etcd");
        tests.version = Some("3.6.16".to_owned());
        let mut tally = Tally::default();
        tally.read("test result: ok. 41 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out");
        tests.tally = Some(tally);
        let text = report([row("fmt", Outcome::Passed), tests]).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "check        registry  version  passed  failed  ignored  seconds  result");
        assert_eq!(lines[2], "fmt          -         -             -       -        -      1.2  pass");
        assert_eq!(lines[3], "real server  etcd      3.6.16       41       0        2      1.2  pass");
        assert_eq!(lines[5], "ok: 2 passed, 0 failed, 0 not run, in 2 s");
    }

    #[test]
    fn one_failure_fails_the_report_and_tells_its_reason() {
        let report =
            report([row("fmt", Outcome::Passed), row("clippy", Outcome::Failed(Failure::new("3 warnings")))]);
        assert!(!report.succeeded());
        assert!(report.to_string().contains("FAIL clippy: 3 warnings"), "{report}");
        assert!(report.to_string().contains("FAILED: 1 passed, 1 failed, 0 not run"), "{report}");
    }

    #[test]
    fn what_did_not_run_is_listed_and_not_counted_as_passed() {
        let report =
            report([row("fmt", Outcome::Passed), row("deny", Outcome::NotRun("--quick".to_owned()))]);
        assert!(report.succeeded());
        assert!(report.to_string().contains("not run: --quick"), "{report}");
        assert!(report.to_string().contains("1 passed, 0 failed, 1 not run"), "{report}");
    }

    #[test]
    fn a_report_in_which_nothing_ran_has_not_succeeded() {
        assert!(!report([]).succeeded());
        assert!(!report([row("fmt", Outcome::NotRun("--quick".to_owned()))]).succeeded());
    }
}
