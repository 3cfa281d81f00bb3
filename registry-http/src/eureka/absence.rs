//! Whether a 404 about an instance is Eureka's own.
//!
//! Eureka adds nothing to it that tells: it sets the bare status, and the rest is its container's, the same as for a path
//! that nobody serves. Seen of Spring Cloud's server: a JSON of `timestamp`, `status`, `error` and `path`, for an unknown
//! instance, for a wrong path behind the right context and for a wrong context alike; an ingress without its route, or a
//! wrong context, looks no different to who reads the status alone. So whoever denies an instance is asked for two things
//! more, before the instance counts as absent:
//!
//! 1. for a list, as none but Eureka has one: once for all denials of one call.
//! 2. for the instance once more. An ingress that is set up anew denies a beat and has its route back a moment later.
//!    Eureka denies a beat also of what it shows, if that is older than the beat says or its status unknown.
//!
//! Whoever fails the first is left alone for a while, as one that is broken, and the next server has its turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use registry_core::Error;
use tokio::{sync::OnceCell, time::Instant};

use super::api::Api;

type Verdict = Arc<OnceCell<Result<(), Error>>>;

/// The servers that denied something in one call, and whether they are Eureka's.
#[derive(Debug, Default)]
pub(crate) struct Deniers(Mutex<HashMap<Arc<str>, Verdict>>);

impl Deniers {
    /// Asks a server for a list, once whoever waits for the answer.
    ///
    /// # Errors
    /// As [`Api::recognise`].
    ///
    /// # Cancel safety
    /// If who asks gives up, one of those who wait for the answer asks.
    pub(crate) async fn recognise(
        &self,
        api: &Api,
        server: &Arc<str>,
        operation: &'static str,
        until: Instant,
    ) -> Result<(), Error> {
        let verdict = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(Arc::clone(server)).or_default())
        };
        let verdict = verdict.get_or_init(|| api.recognise(server, operation, until)).await.clone();
        if verdict.is_err() {
            // Each time, as every answer, also a 404, counts for a server first.
            api.blame(server);
        }
        verdict
    }
}
