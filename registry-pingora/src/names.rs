//! The addresses of hosts that are named.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use registry_core::Endpoint;

/// Longest time one name may take; a discovery asks for all of them at once.
const WITHIN: Duration = Duration::from_secs(3);

/// Resolves names, and remembers each one's last address: a resolver that is away must not take a backend out.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<String, SocketAddr>>);

impl Names {
    /// The address of an endpoint; `None` if its name has never been resolved.
    pub(crate) async fn resolve(&self, endpoint: &Endpoint) -> Option<SocketAddr> {
        if let Some(address) = endpoint.socket_addr() {
            return Some(address);
        }
        let authority = endpoint.authority();
        let first = async { Ok::<_, std::io::Error>(tokio::net::lookup_host(&authority).await?.next()) };
        let fresh = match tokio::time::timeout(WITHIN, first).await {
            Ok(Ok(address)) => address,
            Ok(Err(error)) => {
                tracing::warn!(authority, %error, "a backend's name can't be resolved; its last address stays");
                None
            }
            Err(_) => {
                tracing::warn!(authority, "a backend's name wasn't resolved in time; its last address stays");
                None
            }
        };
        self.settle(authority, fresh)
    }

    /// The address to use, when this is what the resolver said.
    fn settle(&self, authority: String, fresh: Option<SocketAddr>) -> Option<SocketAddr> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = fresh {
            known.insert(authority, address);
            return Some(address);
        }
        known.get(&authority).copied()
    }

    /// Forgets the names that are no longer in use.
    pub(crate) fn retain(&self, used: &[&Endpoint]) {
        let used: Vec<_> = used.iter().map(|endpoint| endpoint.authority()).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|authority, _| used.contains(authority));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_can_no_longer_be_resolved_keeps_its_last_address() {
        let names = Names::default();
        let orders: Endpoint = "http://orders.example:8080".parse().unwrap();
        let resolved = |fresh| names.settle(orders.authority(), fresh);
        assert_eq!(resolved(None), None);

        let last = SocketAddr::from(([10, 0, 0, 7], 8080));
        assert_eq!(resolved(Some(last)), Some(last));
        assert_eq!(resolved(None), Some(last));

        names.retain(&[&orders]);
        assert_eq!(resolved(None), Some(last));
        names.retain(&[]);
        assert_eq!(resolved(None), None);
    }

    #[tokio::test]
    async fn a_name_gets_the_address_it_resolves_to() {
        let local: Endpoint = "http://localhost:8080".parse().unwrap();
        let address = Names::default().resolve(&local).await.unwrap();
        assert!(address.ip().is_loopback() && address.port() == 8080);
    }
}
