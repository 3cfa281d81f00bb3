//! Which services there are, as the asked server knows it.
//!
//! The names come from the whole list, which the client's poll has anyway. A server that has just started knows few of
//! them: a session ends when the list it gives comes from another memory than the one before.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures_util::stream;
use registry_core::{
    Catalogue, Error, ErrorKind, ServiceName,
    backend::{CatalogueStream, SourceId},
};
use tokio::sync::broadcast::error::RecvError;

use super::{
    error::malformed,
    names::Names,
    replica::{Fetched, Replica},
    session::{Hub, Rounds, Session},
};

/// Listing services in Eureka.
#[derive(Clone, Debug)]
pub(crate) struct EurekaCatalogue {
    hub: Arc<Hub>,
    names: Arc<Names>,
}

impl EurekaCatalogue {
    pub(crate) fn new(hub: Arc<Hub>, names: Arc<Names>) -> Self {
        Self { hub, names }
    }

    fn services_of(&self, all: &Replica) -> BTreeSet<ServiceName> {
        let service = |record: &Arc<super::replica::Record>| match self.names.key_of(&record.id) {
            // Ours, as nobody else's ids look like that under this application.
            Some(key) if *self.names.app(&key.service) == *record.app => Some(key.service),
            _ => self.names.foreign_service(&record.app, record.said.vip(false)),
        };
        all.records().filter_map(service).collect()
    }
}

#[async_trait]
impl Catalogue for EurekaCatalogue {
    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        let body = self.hub.api.all(None, "services", None).await?;
        let fetched = Fetched::parse(body.text("services")?);
        let fetched = fetched.map_err(|error| malformed(&body.server, "services", error))?;
        Ok(self.services_of(&Replica::of(fetched.items)).into_iter().collect())
    }

    fn watch_services(&self) -> CatalogueStream {
        let watch = Watch { catalogue: self.clone(), session: None, told: None };
        Box::pin(stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            let item = watch.next().await;
            let next = item.is_ok().then_some(watch);
            Some((item, next))
        }))
    }
}

struct Watch {
    catalogue: EurekaCatalogue,
    session: Option<(Arc<Session>, Rounds)>,
    told: Option<(SourceId, BTreeSet<ServiceName>)>,
}

impl Watch {
    /// The next list that differs from the one told last.
    async fn next(&mut self) -> Result<Vec<ServiceName>, Error> {
        loop {
            match &mut self.session {
                None => {
                    let session = self.catalogue.hub.join(None);
                    let (rounds, _) = session.follow()?;
                    self.session = Some((session, rounds));
                    if let Some(list) = self.look()? {
                        return Ok(list);
                    }
                }
                Some((_, rounds)) => match rounds.recv().await {
                    Ok(round) => {
                        round?;
                        if let Some(list) = self.look()? {
                            return Ok(list);
                        }
                    }
                    // What the rounds said is in the list that the session has.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => {
                        return Err(failed(ErrorKind::Unavailable, "the poll ended"));
                    }
                },
            }
        }
    }

    /// The list as the session has it, if it is news.
    fn look(&mut self) -> Result<Option<Vec<ServiceName>>, Error> {
        let Some((session, _)) = &self.session else { return Ok(None) };
        let Some(latest) = session.follow()?.1 else { return Ok(None) };
        let names = self.catalogue.services_of(&latest.all);
        match &self.told {
            Some((source, _)) if *source != latest.source => {
                return Err(failed(ErrorKind::Compacted, "the registry's data started anew"));
            }
            Some((_, told)) if *told == names => return Ok(None),
            _ => {}
        }
        self.told = Some((latest.source, names.clone()));
        Ok(Some(names.into_iter().collect()))
    }
}

fn failed(kind: ErrorKind, message: &'static str) -> Error {
    Error::new(kind, message).with_context(super::NAME, "watch_services")
}
