//! Many services, picked by name.

use std::{
    fmt,
    hash::BuildHasher,
    iter::repeat_with,
    sync::{Mutex, OnceLock, PoisonError},
};

use foldhash::fast::RandomState;

use super::Client;
use crate::{Error, Instance, Picked, Upstream};

/// Most names of one map.
const NAMES: usize = 1024;
/// Twice that, so that a search soon meets a free slot; 16 bytes each.
const SLOTS: usize = 2 * NAMES;

/// One name; it stays for as long as its map.
struct Named {
    hash: u64,
    name: Box<str>,
    upstream: Upstream,
}

/// Upstreams by name, for who learns the service's name with the request: a gateway, a proxy.
///
/// A name is discovered when it is first asked for, and kept for as long as this map, at most 1,024 of them. Looking a
/// known one up neither blocks nor allocates nor writes to what other threads read. Whoever knows the service
/// beforehand holds the [`Upstream`] instead: that is twice as fast.
///
/// No name ever gives way to another one, so whoever may ask for any, such as by a `Host` header, can fill the map up for good:
/// check such names against a list, or [`Client::services`], before they are asked for here.
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
    hasher: RandomState,
    /// Open addressing with linear probing (Knuth, The Art of Computer Programming 3, 6.4). Names are only ever added,
    /// so a reader needs neither a lock nor a count of readers.
    slots: Box<[OnceLock<Box<Named>>]>,
    /// How many there are; held while one is added.
    known: Mutex<usize>,
}

impl Client {
    /// An empty map of upstreams; hold it as long as the names are wanted.
    #[must_use]
    pub fn upstreams(&self) -> Upstreams {
        Upstreams {
            client: self.clone(),
            hasher: RandomState::default(),
            slots: repeat_with(OnceLock::new).take(SLOTS).collect(),
            known: Mutex::new(0),
        }
    }
}

impl Upstreams {
    /// The upstream of a service; found lazily if it is a new name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a malformed name, and for the 1,025th;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) for a new name once the client is closed.
    pub fn get(&self, service: &str) -> Result<Upstream, Error> {
        self.known_or_added(service).cloned()
    }

    /// [`Upstream::pick`] by name.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`Upstream::pick`].
    ///
    /// # Panics
    /// At the first use of a name, outside a tokio runtime.
    pub fn pick(&self, service: &str) -> Result<Picked, Error> {
        self.known_or_added(service)?.pick()
    }

    /// [`Upstream::with_pick`] by name.
    ///
    /// # Errors
    /// As [`pick`](Self::pick).
    ///
    /// # Panics
    /// As [`pick`](Self::pick), and if `f` does.
    pub fn with_pick<R>(&self, service: &str, f: impl FnOnce(&Instance) -> R) -> Result<R, Error> {
        self.known_or_added(service)?.with_pick(f)
    }

    #[inline]
    fn known_or_added(&self, service: &str) -> Result<&Upstream, Error> {
        let hash = self.hasher.hash_one(service);
        match self.find(hash, service) {
            Ok(upstream) => Ok(upstream),
            Err(_) => self.add(hash, service),
        }
    }

    /// The upstream of a name, or the free slot where it belongs.
    #[inline]
    fn find(&self, hash: u64, service: &str) -> Result<&Upstream, &OnceLock<Box<Named>>> {
        // At least half of the slots are free.
        let mut at = hash as usize % SLOTS;
        loop {
            let slot = &self.slots[at];
            match slot.get() {
                Some(named) if named.hash == hash && *named.name == *service => return Ok(&named.upstream),
                Some(_) => at = (at + 1) % SLOTS,
                None => return Err(slot),
            }
        }
    }

    #[cold]
    fn add(&self, hash: u64, service: &str) -> Result<&Upstream, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match self.find(hash, service) {
            Ok(upstream) => return Ok(upstream),
            Err(slot) => slot,
        };
        if *known >= NAMES {
            return Err(Error::invalid(format!("{NAMES} services are picked by name already")));
        }
        let upstream = self.client.discover_lazy(service)?;
        *known += 1;
        Ok(&slot.get_or_init(|| Box::new(Named { hash, name: service.into(), upstream })).upstream)
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams")
            .field("names", &*self.known.lock().unwrap_or_else(PoisonError::into_inner))
            .finish_non_exhaustive()
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
