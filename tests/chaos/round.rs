//! One round: break, go on, repair, wait, judge, forget.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::try_join_all;
use registry_testkit::{
    ServerError,
    faults::{
        Figure, History, Observation, Violation, d1_never_wiped, d2_convergence, d3_revisions,
        r1_reconvergence, r2_no_ghost, r3_no_false_life, r4_callback_discipline, r6_completeness,
        r7_isolation,
    },
};
use service_registry::InstanceKey;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    plan::{Act, Break, Fault, Links, Round},
    site::Taken,
    world::{TTL, World, key},
};

/// R1: what is promised after the registry is usable again.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// D2: a reader's own way back, where nothing has to be held.
const READS_WITHIN: Duration = Duration::from_secs(10);
/// What a guard of 20 s adds where a list had shrunk.
const HELD: Duration = Duration::from_secs(21);
/// What lies between two samples on a busy machine.
const SLACK: Duration = Duration::from_millis(300);

/// A registry that answers nobody for longer than one attempt to renew has no time for renewals either: the machine is
/// busy with something else, and what is lost then is lost rightly.
const STARVED: Duration = Duration::from_millis(600);
/// From a renewal to the end of the record, when nobody renews any more: the time to live, and what a leader that was
/// just elected adds to it.
const EXPIRED: Duration = Duration::from_millis(3_800);

/// How a round ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From when the registry was usable until all was right.
    pub(crate) back: Duration,
    pub(crate) violations: Vec<Violation>,
}

/// Plays a round and judges it.
///
/// # Errors
///
/// When it could not be played; nothing was judged then.
pub(crate) async fn play(world: &World, round: &Round) -> Result<Outcome, Violation> {
    let history = &world.history;
    for takeover in &round.takeovers {
        world.take_over(takeover).await?;
    }
    let begin = history.now();
    let (taken, ()) = tokio::try_join!(break_and_repair(world, round), world.churn(round))?;
    let left = Instant::now();
    world.site.usable().await.map_err(|error| failed(&error))?;
    if round.faults.iter().any(|fault| matches!(fault.fault, Fault::Freeze(_))) {
        // etcd's doing, seen with 3.6.16: a leader that wakes revokes leases which its successor has seen renewed. Who
        // was live a moment ago couldn't know; that all are back in time is judged as always.
        for key in world.standing() {
            history.gone(&key, "perhaps revoked by a leader that was frozen");
        }
    }
    history.usable("all is repaired");

    let usable = Instant::now();
    let mut held = 0;
    let back = loop {
        held = held.max(world.held());
        if world.is_right().await {
            break usable.elapsed();
        }
        let limit = if held > 0 { BACK_WITHIN + HELD } else { BACK_WITHIN };
        if usable.elapsed() > limit + READS_WITHIN {
            break usable.elapsed();
        }
        sleep(Duration::from_millis(50)).await;
    };
    // One more look of each recorder, so that what was right is written down.
    sleep(SLACK).await;
    let right = history.now();
    // As long as a record that nobody renews may stand, and three times that long to see that it stays away.
    sleep_until(left.max(usable) + EXPIRED * 4 + SLACK).await;

    let reads_within = if held > 0 { READS_WITHIN + HELD } else { READS_WITHIN };
    let mut judged: Vec<Result<Figure, Violation>> = vec![
        r1_reconvergence(&history.until(right), BACK_WITHIN),
        r3_no_false_life(history, TTL, SLACK),
        r4_callback_discipline(history),
        r6_completeness(history),
    ];
    let calm = part(history, right, history.now());
    let silence = silence(&calm);
    if silence < STARVED {
        // Once right, nobody is lost any more.
        judged.push(r7_isolation(&calm, &[]));
    } else {
        println!(
            "           the registry answered nobody for {silence:.2?}: losses in the calm are not judged"
        );
    }
    if round.churn.iter().any(|step| step.act == Act::Deregister) {
        judged.push(r2_no_ghost(history, EXPIRED));
    }
    if round.faults.iter().all(|fault| is_selective(&fault.fault)) {
        judged.push(r7_isolation(&part(history, begin, right), &touched(round, &taken)));
    }
    for reader in &world.readers {
        judged.push(d1_never_wiped(history, reader.name()));
        judged.push(d2_convergence(&history.until(right), reader.name(), reads_within));
        judged.push(d3_revisions(history, reader.name()));
    }
    let violations = judged.into_iter().filter_map(Result::err).collect();
    Ok(Outcome { back, violations })
}

/// A part of a history, with what was wanted before.
fn part(history: &History, from: Duration, to: Duration) -> History {
    let part = history.between(from, to);
    for entry in history.until(from).entries() {
        if matches!(entry.what, Observation::Wanted { .. } | Observation::Unwanted { .. }) {
            part.record_at(from, entry.what);
        }
    }
    part
}

/// The longest time in which nobody who asked the registry itself had an answer.
fn silence(part: &History) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last: Option<Duration> = None;
    for entry in part.entries() {
        if matches!(entry.what, Observation::Truth(_)) {
            let gap = last.map_or(Duration::ZERO, |last| entry.at.saturating_sub(last));
            longest = longest.max(gap).max(entry.pause);
            last = Some(entry.until);
        }
    }
    longest
}

async fn break_and_repair(world: &World, round: &Round) -> Result<Taken, Violation> {
    let begin = Instant::now();
    let broken = round.faults.iter().map(|fault| one(world, fault, begin));
    let taken = try_join_all(broken).await.map_err(|error| failed(&error))?;
    let ids = taken.into_iter().flat_map(|taken| taken.ids).collect();
    Ok(Taken { ids })
}

async fn one(world: &World, planned: &Break, begin: Instant) -> Result<Taken, ServerError> {
    let (history, Break { after, lasts, fault }) = (&world.history, planned);
    sleep_until(begin + *after).await;
    let mut taken = Taken::default();
    let broken = match world.site.inject(fault, &mut taken).await {
        Ok(broken) => broken,
        // An operator needs a cluster that works, and the other fault may have taken that away.
        Err(error) if !is_breaking(fault) => {
            history.mark(format!("{fault}: not done: {error:?}"));
            None
        }
        Err(error) => return Err(error),
    };
    for id in &taken.ids {
        history.gone(&key(id), &fault.to_string());
    }
    if is_outage(fault) {
        history.outage(fault.to_string());
    } else {
        history.mark(format!("broken: {fault}"));
    }
    if let Some(broken) = broken {
        sleep(*lasts).await;
        // Before the repair: from here on a renewal may succeed.
        if is_outage(fault) {
            history.ending(format!("about to repair: {fault}"));
        } else {
            history.mark(format!("about to repair: {fault}"));
        }
        world.site.repair(broken).await?;
    }
    Ok(taken)
}

/// Nobody can renew anything.
fn is_outage(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::KillMajority
            | Fault::Cut(Links::All)
            | Fault::Hold(Links::All)
            | Fault::HoldAnswers(Links::All)
    )
}

/// It has to work; the others are done by an operator, who may be unable to.
fn is_breaking(fault: &Fault) -> bool {
    !matches!(fault, Fault::Revoke(_) | Fault::Delete(_) | Fault::Compact | Fault::MoveLeader(_))
}

/// Whom it does not name it must not touch.
fn is_selective(fault: &Fault) -> bool {
    matches!(fault, Fault::Revoke(_) | Fault::Delete(_) | Fault::Compact | Fault::Reset(_))
}

fn touched(round: &Round, taken: &Taken) -> Vec<InstanceKey> {
    let churned = round.churn.iter().map(|step| &step.id);
    let taken_over = round.takeovers.iter().map(|takeover| &takeover.id);
    let ids: BTreeSet<&String> = taken.ids.iter().chain(churned).chain(taken_over).collect();
    ids.into_iter().map(|id| key(id)).collect()
}

fn failed(error: &ServerError) -> Violation {
    Violation::run(format!("{error:?}"))
}
