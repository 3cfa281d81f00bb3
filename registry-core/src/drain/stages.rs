//! The stages, one after another, under one budget.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Drain, DrainReport, DrainStage, Hook, InFlight};
use crate::{
    client::Registration,
    keeper::Deregistration,
    metrics,
    model::{InstanceKey, Status},
};

/// Long streams are asked to stop this long before the budget ends.
const END_NOTICE: Duration = Duration::from_secs(2);

/// What the stages work on.
pub(crate) struct Exit<'a> {
    pub(crate) registrations: &'a [Registration],
    pub(crate) in_flight: &'a InFlight,
    pub(crate) propagation: Duration,
    /// Cuts the drain short.
    pub(crate) cut: CancellationToken,
    /// Whether a registration that is gone by now was ever visible.
    pub(crate) ever_live: bool,
    /// Resolves when dropped registrations are withdrawn.
    pub(crate) leaving: std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    /// Ends the client's own tasks; resolves when they have.
    pub(crate) stop: std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

/// Runs all stages and reports.
pub(crate) async fn run(drain: &Drain, exit: Exit<'_>) -> DrainReport {
    let started = Instant::now();
    let whole = drain.budget.min(crate::client::FAR);
    let end = started + whole;
    // Ending our own tasks has its time even if everything before it took all it could get.
    let last_moment = end - drain.stop.min(whole / 2);
    let budget = Budget { end: last_moment, cut: exit.cut };
    let mut cut_in = None;
    let mut bounded =
        async |stage, bound: Duration, work: std::pin::Pin<&mut (dyn Future<Output = ()> + Send)>| {
            tracing::info!(?stage, "drain");
            let began = Instant::now();
            if !budget.run(bound, work).await {
                cut_in.get_or_insert(stage);
            }
            metrics::drain_stage(stage, began.elapsed());
        };

    exit.in_flight.leave();
    let was_live = exit.ever_live || exit.registrations.iter().any(Registration::was_live);
    let announce = async {
        for registration in exit.registrations {
            registration.announce(Status::Draining);
        }
        let synced = exit.registrations.iter().map(Registration::current);
        tokio::join!(join_all(synced), run_hooks(&drain.on_announce));
    };
    bounded(DrainStage::Announce, drain.announce, std::pin::pin!(announce)).await;

    let mut deregistered: Vec<(InstanceKey, Deregistration)> = Vec::new();
    let propagation = drain.propagation(exit.propagation);
    let within = drain.deregistration(end.saturating_duration_since(Instant::now()), propagation);
    let deregister = async {
        let withdrawn =
            join_all(exit.registrations.iter().map(async |registration| {
                (registration.key(), registration.deregister_within(within).await)
            }));
        (deregistered, ()) = tokio::join!(withdrawn, exit.leaving);
    };
    bounded(DrainStage::Deregister, within, std::pin::pin!(deregister)).await;
    for registration in exit.registrations {
        // Cut short: at least the withdrawal is sent.
        registration.abandon();
        if !deregistered.iter().any(|(key, _)| *key == registration.key()) {
            // One that wasn't answered must not hide what the others were told.
            let outcome = registration.state().outcome.unwrap_or(Deregistration::TtlWillExpire);
            deregistered.push((registration.key(), outcome));
        }
    }

    if was_live {
        bounded(DrainStage::Propagate, propagation, std::pin::pin!(sleep(propagation))).await;
    }

    exit.in_flight.refuse();
    bounded(DrainStage::Refuse, drain.refuse, std::pin::pin!(run_hooks(&drain.on_refuse))).await;

    let notice = last_moment.checked_sub(END_NOTICE).unwrap_or(last_moment);
    let wait = async {
        tokio::select! {
            () = exit.in_flight.finished() => return,
            () = sleep_until(notice) => exit.in_flight.end_soon(),
        }
        exit.in_flight.finished().await;
    };
    let remainder = last_moment.saturating_duration_since(Instant::now());
    bounded(DrainStage::Wait, remainder, std::pin::pin!(wait)).await;
    let (in_flight_aborted, tasks_aborted) = (exit.in_flight.requests(), exit.in_flight.tasks());
    if in_flight_aborted + tasks_aborted > 0 {
        cut_in.get_or_insert(DrainStage::Wait);
    }
    exit.in_flight.abort();

    // Not under the budget's cut: ending our own tasks takes no waiting for anybody.
    let began = Instant::now();
    let remainder = end.saturating_duration_since(began);
    if timeout(drain.stop.min(remainder), exit.stop).await.is_err() {
        cut_in.get_or_insert(DrainStage::Stop);
    }
    metrics::drain_stage(DrainStage::Stop, began.elapsed());
    let report = DrainReport {
        deregistered,
        in_flight_aborted,
        tasks_aborted,
        elapsed: started.elapsed(),
        cut_in,
        fault: drain.check(exit.propagation).err(),
    };
    metrics::drained(&report);
    tracing::info!(clean = report.is_clean(), elapsed = ?report.elapsed, cut_in = ?report.cut_in, "drained");
    report
}

struct Budget {
    /// When the stages before the last must be over.
    end: Instant,
    cut: CancellationToken,
}

impl Budget {
    /// Runs one stage; `false` if the whole was cut short. A stage that reaches its own bound just ends.
    async fn run(&self, bound: Duration, work: std::pin::Pin<&mut (dyn Future<Output = ()> + Send)>) -> bool {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => false,
            () = work => true,
            () = sleep(bound) => Instant::now() < self.end,
            () = sleep_until(self.end) => false,
        }
    }
}

async fn run_hooks(hooks: &[Hook]) {
    let run = |hook: &Hook| {
        let hook = std::sync::Arc::clone(hook);
        AssertUnwindSafe(async move { hook().await }).catch_unwind()
    };
    for outcome in join_all(hooks.iter().map(run)).await {
        if outcome.is_err() {
            tracing::error!("a drain hook panicked; the drain goes on");
        }
    }
}
