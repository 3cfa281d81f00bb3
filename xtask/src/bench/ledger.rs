//! All bounds of a run, and what is wrong with them.

use super::line::{Line, Verdict};
use crate::failure::Result;

/// What has to be measured in every run, in the order of the table. P9 needs `--peers`.
const PROMISED: [&str; 28] = [
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "A1", "A2", "A3", "A4", "M1", "M2", "W1",
    "W2", "W3", "R1", "R2", "F1", "F2", "F3", "J1", "J2", "I1", "I2",
];
const PEERS: &str = "P9";

#[derive(Debug)]
pub(crate) struct Ledger {
    peers: bool,
    lines: Vec<Line>,
    /// What went wrong besides bounds that miss.
    broken: Vec<String>,
}

impl Ledger {
    /// An empty one; `peers` says whether the comparison with others is part of the run.
    pub(crate) fn new(peers: bool) -> Self {
        Self { peers, lines: Vec::new(), broken: Vec::new() }
    }

    pub(crate) fn take(&mut self, line: Result<Line>) {
        match line {
            Ok(line) => {
                let place =
                    |id: &str| PROMISED.iter().position(|promised| *promised == id).unwrap_or(usize::MAX);
                let at = self.lines.partition_point(|before| place(&before.id) <= place(&line.id));
                self.lines.insert(at, line);
            }
            Err(failure) => self.broken.push(failure.to_string()),
        }
    }

    /// A step failed for no reason that a bound gives.
    pub(crate) fn broke(&mut self, what: &str) {
        self.broken.push(format!("{what} failed outside of any bound, see above"));
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Promises that nothing measured.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let measured = |id: &str| self.lines.iter().any(|line| line.id == id);
        PROMISED.into_iter().filter(|id| (self.peers || *id != PEERS) && !measured(id)).collect()
    }

    /// Everything for which the run fails.
    pub(crate) fn findings(&self) -> Vec<String> {
        let misses = self.lines.iter().filter(|line| line.fails());
        let misses = misses
            .map(|line| format!("{}: {} is {}, bound {}", line.id, line.what, line.measured, line.bound));
        let missing = self.missing().into_iter().map(|id| format!("{id}: nothing measured it"));
        misses.chain(missing).chain(self.broken.iter().cloned()).collect()
    }

    /// The table for a terminal.
    pub(crate) fn table(&self) -> String {
        let heading = ["id", "what", "measured", "bound", "gate", "verdict"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(heading).chain(self.lines.iter().map(cells)).collect();
        let widths: [usize; 6] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        let mut text = String::new();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
                2 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
            if number == 0 {
                text += &widths.map(|width| "-".repeat(width)).join("  ");
                text.push('\n');
            }
        }
        text + &self.summary()
    }

    /// How many hold, miss and were not judged.
    pub(crate) fn summary(&self) -> String {
        let count = |wanted: fn(&Line) -> bool| self.lines.iter().filter(|line| wanted(line)).count();
        let mut text = format!(
            "{} hold, {} hard ones miss, {} reports miss, {} not judged",
            count(|line| line.verdict == Verdict::Holds),
            count(Line::fails),
            count(|line| line.verdict == Verdict::Misses && !line.fails()),
            count(|line| matches!(line.verdict, Verdict::Skipped(_))),
        );
        if !self.peers {
            text += "; P9 (other libraries) not asked for: --peers";
        }
        text
    }
}

pub(crate) fn cells(line: &Line) -> [String; 6] {
    [
        line.id.clone(),
        line.what.clone(),
        line.measured.clone(),
        line.bound.clone(),
        line.gate.text().to_owned(),
        line.verdict.text(),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::line::tests::line;
    use super::{Ledger, PROMISED};
    use crate::failure::Failure;

    pub(crate) fn complete(peers: bool) -> Ledger {
        let mut ledger = Ledger::new(peers);
        for id in PROMISED.iter().rev().filter(|id| peers || **id != "P9") {
            ledger.take(Ok(line(&format!("{id} | x | 1 | <= 2 us | hard | holds"))));
        }
        ledger
    }

    #[test]
    fn a_complete_run_whose_bounds_hold_has_no_findings() {
        assert_eq!(complete(true).findings(), [""; 0]);
        assert_eq!(complete(false).findings(), [""; 0]);
    }

    #[test]
    fn a_promise_that_nothing_measured_is_a_finding() {
        let mut ledger = complete(true);
        ledger.lines.retain(|line| line.id != "A2" && line.id != "P9");
        assert_eq!(ledger.findings(), ["P9: nothing measured it", "A2: nothing measured it"]);
    }

    #[test]
    fn other_libraries_are_only_promised_when_asked_for() {
        assert!(complete(false).summary().contains("--peers"));
        assert!(!complete(true).summary().contains("--peers"));
    }

    #[test]
    fn a_hard_miss_is_a_finding_and_a_reported_one_is_not() {
        let mut ledger = complete(true);
        ledger.take(Ok(line("W3 | burst | 1.5 | <= 1.2 x bare | report | misses")));
        assert!(ledger.findings().is_empty());
        ledger.take(Ok(line("W1 | p50 | 1.5 | <= 1.1 x bare | hard | misses")));
        assert_eq!(ledger.findings(), ["W1: p50 is 1.5, bound <= 1.1 x bare"]);
    }

    #[test]
    fn a_bound_that_was_not_judged_counts_as_measured() {
        let mut ledger = complete(true);
        ledger.lines.retain(|line| line.id != "P3");
        ledger.take(Ok(line("P3 | x | 1 | >= 1.8 | hard | skipped: others are busy")));
        assert!(ledger.findings().is_empty());
        assert!(ledger.table().contains("skipped: others are busy"));
    }

    #[test]
    fn broken_steps_and_broken_lines_are_findings() {
        let mut ledger = complete(true);
        ledger.broke("the benchmarks on etcd");
        ledger.take(Err(Failure::new("a bound that can't be read: x")));
        assert_eq!(ledger.findings().len(), 2);
    }

    #[test]
    fn the_table_is_in_the_order_of_the_promises() {
        let ledger = complete(true);
        assert!(ledger.lines().iter().map(|line| line.id.as_str()).eq(PROMISED));
        let text = ledger.table();
        assert!(text.starts_with("id   what  measured  bound    gate  verdict\n"), "{text}");
        assert!(text.ends_with("28 hold, 0 hard ones miss, 0 reports miss, 0 not judged"), "{text}");
    }
}
