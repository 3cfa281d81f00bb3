//! All rounds, and what they cost.

use std::{collections::BTreeMap, fmt, time::Duration};

use registry_testkit::faults::{History, Observation, Resources, Tolerance, Violation, h2_bounded};
use tokio::time::timeout;

use crate::{
    plan::{MEMBERS, Plan, Round, WRITERS},
    round,
    world::{READERS, World},
};

/// Rounds before the baseline is taken: the allocator has its arenas by then.
const WARM_UP: usize = 3;
/// How often resources are looked at in between.
const LOOK_EVERY: usize = 10;
/// More tell nothing new.
const ENOUGH: usize = 5;
/// For one round: only what hangs without a bound of its own takes longer.
const END: Duration = Duration::from_secs(180);
/// For what was just closed to be gone.
const SETTLE: Duration = Duration::from_secs(3);

/// What may be held more than at the baseline: a client keeps a connection to each member that it ever had to ask, such
/// as for a second opinion, and each costs three descriptors here (its two ends, and the proxy's way on), four tasks
/// and the buffers of two HTTP/2 ends and a proxy.
fn tolerance() -> Tolerance {
    const CONNECTIONS: usize = (WRITERS + READERS) * (MEMBERS - 1);
    let usual = Tolerance::default();
    Tolerance {
        tasks: usual.tasks + CONNECTIONS * 4,
        descriptors: usual.descriptors + CONNECTIONS * 3,
        resident: usual.resident + CONNECTIONS as u64 * (256 << 10),
        ..usual
    }
}

/// Everything that is said at the end, in one line.
#[derive(Debug, Default)]
struct Summary {
    rounds: usize,
    faults: BTreeMap<&'static str, usize>,
    violations: Vec<String>,
    slowest: Duration,
    before: Option<Resources>,
    after: Option<Resources>,
}

/// Plays the plan.
///
/// # Errors
///
/// What did not hold, with where the histories are.
pub(crate) async fn all(plan: &Plan, minutes: u64) -> Result<(), String> {
    let world = World::start(&plan.first).await.map_err(|violation| violation.to_string())?;
    let mut summary = Summary::default();
    for (number, round) in (1..).zip(&plan.rounds) {
        world.history.mark(format!("round {number}: {round}"));
        let played = timeout(END, round::play(&world, round)).await;
        let played = played.unwrap_or_else(|_| Err(Violation::run(format!("no end after {END:?}"))));
        let unplayed = played.is_err();
        let (line, violations) = match played {
            Ok(outcome) => {
                summary.slowest = summary.slowest.max(outcome.back);
                (format!("right after {:.2?}", outcome.back), outcome.violations)
            }
            Err(violation) => ("not played to its end".to_owned(), vec![violation]),
        };
        summary.count(round);
        println!("round {number:>3}: {line}; {} entries; {round}", world.history.len());
        let now = Resources::settled(SETTLE).await;
        summary.note(&world.history, plan, number, violations);
        world.history.compact();
        match &summary.before {
            None if number >= WARM_UP.min(plan.rounds.len()) => summary.before = Some(now),
            Some(_) if number % LOOK_EVERY == 0 => {
                summary.after = Some(now);
                summary.note(&world.history, plan, number, summary.bounded());
            }
            _ => {}
        }
        println!("           {now:?}");
        // What broke may not have been repaired.
        if unplayed || summary.violations.len() >= ENOUGH {
            break;
        }
    }
    summary.after = Some(Resources::settled(SETTLE).await);
    summary.note(&world.history, plan, summary.rounds, summary.bounded());
    world.close().await;
    println!("CHAOS seed {}, {minutes} min: {summary}", plan.seed);
    if summary.violations.is_empty() { Ok(()) } else { Err(summary.violations.join("\n")) }
}

impl Summary {
    fn count(&mut self, round: &Round) {
        self.rounds += 1;
        for fault in &round.faults {
            *self.faults.entry(fault.fault.kind()).or_default() += 1;
        }
    }

    fn note(&mut self, history: &History, plan: &Plan, number: usize, violations: Vec<Violation>) {
        if violations.is_empty() {
            return;
        }
        for violation in &violations {
            history.mark(violation.to_string());
        }
        let saved = history.saved_as(&format!("chaos-seed-{}-round-{number}", plan.seed));
        for violation in violations {
            println!("VIOLATION in round {number}: {violation}");
            self.violations.push(format!("round {number}: {violation}; {saved}"));
        }
    }

    /// H2, from the baseline to now.
    fn bounded(&self) -> Vec<Violation> {
        let (Some(before), Some(after)) = (self.before, self.after) else {
            return vec![Violation::run("too short to compare what the process holds")];
        };
        let history = History::new();
        history.record(Observation::Resources(before));
        history.record(Observation::Resources(after));
        h2_bounded(&history, tolerance()).err().into_iter().collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(f, "{} rounds ({}), {} violations", self.rounds, faults.join(", "), self.violations.len())?;
        write!(f, ", slowest recovery {:.1} s", self.slowest.as_secs_f64())?;
        let (before, after) = (self.before.unwrap_or_default(), self.after.unwrap_or_default());
        let mebibytes = |resources: Resources| resources.resident as f64 / f64::from(1 << 20);
        write!(f, ", memory {:.1} -> {:.1} MiB", mebibytes(before), mebibytes(after))?;
        write!(f, ", tasks {} -> {}", before.tasks, after.tasks)?;
        write!(f, ", descriptors {} -> {}", before.descriptors, after.descriptors)
    }
}
