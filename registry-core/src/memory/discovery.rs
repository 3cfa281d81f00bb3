//! Looking up, and listing services.

use async_trait::async_trait;
use futures_util::stream;
use tokio::time::Instant;

use super::{MemoryRegistry, Operation, context, sleep_until, store::State, watch};
use crate::{
    Error,
    backend::{Catalogue, CatalogueStream, Cursor, Discovery, Listing, Read, WatchStream},
    model::{ServiceName, Target},
};

#[async_trait]
impl Discovery for MemoryRegistry {
    async fn lookup(&self, target: &Target, _read: &Read) -> Result<Listing, Error> {
        self.enter(Operation::Lookup).await?;
        refuse_qualifiers(target, Operation::Lookup)?;
        let listing = self.with(|state, _| state.lookup(target.service()));
        self.leave(Operation::Lookup).await?;
        Ok(listing)
    }

    fn watch(&self, target: &Target, cursor: Option<Cursor>) -> WatchStream {
        watch::open(self.clone(), target.clone(), cursor)
    }
}

/// There are none here, and ignoring one would silently widen the query.
pub(super) fn refuse_qualifiers(target: &Target, operation: Operation) -> Result<(), Error> {
    match target.qualifiers().iter().next() {
        None => Ok(()),
        Some((key, _)) => Err(context(
            Error::invalid(format!("the memory registry knows no qualifiers; the target has {key:?}")),
            operation,
        )),
    }
}

#[async_trait]
impl Catalogue for MemoryRegistry {
    /// Counts as a [`Lookup`](Operation::Lookup), also for faults.
    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        self.enter(Operation::Lookup).await?;
        let services = self.with(|state, _| state.services());
        self.leave(Operation::Lookup).await?;
        Ok(services)
    }

    /// Counts as a [`Watch`](Operation::Watch), also for faults.
    fn watch_services(&self) -> CatalogueStream {
        Box::pin(stream::unfold(ServicesWatch::Opening(self.clone()), ServicesWatch::next))
    }
}

/// The state of one stream of service lists.
enum ServicesWatch {
    Opening(MemoryRegistry),
    Open { registry: MemoryRegistry, connection: u64, seen: Option<Vec<ServiceName>> },
    Over,
}

enum Look {
    List(Vec<ServiceName>),
    Gone,
    Wait(Option<Instant>),
}

impl ServicesWatch {
    async fn next(self) -> Option<(Result<Vec<ServiceName>, Error>, Self)> {
        let (registry, connection, seen) = match self {
            Self::Over => return None,
            Self::Opening(registry) => {
                if let Err(error) = registry.enter(Operation::Watch).await {
                    return Some((Err(error), Self::Over));
                }
                let connection = registry.with(|state, _| state.connection);
                (registry, connection, None)
            }
            Self::Open { registry, connection, seen } => (registry, connection, seen),
        };
        let mut changed = registry.subscribe();
        loop {
            match registry.with(|state, _| look(state, connection, seen.as_ref())) {
                Look::List(list) => {
                    let seen = Some(list.clone());
                    return Some((Ok(list), Self::Open { registry, connection, seen }));
                }
                Look::Gone => return Some((Err(watch::closed()), Self::Over)),
                Look::Wait(until) => tokio::select! {
                    _ = changed.changed() => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }
}

fn look(state: &State, connection: u64, seen: Option<&Vec<ServiceName>>) -> Look {
    if state.connection != connection {
        return Look::Gone;
    }
    if state.faults.holds(Operation::Watch) {
        return Look::Wait(None);
    }
    let list = state.services();
    if Some(&list) == seen { Look::Wait(state.next_expiry()) } else { Look::List(list) }
}
