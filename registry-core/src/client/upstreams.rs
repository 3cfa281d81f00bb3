//! Many services, picked by name.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use super::Client;
use crate::{Error, Instance, Picked, Upstream};

/// Most names of one map.
const NAMES: usize = 1024;

type ByName = HashMap<Box<str>, Upstream, RandomState>;

/// Upstreams by name, for who learns the service's name with the request: a gateway, a proxy.
///
/// A name is discovered when it is first asked for, and kept for as long as this map, at most 1,024 of them. Looking a
/// known one up neither blocks nor allocates nor writes to what other threads read. Whoever knows the service
/// beforehand holds the [`Upstream`] instead: that is twice as fast.
///
/// ```
/// # async fn example(client: registry_core::Client) -> Result<(), registry_core::Error> {
/// let upstreams = client.upstreams();
/// upstreams.get("orders")?.ready(1).await?;
/// let port = upstreams.with_pick("orders", |instance| instance.endpoint().port())?;
/// # Ok(()) }
/// ```
pub struct Upstreams {
    client: Client,
    by_name: ArcSwap<ByName>,
    adding: Mutex<()>,
}

impl Client {
    /// An empty map of upstreams; hold it as long as the names are wanted.
    #[must_use]
    pub fn upstreams(&self) -> Upstreams {
        Upstreams { client: self.clone(), by_name: ArcSwap::default(), adding: Mutex::new(()) }
    }
}

impl Upstreams {
    /// The upstream of a service; found lazily if it is a new name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a malformed name, and for the 1,025th;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) for a new name once the client is closed.
    pub fn get(&self, service: &str) -> Result<Upstream, Error> {
        match self.by_name.load().get(service) {
            Some(upstream) => Ok(upstream.clone()),
            None => self.add(service),
        }
    }

    /// [`Upstream::pick`] by name.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`Upstream::pick`].
    ///
    /// # Panics
    /// At the first use of a name, outside a tokio runtime.
    pub fn pick(&self, service: &str) -> Result<Picked, Error> {
        match self.by_name.load().get(service) {
            Some(upstream) => upstream.pick(),
            None => self.add(service)?.pick(),
        }
    }

    /// [`Upstream::with_pick`] by name.
    ///
    /// # Errors
    /// As [`pick`](Self::pick).
    ///
    /// # Panics
    /// As [`pick`](Self::pick), and if `f` does.
    pub fn with_pick<R>(&self, service: &str, f: impl FnOnce(&Instance) -> R) -> Result<R, Error> {
        match self.by_name.load().get(service) {
            Some(upstream) => upstream.with_pick(f),
            None => self.add(service)?.with_pick(f),
        }
    }

    #[cold]
    fn add(&self, service: &str) -> Result<Upstream, Error> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.by_name.load_full();
        if let Some(upstream) = known.get(service) {
            return Ok(upstream.clone());
        }
        if known.len() >= NAMES {
            return Err(Error::invalid(format!("{NAMES} services are picked by name already")));
        }
        let upstream = self.client.discover_lazy(service)?;
        let mut known = ByName::clone(&known);
        known.insert(service.into(), upstream.clone());
        self.by_name.store(Arc::new(known));
        Ok(upstream)
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").field("names", &self.by_name.load().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, StaticRegistry};

    #[tokio::test(start_paused = true)]
    async fn a_name_is_found_at_its_first_use_and_picked_from_then_on() {
        let list = StaticRegistry::builder()
            .service("orders", ["http://10.0.0.7:8080"])
            .service("billing", ["http://10.0.0.7:9090"])
            .build()
            .unwrap();
        let client = Client::from_backend(list.backend()).await.unwrap();
        let upstreams = client.upstreams();
        let port = |name: &str| upstreams.with_pick(name, |instance| instance.endpoint().port());
        assert_eq!(port("orders").unwrap_err().kind(), ErrorKind::NotReady);
        for (name, expected) in [("orders", 8080), ("billing", 9090)] {
            upstreams.get(name).unwrap().ready(1).await.unwrap();
            assert_eq!(port(name).unwrap(), expected);
            assert_eq!(upstreams.pick(name).unwrap().endpoint().port(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_checked_and_counted() {
        let list = StaticRegistry::builder().build().unwrap();
        let upstreams = Client::from_backend(list.backend()).await.unwrap().upstreams();
        assert_eq!(upstreams.get("a/b").unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!((0..NAMES).all(|name| upstreams.get(&format!("s{name}")).is_ok()));
        assert_eq!(upstreams.get("one-more").unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(upstreams.get("s7").is_ok());
    }
}
