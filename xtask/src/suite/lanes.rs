//! Steps that run at the same time: most of what a test with a server does is waiting.

use std::panic::resume_unwind;
use std::thread;

use super::Suite;
use crate::cli::Registry;
use crate::failure::Result;
use crate::output::Output;
use crate::report::{Outcome, Row};
use crate::stopwatch::Stopwatch;
use crate::tally::Tally;

/// What came of tests: their counts belong into the table even if they failed.
pub(super) type Judged = Result<(Tally, Result<()>)>;

/// A step that runs tests.
pub(super) struct Tests<'a> {
    pub(super) check: &'static str,
    pub(super) registry: Option<Registry>,
    pub(super) version: Option<String>,
    pub(super) work: Box<dyn FnOnce(&mut Output) -> Judged + Send + 'a>,
}

impl Tests<'_> {
    fn run(self, output: &mut Output) -> Row {
        let Self { check, registry, version, work } = self;
        let of = version.as_ref().map_or(String::new(), |version| format!(" ({version})"));
        let name = registry.map_or(String::new(), |registry| format!(", {}", registry.name()));
        output.line(&format!("\n=== {check}{name}{of}"));
        let watch = Stopwatch::start();
        let (tally, outcome) = match work(output) {
            Ok((tally, outcome)) => (Some(tally), outcome),
            Err(failure) => (None, Err(failure)),
        };
        if let Err(failure) = &outcome {
            output.line(&format!("FAIL {check}{name}: {failure}"));
        }
        let outcome = outcome.map_or_else(Outcome::Failed, |()| Outcome::Passed);
        let row = Row::new(check, registry.map(Registry::name), outcome);
        Row { version, tally, elapsed: watch.elapsed(), ..row }
    }
}

impl Suite {
    /// Runs lanes at the same time, the steps of each one after the other. What the first lane says is shown as it
    /// comes, and what the steps of the others say afterwards, each by itself.
    pub(super) fn run_lanes(&mut self, lanes: Vec<Vec<Tests<'_>>>) {
        run(lanes).into_iter().for_each(|row| self.report.push(row));
    }
}

fn run(lanes: Vec<Vec<Tests<'_>>>) -> Vec<Row> {
    let mut lanes = lanes.into_iter().filter(|lane| !lane.is_empty());
    let Some(first) = lanes.next() else { return Vec::new() };
    let others: Vec<_> = lanes.collect();
    if !others.is_empty() {
        let named = others.iter().flatten().map(|tests| {
            let name = tests.registry.map_or("-", Registry::name);
            format!("{}, {name}", tests.check)
        });
        println!(
            "\n(at the same time, shown when they have ended: {})",
            named.collect::<Vec<_>>().join("; ")
        );
    }
    thread::scope(|scope| {
        let hold = |tests: Tests<'_>| {
            let mut output = Output::held();
            (tests.run(&mut output), output)
        };
        let others: Vec<_> = others
            .into_iter()
            .map(|lane| scope.spawn(move || lane.into_iter().map(hold).collect::<Vec<_>>()))
            .collect();
        let mut rows: Vec<Row> = first.into_iter().map(|tests| tests.run(&mut Output::Shown)).collect();
        for lane in others {
            for (row, output) in lane.join().unwrap_or_else(|panic| resume_unwind(panic)) {
                output.show();
                rows.push(row);
            }
        }
        rows
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{Tests, run};
    use crate::cli::Registry;
    use crate::failure::Failure;
    use crate::output::Output;
    use crate::report::Outcome;
    use crate::tally::Tally;

    fn step<'a>(
        check: &'static str,
        work: impl FnOnce(&mut Output) -> super::Judged + Send + 'a,
    ) -> Tests<'a> {
        let (registry, version) = (Some(Registry::Consul), Some("1".to_owned()));
        Tests { check, registry, version, work: Box::new(work) }
    }

    /// Passes only if another step runs meanwhile, which it tells and is told by.
    fn meets(to: Sender<()>, from: Receiver<()>) -> impl FnOnce(&mut Output) -> super::Judged + Send {
        move |_| {
            to.send(()).map_err(|_| Failure::new("nobody else runs"))?;
            from.recv().map_err(|_| Failure::new("nobody else runs"))?;
            Ok((Tally::default(), Ok(())))
        }
    }

    #[test]
    fn lanes_run_at_the_same_time_and_their_rows_stand_in_order() {
        let ((to_b, from_a), (to_a, from_b)) = (channel(), channel());
        let lanes = vec![
            vec![step("a", meets(to_b, from_b)), step("a2", |_| Ok((Tally::default(), Ok(()))))],
            Vec::new(),
            vec![step("b", meets(to_a, from_a))],
        ];
        let rows = run(lanes);
        assert!(rows.iter().map(|row| row.check.as_str()).eq(["a", "a2", "b"]));
        assert!(rows.iter().all(|row| row.outcome == Outcome::Passed && row.tally.is_some()), "{rows:?}");
        assert!(run(Vec::new()).is_empty());
    }

    #[test]
    fn a_step_keeps_its_output_together_with_its_name_and_what_came_of_it() {
        let mut output = Output::held();
        let row = step("tests", |output: &mut Output| {
            output.line("said");
            Ok((Tally::default(), Err(Failure::new("two failed"))))
        });
        let row = row.run(&mut output);
        assert_eq!(row.outcome, Outcome::Failed(Failure::new("two failed")));
        let Output::Held(text) = output else { unreachable!("it was held") };
        assert_eq!(text, "\n=== tests, consul (1)\nsaid\nFAIL tests, consul: two failed\n");
    }
}
