//! The rows that make sense on any server, written once over a [`Site`]: each registry says how its server is started,
//! killed, asked and tampered with, and which bounds are its own.
//!
//! A row is a function of a site. `rows!` makes a test of each in the module of a registry; those that every registry over
//! HTTP can have are listed once, in `over_http`, and each adds what it alone can have. Rows that hurt their server have one of their own, and two of these run at a time; all others share
//! one server, each in a namespace of its own.
#![allow(clippy::future_not_send, reason = "each row has a runtime of its own, on its own thread")]

pub(crate) mod child;
pub(crate) mod cold;
pub(crate) mod counter;
pub(crate) mod duplicates;
pub(crate) mod endpoints;
pub(crate) mod front;
pub(crate) mod garbage;
pub(crate) mod herd;
pub(crate) mod links;
pub(crate) mod lists;
pub(crate) mod mute;
pub(crate) mod operator;
pub(crate) mod outages;
pub(crate) mod over_http;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod site;
pub(crate) mod throttled;
pub(crate) mod tls;
pub(crate) mod truth;
pub(crate) mod updates;
pub(crate) mod world;

use futures_util::future::LocalBoxFuture;
use registry_testkit::faults::{Figure, Violation};
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) use self::over_http::rows_over_http;
pub(crate) use self::site::{Bounds, Place, Server, Site};

/// A row that is being told.
pub(crate) type Telling<'a> = LocalBoxFuture<'a, Result<Figure, Violation>>;

/// Rows with a server of their own.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Waits until a row may start a server of its own.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("it is never closed")
}

/// Makes a test of each row: those that hurt their server take turns.
macro_rules! rows {
    ($site:expr; $reason:literal;
        alone { $($hurting:ident = $hurts:path;)* }
        together { $($name:ident = $story:path;)* }) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = $reason]
        async fn $hurting() {
            let _turn = $crate::live::turn().await;
            fn told<'a>(
                fleets: &'a dyn registry_testkit::faults::FleetFactory,
                history: &'a registry_testkit::faults::History,
            ) -> $crate::live::Telling<'a> {
                Box::pin($hurts(&$site, fleets, history))
            }
            $crate::live::run::test(module_path!(), stringify!($hurting), told).await;
        })*
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = $reason]
        async fn $name() {
            fn told<'a>(
                fleets: &'a dyn registry_testkit::faults::FleetFactory,
                history: &'a registry_testkit::faults::History,
            ) -> $crate::live::Telling<'a> {
                Box::pin($story(&$site, fleets, history))
            }
            $crate::live::run::test(module_path!(), stringify!($name), told).await;
        })*
    };
}
pub(crate) use rows;
