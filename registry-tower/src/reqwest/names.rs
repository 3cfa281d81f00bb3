//! The services that were asked for of late.
//!
//! A host in a URL may be anybody's word, and each costs a watch: a name keeps its place only as long as it is used.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use registry_core::{Client, Error, Upstream};
use tokio::time::Instant;

use super::Pool;
use crate::service::Balanced;

/// Most names at a time, as many as in an [`Upstreams`](registry_core::Upstreams).
const NAMES: usize = 1024;
/// How long a name stays that isn't used. What was learnt about its instances is worth some time.
const UNUSED: Duration = Duration::from_secs(3600);
/// The same for one without instances: perhaps nobody's.
const UNUSED_EMPTY: Duration = Duration::from_secs(60);

/// Services by name. The least recently used give way, those without instances first, and their watches end with the
/// requests that are under way.
pub(super) struct Names {
    client: Client,
    known: Mutex<HashMap<String, Name>>,
}

struct Name {
    upstream: Upstream,
    plain: Option<Balanced<Pool>>,
    tls: Option<Balanced<Pool>>,
    used: Instant,
}

impl Names {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.clone(), known: Mutex::default() }
    }

    /// The service of this name, made by `balanced` at its first use.
    pub(super) fn get(
        &self,
        name: &str,
        is_tls: bool,
        balanced: impl FnOnce(Upstream) -> Balanced<Pool>,
    ) -> Result<Balanced<Pool>, Error> {
        let now = Instant::now();
        let mut known = self.lock();
        let mut gone = Vec::new();
        if !known.contains_key(name) {
            let upstream = self.client.discover_lazy(name)?;
            gone = make_room(&mut known, now);
            known.insert(name.to_owned(), Name { upstream, plain: None, tls: None, used: now });
        }
        let name = known.get_mut(name).expect("it was added if it wasn't there");
        name.used = now;
        let service = if is_tls { &mut name.tls } else { &mut name.plain };
        let service = service.get_or_insert_with(|| balanced(name.upstream.clone())).clone();
        drop(known);
        drop(gone);
        Ok(service)
    }

    #[cfg(test)]
    pub(super) fn upstream(&self, name: &str) -> Upstream {
        self.lock()[name].upstream.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Name>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
    fn is_empty(&self) -> bool {
        self.upstream.snapshot().is_empty()
    }

    fn is_over(&self, now: Instant) -> bool {
        let unused = now.saturating_duration_since(self.used);
        unused >= UNUSED || unused >= UNUSED_EMPTY && self.is_empty()
    }
}

/// Makes room for one more; what gives way is to be dropped without the lock.
fn make_room(known: &mut HashMap<String, Name>, now: Instant) -> Vec<Name> {
    let mut gone: Vec<_> = known.extract_if(|_, name| name.is_over(now)).map(|(_, name)| name).collect();
    if known.len() >= NAMES {
        let least = known.iter().min_by_key(|(_, name)| (!name.is_empty(), name.used));
        let least = least.map(|(name, _)| name.clone());
        gone.extend(least.and_then(|name| known.remove(&name)));
    }
    gone
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("known", &self.lock().len()).finish_non_exhaustive()
    }
}
