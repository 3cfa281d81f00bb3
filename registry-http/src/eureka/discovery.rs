//! Looking a target up, and opening watch sessions.

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::{
    Discovery, Error, ServiceName, Target,
    backend::{Cursor, Evidence, Listing, Read, WatchStream},
};

use super::{
    codec::{self, Reading},
    config::Address,
    error::malformed,
    names::Names,
    replica::{Fetched, Record, Replica},
    session::Hub,
    view::View,
    watch,
};
use crate::http::invalid;

const OPERATION: &str = "lookup";

/// Finding in Eureka.
#[derive(Debug)]
pub(crate) struct EurekaDiscovery {
    hub: Arc<Hub>,
    names: Arc<Names>,
    address: Address,
}

/// What a target asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    names: Arc<Names>,
    address: Address,
    service: ServiceName,
    app: Box<str>,
    /// Instances of this vip address, whatever application they are of.
    vip: Option<(Box<str>, bool)>,
    pub(crate) regions: Option<Box<str>>,
}

impl EurekaDiscovery {
    pub(crate) fn new(hub: Arc<Hub>, names: Arc<Names>, address: Address) -> Self {
        Self { hub, names, address }
    }

    fn wanted(&self, target: &Target) -> Result<Wanted, Error> {
        Wanted::of(&self.names, self.address, target)
    }
}

impl Wanted {
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) for a qualifier that Eureka knows
    /// nothing of.
    pub(crate) fn of(names: &Arc<Names>, address: Address, target: &Target) -> Result<Self, Error> {
        let mut wanted = Self {
            names: Arc::clone(names),
            address,
            service: target.service().clone(),
            app: names.app(target.service()).into(),
            vip: None,
            regions: None,
        };
        for (key, value) in target.qualifiers().iter() {
            match key {
                _ if value.is_empty() => return Err(invalid(format!("the qualifier {key:?} is empty"))),
                "vip" | "svip" if wanted.vip.is_none() => wanted.vip = Some((value.into(), key == "svip")),
                "region" => wanted.regions = Some(value.into()),
                _ => {
                    return Err(invalid(format!(
                        "the eureka backend knows no qualifier {key:?}; it knows region, and one of svip and vip"
                    )));
                }
            }
        }
        Ok(wanted)
    }
}

#[async_trait]
impl Discovery for EurekaDiscovery {
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error> {
        let wanted = self.wanted(target).map_err(|error| error.with_context(super::NAME, OPERATION))?;
        let (api, regions) = (&self.hub.api, wanted.regions.as_deref());
        let whole = regions.is_some() || wanted.vip.is_some();
        let one = match whole {
            true => None,
            false => api.application(&wanted.app, read.avoid.clone()).await?,
        };
        let (body, whole) = match one {
            Some(body) => (body, false),
            // There is no such application, or it wasn't Eureka who said so: the list tells.
            None => (api.all(regions, OPERATION, read.avoid.clone()).await?, true),
        };
        let text = body.text(OPERATION)?;
        let fetched = if whole { Fetched::parse(text) } else { Fetched::parse_one(text) };
        let all = fetched.map_err(|error| malformed(&body.server, OPERATION, error))?.items;
        let all = Replica::of(all);
        let found = View::new(wanted.clone()).list(&all);
        let mut evidence = Evidence::default();
        // Another server's answer is a second opinion on the same instances, not the beginning of another life.
        if read.avoid.is_none() {
            evidence.source = self.hub.source_of(regions, &body.server, &all);
        }
        evidence.endpoint = Some(body.server);
        let mut listing = Listing::new(found.instances, evidence);
        listing.rejected = found.rejected;
        Ok(listing)
    }

    fn watch(&self, target: &Target, _cursor: Option<Cursor>) -> WatchStream {
        watch::open(Arc::clone(&self.hub), self.wanted(target))
    }
}

impl Wanted {
    /// The name that it was asked for by.
    pub(crate) fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The records that may belong to it.
    pub(crate) fn records<'a>(&'a self, all: &'a Replica) -> impl Iterator<Item = &'a Arc<Record>> {
        let app = self.vip.is_none().then(|| all.app(&self.app));
        let vip = self
            .vip
            .as_ref()
            .map(|(vip, secure)| all.records().filter(move |record| record.has_vip(vip, *secure)));
        app.into_iter().flatten().chain(vip.into_iter().flatten())
    }

    /// What a record is to whoever asked; nothing if it isn't what was asked for.
    pub(crate) fn see(&self, record: &Record) -> Reading {
        let is_asked_for = match &self.vip {
            None => *record.app == *self.app,
            Some((vip, secure)) => record.has_vip(vip, *secure),
        };
        if !is_asked_for {
            return Reading::Other;
        }
        let (names, service, exact) = (&*self.names, &self.service, self.vip.is_none());
        match &record.unread {
            None => codec::read_info(names, service, exact, self.address, &record.said.info()),
            Some(raw) => codec::read(names, service, exact, self.address, raw),
        }
    }
}
