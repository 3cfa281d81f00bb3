//! One row as a test.

use std::{future::Future, time::Duration};

use registry_testkit::faults::{ClientFleets, Figure, History, Violation, settle};
use tokio::time::timeout;

use super::{Row, process};

/// When a row is given up: only if something hangs that has no bound of its own.
const END: Duration = Duration::from_secs(120);

/// Runs a row with this project's client.
pub(crate) async fn test(module: &str, row: Row) {
    if process::play_the_child().await {
        return;
    }
    let number = row.name["row_".len()..][..2].parse().expect("a row's name begins with its number");
    let module = module.split_once("::").map_or(module, |(_, rest)| rest);
    let history = History::new();
    let test = format!("{module}::{}", row.name);
    let _report = Report { history: &history, test: &test };
    let fleets = ClientFleets::new(service_registry::builder);
    let verdict = bounded((row.story)(&fleets, &history)).await;
    settle(number, "etcd", &test, &history, &verdict);
}

/// A story that ends.
pub(crate) async fn bounded(
    story: impl Future<Output = Result<Figure, Violation>>,
) -> Result<Figure, Violation> {
    timeout(END, story).await.unwrap_or_else(|_| Err(Violation::run(format!("no end after {END:?}"))))
}

/// Saves the history of a story that panics.
struct Report<'a> {
    history: &'a History,
    test: &'a str,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.history.saved_as(self.test));
        }
    }
}
