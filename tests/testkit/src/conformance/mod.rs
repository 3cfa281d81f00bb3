//! The conformance suite: what the contracts of [`registry_core::backend`] promise, asked of a backend.
//!
//! One list of cases, the same for every backend. [`conformance!`](crate::conformance!) makes a module with one named
//! test per case, so that a failure says which promise was broken by whom: `etcd::withdraw_is_idempotent`.
//!
//! # Testing a backend
//!
//! Say how to open it with a [`Fixture`]; an async function from a [`Stage`] to a [`Backend`] is one:
//!
//! ```
//! use registry_core::{Backend, MemoryRegistry};
//! use registry_testkit::conformance::Stage;
//!
//! async fn memory(_stage: Stage) -> Backend {
//!     MemoryRegistry::new().backend() // a store of its own for each case
//! }
//!
//! registry_testkit::conformance!(memory: memory; all; paused);
//! # fn main() {}
//! ```
//!
//! The expression after the name is evaluated in each test, may `.await`, and its value lives until the case is over:
//! a fixture that holds a server keeps it running. One server may serve all cases, as each has a namespace of its own.
//!
//! # Groups
//!
//! `all`, or a list of these, for a backend that can't do everything:
//!
//! | group | asks | needs |
//! |---|---|---|
//! | `discovery` | finding what stands there, opening a watch, signs of life | `Discovery` |
//! | `registry` | publishing, withdrawing, whose record it is | also `Registry` |
//! | `changes` | a watch while records come and go, resuming it | also `Registry` |
//! | `lease` | records end with a lease that isn't renewed | [`Lifetime::Leased`](registry_core::backend::Lifetime) |
//! | `session` | a revoked lease is lost, all of it | [`Proof::Session`](registry_core::backend::Proof) |
//! | `catalogue` | listing the services that stand there | `Catalogue` |
//! | `catalogue_changes` | the list while services come and go | also `Registry` |
//!
//! # Options
//!
//! - `ignore = "needs …"` for what needs a server.
//! - `paused` for what lives in this process: tokio's clock then jumps to the next timer instead of waiting.
//!
//! Every wait is for a condition and ends after [`DEADLINE`] or after what the backend itself allows for.

#![expect(clippy::future_not_send, reason = "each case has a runtime of its own, on its own thread")]

use std::{future::Future, time::Duration};

use registry_core::{Backend, Incarnation, Instance, Namespace};

mod catalogue;
mod catalogue_changes;
mod changes;
mod discovery;
mod lease;
mod macros;
mod registry;
mod session;
mod subject;
mod watch;

/// How long any single answer or condition is waited for: 10 s, far beyond what a healthy registry on the same
/// machine needs even under load.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// When a whole case is given up, 3 min: only if a fixture hangs, as all waits inside of cases are bounded.
const CASE_DEADLINE: Duration = Duration::from_secs(180);

/// How a backend under test is opened. Async functions and closures from [`Stage`] to [`Backend`] are fixtures.
pub trait Fixture {
    /// Opens the backend for one case. Nothing but `stage.standing` may stand in its namespace.
    fn open(&self, stage: Stage) -> impl Future<Output = Backend>;
}

impl<F, Opening> Fixture for F
where
    F: Fn(Stage) -> Opening,
    Opening: Future<Output = Backend>,
{
    fn open(&self, stage: Stage) -> impl Future<Output = Backend> {
        self(stage)
    }
}

/// What a [`Fixture`] opens a backend for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stage {
    /// A namespace that no other case uses.
    pub namespace: Namespace,
    /// The time to live to configure, where a backend has to know: 60 s. The leases of a case ask for their own.
    pub ttl: Duration,
    /// What has to stand there before the case begins. A backend with a `Registry` leaves this to the suite, which
    /// publishes it; one without has to provide it.
    pub standing: Vec<Instance>,
}

impl Stage {
    fn new(standing: Vec<Instance>) -> Self {
        let namespace = Namespace::new(format!("conformance-{}", Incarnation::generate()));
        Self { namespace: namespace.expect("letters, digits and a dash"), ttl: subject::TTL, standing }
    }
}

/// The clock a case runs on.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Real,
    Paused,
}

/// Runs one case on a runtime of its own.
#[doc(hidden)]
pub fn run<F: Fixture>(pace: Pace, fixture: impl Future<Output = F>, case: impl AsyncFnOnce(&F)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(pace == Pace::Paused)
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let whole = async {
            let fixture = fixture.await;
            case(&fixture).await;
        };
        tokio::time::timeout(CASE_DEADLINE, Box::pin(whole)).await.expect("the case ends");
    });
}

/// Everything on the list. A case that isn't on it is unused code, which the compiler reports.
#[doc(hidden)]
pub mod cases {
    crate::__conformance_cases! { all => __conformance_export {} }
}
