//! Running the workspace's tests and judging what ran.

mod needs;

use std::path::Path;
use std::process::Command;

pub(crate) use self::needs::Needs;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::process::{cargo, stream};
use crate::servers::{Apart, Server};
use crate::tally::Tally;

/// Which tests to run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Everything that needs no server, documentation included.
    WithoutServers,
    /// What is ignored for want of a server.
    With(&'a Served<'a>),
    /// Of that, the conformance suite only.
    Conformance(&'a Served<'a>),
}

/// Tests, and what they need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served<'a> {
    /// Their names.
    pub(crate) tests: &'a [String],
    /// The servers they are told of.
    pub(crate) servers: &'a [&'a Server],
    /// The network they run in, where it has to be one of their own.
    pub(crate) apart: Option<&'a Apart>,
    /// How many run at a time; as many as there are cores by default.
    pub(crate) threads: Option<u32>,
}

/// The rows of the fault matrix and the random faults: their steps know what has to be there and show figures.
const STEPS_OF_THEIR_OWN: [&str; 3] = ["::row_", "naive::", "random_faults_are_survived"];

/// Runs the tests; returns what ran and whether that is good.
///
/// # Errors
///
/// If cargo cannot be started.
pub(crate) fn run(root: &Path, scope: Scope<'_>, output: &mut Output) -> Result<(Tally, Result<()>)> {
    let mut command = all(root);
    match scope {
        Scope::WithoutServers => {
            command.args(["--no-fail-fast", "--"]);
        }
        // Not the documentation: an ignored example there is refused anyway.
        Scope::With(served) => served_by(command.args(["--no-fail-fast", "--tests"]), served),
        Scope::Conformance(served) => {
            served_by(command.args(["--no-fail-fast", "--test", "conformance"]), served);
        }
    }
    for elsewhere in STEPS_OF_THEIR_OWN {
        command.args(["--skip", elsewhere]);
    }
    let mut tally = Tally::default();
    let succeeded = stream(&mut command, output, |line| tally.read(line))?;
    let judgement = judge(&tally, succeeded);
    Ok((tally, judgement))
}

/// The same features and packages in every scope, or cargo would compile the dependencies once for each.
fn all(root: &Path) -> Command {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--all-features"]);
    command
}

fn served_by(command: &mut Command, served: &Served<'_>) {
    if let Some(apart) = served.apart {
        command.args(["--config", &apart.runner()]);
    }
    command.args(["--", "--ignored"]);
    if let Some(threads) = served.threads {
        command.arg(format!("--test-threads={threads}"));
    }
    command.arg("--exact").args(served.tests);
    for server in served.servers {
        server.announce(command);
    }
}

/// Cargo's word alone is not enough: it is content with a run in which there was nothing to run.
fn judge(tally: &Tally, succeeded: bool) -> Result<()> {
    if tally.failed > 0 {
        let headline = format!("{} of {} tests failed", tally.failed, tally.finished());
        let names: Vec<_> = tally.failures.iter().map(|test| test.label()).collect();
        return Err(Failure::list(&headline, &names).unwrap_or(Failure::new(headline)));
    }
    if !succeeded {
        return Err(Failure::new(
            "cargo test failed outside of any test: a compile error or a crash, see above",
        ));
    }
    if tally.finished() == 0 {
        return Err(Failure::new("no test ran"));
    }
    let examples: Vec<_> =
        tally.skipped.iter().filter(|test| test.is_documentation()).map(|test| test.label()).collect();
    Failure::list("examples in the documentation are never ignored (use `no_run`)", &examples)
        .map_or(Ok(()), Err)
}

/// Checks that what one run ignored was run by another.
///
/// # Errors
///
/// If a test ran nowhere.
pub(crate) fn every_ignored_test_ran(ignoring: &Tally, running: &Tally) -> Result<()> {
    let never: Vec<_> = ignoring.skipped.difference(&running.ran).map(|test| test.label()).collect();
    Failure::list("ignored tests that ran on no server", &never).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::{every_ignored_test_ran, judge};
    use crate::tally::Tally;

    fn tally(lines: &str) -> Tally {
        let mut tally = Tally::default();
        lines.lines().for_each(|line| tally.read(line));
        tally
    }

    const GOOD: &str =
        "     Running a (a-1)\ntest one ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored";

    #[test]
    fn a_run_with_passed_tests_is_good() {
        assert!(judge(&tally(GOOD), true).is_ok());
    }

    #[test]
    fn a_run_of_nothing_is_a_failure_although_cargo_is_content() {
        let empty =
            tally("     Running a (a-1)\nrunning 0 tests\ntest result: ok. 0 passed; 0 failed; 0 ignored");
        assert!(judge(&empty, true).is_err());
    }

    #[test]
    fn a_failed_test_or_an_unhappy_cargo_is_a_failure() {
        assert!(judge(&tally(&GOOD.replace("0 failed", "1 failed")), true).is_err());
        assert!(judge(&tally(GOOD), false).is_err());
    }

    #[test]
    fn an_ignored_example_in_the_documentation_is_a_failure() {
        let ignored = tally(&format!("{GOOD}\n   Doc-tests core\ntest src/lib.rs - (line 3) ... ignored"));
        assert!(judge(&ignored, true).is_err());
    }

    #[test]
    fn an_ignored_test_that_ran_on_no_server_is_a_failure() {
        let ignoring = tally("     Running a (a-1)\ntest one ... ignored, needs etcd\ntest two ... ignored");
        let one = tally("     Running a (a-1)\ntest one ... ok");
        let both = tally("     Running a (a-1)\ntest one ... ok\ntest two ... FAILED");
        let failure = every_ignored_test_ran(&ignoring, &one).expect_err("two did not run");
        assert!(failure.to_string().contains("a: two"), "{failure}");
        assert!(every_ignored_test_ran(&ignoring, &both).is_ok());
    }
}
