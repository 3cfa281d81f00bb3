//! Counting tests from what cargo and libtest print.

use std::collections::{BTreeMap, BTreeSet};

/// One test: the binary it lives in (or `doc NAME` for documentation) and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestId {
    target: String,
    name: String,
}

impl TestId {
    /// Its name in its binary, modules included.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// For a report: the binary without its directory and build hash, then the test.
    pub(crate) fn label(&self) -> String {
        let file = self.target.rsplit(['/', '\\']).next().unwrap_or(&self.target);
        let stem = file.rsplit_once('-').map_or(file, |(stem, _)| stem);
        format!("{stem}: {}", self.name)
    }

    /// Whether it is an example in the documentation.
    pub(crate) fn is_documentation(&self) -> bool {
        self.target.starts_with(DOCUMENTATION)
    }
}

const DOCUMENTATION: &str = "doc ";

/// What one `cargo test` ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Sum over the `test result:` lines.
    pub(crate) passed: u64,
    /// Sum over the `test result:` lines.
    pub(crate) failed: u64,
    /// Sum over the `test result:` lines.
    pub(crate) ignored: u64,
    /// Tests that were started, whatever became of them.
    pub(crate) ran: BTreeSet<TestId>,
    /// Tests that libtest called failed.
    pub(crate) failures: BTreeSet<TestId>,
    /// Tests that were passed over.
    pub(crate) skipped: BTreeSet<TestId>,
    /// Why, where it was said.
    pub(crate) reasons: BTreeMap<TestId, String>,
    target: String,
}

impl Tally {
    /// How many tests ran to an end.
    pub(crate) fn finished(&self) -> u64 {
        self.passed + self.failed
    }

    /// Takes in the next line of output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(target) = started_target(line) {
            self.target = target;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.add_counts(counts);
        } else if let Some((name, result)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            let id = TestId { target: self.target.clone(), name: name.to_owned() };
            // Anything else counts as started: with one thread libtest prints the name first, and what the test
            // itself writes may come between the name and the `ok`.
            if result == "ignored" || result.starts_with("ignored,") {
                if let Some((_, reason)) = result.split_once(", ") {
                    self.reasons.insert(id.clone(), reason.to_owned());
                }
                self.skipped.insert(id);
            } else {
                if result == "FAILED" {
                    self.failures.insert(id.clone());
                }
                self.ran.insert(id);
            }
        }
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s`
    fn add_counts(&mut self, counts: &str) {
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The binary or crate whose tests follow, if this line announces one.
fn started_target(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(running) = line.strip_prefix("Running ") {
        let (_, path) = running.rsplit_once('(')?;
        return Some(path.strip_suffix(')')?.to_owned());
    }
    line.strip_prefix("Doc-tests ").map(|name| format!("{DOCUMENTATION}{name}"))
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally
    }

    const WITHOUT_SERVERS: &str = "\
   Compiling registry-core v0.1.0
    Finished `test` profile [unoptimized] target(s) in 0.05s
     Running unittests src/lib.rs (target/debug/deps/registry_core-0a1b2c)

running 3 tests
test keeper::renews_in_time ... ok
test keeper::gives_up ... FAILED
test bad_input - should panic ... ok

failures:
    keeper::gives_up

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running tests/conformance.rs (target/debug/deps/conformance-99ff)

running 3 tests
test etcd::expiry ... ignored, needs etcd: cargo xtask test --only etcd
test etcd::publish ... ignored
test memory::publish ... ok

test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests registry_core

running 1 test
test src/lib.rs - (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s
";

    #[test]
    fn results_are_summed_over_all_binaries() {
        let tally = tally(WITHOUT_SERVERS);
        assert_eq!((tally.passed, tally.failed, tally.ignored), (4, 1, 2));
        assert_eq!(tally.finished(), 5);
        assert_eq!((tally.ran.len(), tally.skipped.len()), (5, 2));
        assert!(tally.failures.iter().map(|test| test.label()).eq(["registry_core: keeper::gives_up"]));
    }

    #[test]
    fn ignored_tests_are_known_by_binary_and_name() {
        let tally = tally(WITHOUT_SERVERS);
        let labels: Vec<_> = tally.skipped.iter().map(|test| test.label()).collect();
        assert_eq!(labels, ["conformance: etcd::expiry", "conformance: etcd::publish"]);
        assert!(tally.reasons.values().eq(["needs etcd: cargo xtask test --only etcd"]));
    }

    #[test]
    fn an_ignored_test_that_no_later_run_started_is_seen() {
        let later = tally(
            "     Running tests/conformance.rs (target/debug/deps/conformance-99ff)\n\
             test etcd::expiry ... ok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 1.20s\n",
        );
        let never: Vec<_> =
            tally(WITHOUT_SERVERS).skipped.difference(&later.ran).map(|test| test.label()).collect();
        assert_eq!(never, ["conformance: etcd::publish"]);
    }

    #[test]
    fn the_same_name_in_another_binary_is_another_test() {
        let other = tally(
            "     Running tests/conformance.rs (target/debug/deps/conformance-77aa)\ntest etcd::expiry ... ok",
        );
        assert_eq!(tally(WITHOUT_SERVERS).skipped.intersection(&other.ran).count(), 0);
    }

    #[test]
    fn a_test_whose_own_output_follows_its_name_still_ran() {
        let tally = tally("     Running a (b-1)\ntest etcd::restart ... {\"level\":\"warn\"}\nok");
        assert_eq!(tally.ran.len(), 1);
    }

    #[test]
    fn documentation_examples_are_told_apart() {
        let tally = tally("   Doc-tests registry_core\ntest src/lib.rs - (line 3) ... ignored");
        assert!(tally.skipped.first().expect("one was ignored").is_documentation());
    }

    #[test]
    fn output_without_tests_counts_nothing() {
        assert_eq!(tally("running 0 tests\nerror: could not compile").finished(), 0);
    }
}
