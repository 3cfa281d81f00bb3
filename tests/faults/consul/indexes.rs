//! Row 26: an index that goes back, or is 0, from a server that answers every blocking query at once.

use std::time::Duration;

use registry_testkit::faults::{Figure, FleetFactory, History, Invariant, Violation};
use tokio::time::Instant;

use crate::live::{
    Site,
    front::{Front, Manner},
    world::{Must, SERVICE, outage},
};

/// How long it is endured.
const STORM: Duration = Duration::from_secs(6);
/// After a burst of 8 a list is read ten times a second at most; beside it there is the question which registry this
/// is, every two seconds, and what goes before the first answer.
const MOST: u64 = 8 + 10 * 6 + 12;

pub(super) async fn storm(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let front = Front::start(Manner::Storm(&[7, 9, 3, 0, 0, 12, 1])).await.must("fake server")?;
    let fleet =
        fleets.open("reader's", &site.url(&[front.address()], "storm"), history).await.must("opening")?;
    let reader = fleet.discover("reader", SERVICE).await.must("an empty list is an answer")?;
    let before = front.asked();
    outage(Instant::now(), STORM).await;
    let asked = front.asked() - before;
    drop(reader);
    fleet.close().await;
    if !(10..=MOST).contains(&asked) {
        return Err(Violation::new(Invariant::H1, format!("{asked} calls in {STORM:?}; at most {MOST}")));
    }
    Ok(Figure::new("calls in 6 s", asked))
}
