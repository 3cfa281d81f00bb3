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
/// After a burst of 8 a list is read ten times a second at most. Two more for the moments at which it is counted.
const MOST: u64 = 8 + 10 * 6 + 2;

pub(super) async fn storm(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let front = Front::start(Manner::Storm(&[7, 9, 3, 0, 0, 12, 1])).await.must("fake server")?;
    let fleet =
        fleets.open("reader's", &site.url(&[front.address()], "storm"), history).await.must("opening")?;
    let reader = fleet.discover("reader", SERVICE).await.must("an empty list is an answer")?;
    let before = lists(&front);
    outage(Instant::now(), STORM).await;
    let asked = lists(&front) - before;
    drop(reader);
    fleet.close().await;
    if !(10..=MOST).contains(&asked) {
        return Err(Violation::new(
            Invariant::H1,
            format!("{asked} reads in {STORM:?}, at most {MOST}: {:?}", front.paths()),
        ));
    }
    Ok(Figure::new("lists read in 6 s", asked))
}

/// How often the list was read. Beside it there is the question which registry this is, whenever an index goes back.
fn lists(front: &Front) -> u64 {
    let paths = front.paths();
    paths.iter().filter(|(path, _)| path.starts_with("/v1/health/service/")).map(|(_, times)| times).sum()
}
