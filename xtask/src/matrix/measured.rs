//! What a run of the fault suite showed: which tests of which row passed, and what they measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::rows::{FAULTS, Fault};
use crate::failure::{Failure, Result};
use crate::tally::Tally;

/// Whose behaviour a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Backend {
    /// In this process, on a paused clock.
    Memory,
    /// A real etcd.
    Etcd,
    /// A real Consul.
    Consul,
    /// A real Eureka.
    Eureka,
    /// A real Nacos of the newest line.
    Nacos,
    /// A real Nacos of the line before, whose API is another one.
    Nacos2,
    /// The usual hand-written client on a real etcd, which is expected to fail.
    Naive,
}

impl Backend {
    /// All columns, in their order.
    pub(crate) const ALL: [Self; 7] =
        [Self::Memory, Self::Etcd, Self::Consul, Self::Eureka, Self::Nacos, Self::Nacos2, Self::Naive];

    /// Its name: on the command line, in the figures, and the module its tests are in.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Etcd => "etcd",
            Self::Consul => "consul",
            Self::Eureka => "eureka",
            Self::Nacos => "nacos",
            Self::Nacos2 => "nacos2",
            Self::Naive => "naive",
        }
    }

    /// The backend of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }
}

/// One field of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Its tests passed, with what they measured.
    Passed(Vec<String>),
    /// These of its tests failed.
    Failed(Vec<String>),
    /// What the hand-written client does; never a failure of ours.
    Told(Vec<String>),
    /// There should be a test and none ran.
    Missing,
    /// The fault can't be made there.
    NotMade,
    /// Not part of this run.
    NotRun,
}

/// All fields of one or several runs.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    ran: BTreeSet<Backend>,
    /// The tests of each field, and whether each passed.
    tests: BTreeMap<(u8, Backend), BTreeMap<String, bool>>,
    figures: BTreeMap<(u8, Backend), BTreeSet<String>>,
    /// Failed tests that belong to no row.
    others: Vec<String>,
}

impl Measured {
    /// Takes in another run, of other backends.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { ran, tests, figures, others } = other;
        self.ran.extend(ran);
        self.tests.extend(tests);
        self.figures.extend(figures);
        self.others.extend(others);
    }

    /// Takes in what `cargo test` said of the backends it was asked to run.
    pub(crate) fn add_tests(&mut self, backends: &[Backend], tally: &Tally) {
        self.ran.extend(backends);
        for test in &tally.ran {
            let passed = !tally.failures.contains(test);
            if let Some(field) = field_of(test.name()) {
                self.tests.entry(field).or_default().insert(test.name().to_owned(), passed);
            } else if !passed {
                self.others.push(test.name().to_owned());
            }
        }
    }

    /// Takes in the files that the tests wrote into `directory`.
    ///
    /// # Errors
    ///
    /// If one can't be read or holds something else than figures.
    pub(crate) fn add_figures(&mut self, directory: &Path) -> Result<()> {
        let failed = |error| Failure::file("read", directory, &error);
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
            for line in text.lines() {
                self.add_figure(line)
                    .ok_or_else(|| Failure::new(format!("{}: no figure: {line:?}", path.display())))?;
            }
        }
        Ok(())
    }

    /// `ROW<tab>02<tab>etcd<tab>test<tab>back after 71 ms`
    fn add_figure(&mut self, line: &str) -> Option<()> {
        let mut parts = line.splitn(5, '\t');
        if parts.next()? != "ROW" {
            return None;
        }
        let row = parts.next()?.parse().ok()?;
        let backend = Backend::named(parts.next()?)?;
        let (_test, figure) = (parts.next()?, parts.next()?);
        self.figures.entry((row, backend)).or_default().insert(figure.trim().to_owned());
        Some(())
    }

    /// One field.
    pub(crate) fn cell(&self, fault: &Fault, backend: Backend) -> Cell {
        if !self.ran.contains(&backend) {
            return Cell::NotRun;
        }
        let field = (fault.number, backend);
        let figures = || self.figures.get(&field).into_iter().flatten().cloned().collect();
        if backend == Backend::Naive {
            return if self.figures.contains_key(&field) { Cell::Told(figures()) } else { Cell::NotMade };
        }
        let asked = fault.is_asked_of(backend);
        match self.tests.get(&field) {
            Some(tests) if tests.values().all(|passed| *passed) => Cell::Passed(figures()),
            Some(tests) => Cell::Failed(
                tests.iter().filter(|(_, passed)| !**passed).map(|(name, _)| name.clone()).collect(),
            ),
            None if asked => Cell::Missing,
            None => Cell::NotMade,
        }
    }

    /// Whether every fault asked for was made on these backends and every test passed.
    ///
    /// # Errors
    ///
    /// With all rows that failed or have no test.
    pub(crate) fn judge(&self, backends: &[Backend]) -> Result<()> {
        let mut findings = Vec::new();
        for fault in FAULTS {
            for &backend in backends {
                let place = format!("row {:02} on {}", fault.number, backend.name());
                match self.cell(fault, backend) {
                    Cell::Failed(names) => findings.push(format!("{place}: failed {}", names.join(", "))),
                    Cell::Missing => findings.push(format!("{place}: no test ran ({})", fault.fault)),
                    Cell::Passed(_) | Cell::Told(_) | Cell::NotMade | Cell::NotRun => {}
                }
            }
        }
        findings.extend(self.others.iter().map(|name| format!("failed {name}")));
        Failure::list("the fault matrix does not hold", &findings).map_or(Ok(()), Err)
    }
}

/// `etcd::outages::row_03_frozen…` is of row 3 on etcd.
fn field_of(test: &str) -> Option<(u8, Backend)> {
    let mut segments = test.split("::");
    let backend = Backend::named(segments.next()?)?;
    let row = segments.find_map(|segment| segment.strip_prefix("row_"))?;
    let (number, rest) = row.split_at_checked(2)?;
    if !rest.is_empty() && !rest.starts_with('_') {
        return None;
    }
    Some((number.parse().ok()?, backend))
}

#[cfg(test)]
mod tests {
    use super::{Backend, Cell, Measured, field_of};
    use crate::matrix::rows::{FAULTS, Fault};
    use crate::tally::Tally;

    fn tally(lines: &str) -> Tally {
        let mut tally = Tally::default();
        lines.lines().for_each(|line| tally.read(line));
        tally
    }

    fn fault(number: u8) -> &'static Fault {
        FAULTS.iter().find(|fault| fault.number == number).expect("a row of the matrix")
    }

    #[test]
    fn row_and_backend_are_in_the_name_of_the_test() {
        assert_eq!(field_of("etcd::outages::row_03_frozen"), Some((3, Backend::Etcd)));
        assert_eq!(field_of("memory::row_15_an_empty_push"), Some((15, Backend::Memory)));
        assert_eq!(field_of("nacos2::row_03_frozen"), Some((3, Backend::Nacos2)));
        for other in
            ["row_03_x", "etcd::frozen", "etcd::row_3x_y", "etcd::row_123", "plan::row_03_x", "etcd::row_é"]
        {
            assert_eq!(field_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_row_passes_when_all_its_tests_do_and_shows_what_they_measured() {
        let mut measured = Measured::default();
        measured.add_tests(
            &[Backend::Memory],
            &tally("test memory::row_03_a ... ok\ntest memory::row_03_b ... ok\ntest memory::row_01_a ... FAILED"),
        );
        assert_eq!(measured.add_figure("ROW\t03\tmemory\ta\tback after 71 ms"), Some(()));
        assert_eq!(
            measured.cell(fault(3), Backend::Memory),
            Cell::Passed(vec!["back after 71 ms".to_owned()])
        );
        assert_eq!(
            measured.cell(fault(1), Backend::Memory),
            Cell::Failed(vec!["memory::row_01_a".to_owned()])
        );
        assert_eq!(measured.cell(fault(1), Backend::Etcd), Cell::NotRun);
    }

    #[test]
    fn runs_of_several_backends_make_one_table() {
        let mut measured = Measured::default();
        measured.add_tests(&[Backend::Memory], &tally("test memory::row_03_a ... ok"));
        let mut other = Measured::default();
        other.add_tests(&[Backend::Etcd], &tally("test etcd::row_03_a ... ok\ntest etcd::x ... FAILED"));
        other.add_figure("ROW\t03\tetcd\ta\tback after 71 ms").expect("a figure");
        measured.add(other);
        assert_eq!(measured.cell(fault(3), Backend::Memory), Cell::Passed(Vec::new()));
        assert_eq!(measured.cell(fault(3), Backend::Etcd), Cell::Passed(vec!["back after 71 ms".to_owned()]));
        assert_eq!(measured.cell(fault(3), Backend::Consul), Cell::NotRun);
        let failure = measured.judge(&[]).expect_err("a test of no row failed").to_string();
        assert!(failure.contains("failed etcd::x"), "{failure}");
    }

    #[test]
    fn a_row_without_a_test_is_a_failure_unless_it_cannot_be_made_there() {
        let mut measured = Measured::default();
        measured.add_tests(&[Backend::Etcd], &tally("test etcd::row_01_a ... ok"));
        assert_eq!(measured.cell(fault(2), Backend::Etcd), Cell::Missing);
        assert_eq!(measured.cell(fault(13), Backend::Etcd), Cell::NotMade);
        let failure = measured.judge(&Backend::ALL).expect_err("row 2 has no test").to_string();
        assert!(failure.contains("row 02 on etcd: no test ran"), "{failure}");
        assert!(
            !failure.contains("row 01") && !failure.contains("row 13") && !failure.contains("memory"),
            "{failure}"
        );
    }

    #[test]
    fn what_the_naive_client_does_is_told_and_fails_nothing() {
        let mut measured = Measured::default();
        measured.add_tests(&[Backend::Naive], &tally("test naive::it_fails ... ok"));
        measured.add_figure("ROW\t02\tnaive\tit_fails\tfails R1: 0 of 100 back").expect("a figure");
        assert_eq!(
            measured.cell(fault(2), Backend::Naive),
            Cell::Told(vec!["fails R1: 0 of 100 back".to_owned()])
        );
        assert!(measured.judge(&Backend::ALL).is_ok());
    }

    #[test]
    fn a_failed_test_of_no_row_is_a_failure_too() {
        let mut measured = Measured::default();
        measured.add_tests(&[Backend::Naive], &tally("test naive::it_fails ... FAILED"));
        assert!(measured.judge(&Backend::ALL).is_err());
    }

    #[test]
    fn what_is_no_figure_is_refused() {
        for line in [
            "",
            "ROW",
            "ROW\tx\tetcd\ta\tb",
            "ROW\t1\tzookeeper\ta\tb",
            "ROW\t1\tetcd\ta",
            "LINE\t1\tetcd\ta\tb",
        ] {
            assert_eq!(Measured::default().add_figure(line), None, "{line:?}");
        }
    }
}
