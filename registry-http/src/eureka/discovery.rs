//! Looking a target up, and opening watch sessions.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use registry_core::{
    Discovery, Error, InstanceKey, ServiceName, Target,
    backend::{Cursor, Evidence, Listing, Read, WatchStream},
    model::Instance,
};

use super::{
    codec::{self, Reading},
    config::Address,
    error::malformed,
    names::Names,
    replica::{Fetched, Record, Replica},
    session::Hub,
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

/// What was found, each key once.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) rejected: Vec<InstanceKey>,
}

impl EurekaDiscovery {
    pub(crate) fn new(hub: Arc<Hub>, names: Arc<Names>, address: Address) -> Self {
        Self { hub, names, address }
    }

    fn wanted(&self, target: &Target) -> Result<Wanted, Error> {
        let mut wanted = Wanted::service(Arc::clone(&self.names), self.address, target.service());
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
        let found = wanted.find(&all);
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
    pub(crate) fn service(names: Arc<Names>, address: Address, service: &ServiceName) -> Self {
        let app = names.app(service).into();
        Self { names, address, service: service.clone(), app, vip: None, regions: None }
    }

    /// All that a complete list has of it.
    pub(crate) fn find(&self, all: &Replica) -> Found {
        let mut found = Found::default();
        let mut seen = HashSet::new();
        let records: Box<dyn Iterator<Item = &Arc<Record>> + Send> = match &self.vip {
            None => Box::new(all.app(&self.app)),
            Some((vip, secure)) => Box::new(all.records().filter(|record| record.has_vip(vip, *secure))),
        };
        for record in records {
            found.add(self.read(&record.raw), &mut seen);
        }
        found
    }

    /// What a record is to whoever asked; nothing if it isn't what was asked for.
    pub(crate) fn see(&self, record: &Record) -> Reading {
        let is_asked_for = match &self.vip {
            None => *record.app == *self.app,
            Some((vip, secure)) => record.has_vip(vip, *secure),
        };
        if is_asked_for { self.read(&record.raw) } else { Reading::Other }
    }

    fn read(&self, raw: &str) -> Reading {
        codec::read(&self.names, &self.service, self.vip.is_none(), self.address, raw)
    }
}

impl Found {
    fn add(&mut self, reading: Reading, seen: &mut HashSet<InstanceKey>) {
        match reading {
            Reading::Instance(instance) => {
                if seen.insert(instance.key()) {
                    self.instances.push(Arc::new(*instance));
                } else {
                    tracing::debug!(key = %instance.key(), "skipped the second instance of one id");
                }
            }
            Reading::Other => {}
            Reading::Malformed(key, error) => {
                tracing::debug!(?key, error = format!("{error:#}"), "skipped a record");
                self.rejected.extend(key.filter(|key| !seen.contains(key)));
            }
        }
    }
}
