//! Drains in which something hangs: they end by their budget, and the requests keep their time.

use std::future::pending;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    InFlight,
    drain::{self, Exit},
};

const MS: Duration = Duration::from_millis(1);

/// A budget and a time to deregister; the last budgets are the least for the 2 s of this registry.
const BOUNDS: [(u32, Option<u32>); 6] = [
    (25_000, None),
    (25_000, Some(60_000)),
    (8_000, None),
    (8_000, Some(60_000)),
    (7_000, None),
    (7_000, Some(60_000)),
];

fn bounded((budget, within): (u32, Option<u32>)) -> Drain {
    let drain = Drain::new().budget(budget * MS);
    within.map_or(drain.clone(), |within| drain.deregister_within(within * MS))
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_takes_neither_propagation_nor_the_wait_from_requests() {
    // Announcing takes 0.5 s, propagation 2 s; the rest is what is left to deregister.
    let refused = [5_500, 20_000, 3_500, 3_500, 3_500, 3_500];
    for (bounds, expected) in BOUNDS.into_iter().zip(refused) {
        let registry = MemoryRegistry::new();
        let client = client(&registry).await;
        let _registration = client.register(orders("a")).await.unwrap();
        registry.faults().hang(true);
        let (in_flight, started) = (client.in_flight(), Instant::now());
        let request = in_flight.enter();
        let serve = async {
            in_flight.refusing().await;
            let refused = started.elapsed();
            sleep(1_900 * MS).await;
            drop(request);
            refused
        };
        let (report, refused) = tokio::join!(client.drain(bounded(bounds)), serve);
        assert!(report.fault.is_none(), "the budget is allowed: {report:?}");
        assert!(refused >= expected * MS && refused < (expected + 10) * MS, "{bounds:?}: {refused:?}");
        assert_eq!(report.in_flight_aborted, 0, "{bounds:?}: {report:?}");
        assert!(report.elapsed <= bounds.0 * MS, "{bounds:?}: {report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_which_every_stage_hangs_ends_by_its_budget() {
    let too_short = [(4_000, None), (500, Some(60_000)), (0, None)];
    for bounds in BOUNDS.into_iter().chain(too_short) {
        let in_flight = InFlight::new();
        let _request = in_flight.enter();
        in_flight.spawn("endless", pending());
        let exit = Exit {
            registrations: &[],
            in_flight: &in_flight,
            propagation: 2 * SECOND,
            cut: CancellationToken::new(),
            ever_live: true,
            leaving: Box::pin(pending()),
            stop: Box::pin(pending()),
        };
        let hangs = pending::<()>;
        let report = drain::run(&bounded(bounds).on_announce(hangs).on_refuse(hangs), exit).await;
        assert!(report.elapsed <= bounds.0 * MS, "{bounds:?}: {report:?}");
        assert_eq!((report.in_flight_aborted, report.tasks_aborted), (1, 1), "{bounds:?}");
    }
}
