//! Looking a target up, and opening watch sessions.
//!
//! Nacos gives its data no name: there is no id of a cluster, `lastRefTime` is the clock of whichever server answers and
//! new in each answer, `checksum` is empty, and the terms of raft are about persistent instances and start anew with a
//! server that was wiped. Ephemeral instances are forgotten in a restart without any sign. That data may have started
//! anew is told by servers that were away: then they are of another [source](registry_core::backend::SourceId)
//! (`eras.rs`).

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::{
    Discovery, Error, Target,
    backend::{Cursor, Evidence, Listing, Read, WatchStream},
};

use super::{eras::Eras, lists::Lists, names::Wanted, push::Pushes, session::Session, watch};

/// Finding in Nacos.
#[derive(Debug)]
pub(crate) struct NacosDiscovery {
    session: Arc<Session>,
    pushes: Arc<Pushes>,
}

impl NacosDiscovery {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, pushes: Arc::default() }
    }
}

#[async_trait]
impl Discovery for NacosDiscovery {
    /// All servers of a cluster answer from what they have; there is no consistency to choose.
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error> {
        let wanted = Wanted::of(self.session.config(), self.session.namespace(), target)?;
        let listed = self.session.list("lookup", &wanted, None, read.avoid.clone()).await?;
        let list = Lists::once(target.service().clone(), listed.api, &listed.answer.body);
        let (instances, rejected) = list.map_err(|error| error.with_context(super::NAME, "lookup"))?;
        let mut listing = Listing::new(instances, Evidence::default());
        listing.rejected = rejected;
        listing.evidence.endpoint = Some(listed.answer.server);
        listing.evidence.source = Some(Eras::source(self.session.era()));
        Ok(listing)
    }

    fn watch(&self, target: &Target, _cursor: Option<Cursor>) -> WatchStream {
        watch::open(Arc::clone(&self.session), Arc::clone(&self.pushes), target.clone())
    }
}
