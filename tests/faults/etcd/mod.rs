//! The rows on a real etcd that dies, freezes, forgets or is cut off.
//!
//! Each row is a function of a [`FleetFactory`], so that another way to register and discover lives through the same
//! faults; what it promised and didn't keep is its [`Violation`]. [`all`] lists them. The tests run each with this
//! project's client.
#![allow(clippy::future_not_send, reason = "each row has a runtime of its own, on its own thread")]

mod access;
mod cluster;
mod cold;
mod dead;
mod drains;
mod duplicates;
mod endpoints;
mod executor;
mod fake;
mod garbage;
mod links;
mod lists;
mod mute;
mod operator;
mod outages;
mod process;
mod serving;
mod site;
mod tls;
mod truth;
mod updates;
pub(crate) mod world;
mod wrong;

use futures_util::future::LocalBoxFuture;
use registry_testkit::faults::{Figure, FleetFactory, History, Violation};

/// One row.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Its name, which begins with `row_` and its number.
    pub(crate) name: &'static str,
    /// What happens, and whether it was lived through.
    pub(crate) story: Story,
}

pub(crate) type Story =
    for<'a> fn(&'a dyn FleetFactory, &'a History) -> LocalBoxFuture<'a, Result<Figure, Violation>>;

/// Makes a test of each row, and the list of them: those that are told once for every registry, and those of etcd
/// alone.
macro_rules! rows {
    (everywhere on $site:path { $($common:ident = $told:path;)* } here { $($own:ident = $story:path;)* }) => {
        $crate::etcd::rows! { @ $($common = $told, &$site;)* $($own = $story;)* }
    };
    (@ $($name:ident = $story:path $(, $site:expr)?;)+) => {
        pub(crate) const ROWS: &[$crate::etcd::Row] =
            &[$($crate::etcd::Row {
                name: stringify!($name),
                story: |fleets, history| Box::pin($story($($site,)? fleets, history)),
            }),+];

        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs etcd: cargo xtask servers"]
        async fn $name() {
            let index = ROWS.iter().position(|row| row.name == stringify!($name));
            let row = ROWS[index.unwrap()];
            $crate::live::run::test(module_path!(), row.name, row.story).await;
        })+
    };
    ($($name:ident = $story:path;)+) => {
        $crate::etcd::rows! { @ $($name = $story;)+ }
    };
}
pub(crate) use rows;

/// All rows.
pub(crate) fn all() -> Vec<Row> {
    [
        access::ROWS,
        cluster::ROWS,
        cold::ROWS,
        duplicates::ROWS,
        endpoints::ROWS,
        executor::ROWS,
        garbage::ROWS,
        links::ROWS,
        lists::ROWS,
        mute::ROWS,
        operator::ROWS,
        outages::ROWS,
        process::ROWS,
        tls::ROWS,
        updates::ROWS,
        wrong::ROWS,
    ]
    .concat()
}
