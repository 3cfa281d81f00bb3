//! What a target asks of Consul.

use std::ops::Range;

use registry_core::{Error, ServiceName, Target};

use super::{
    config::{ConsulConfig, ConsulRead, datacenter},
    names::Names,
    session::Session,
};
use crate::http::{Path, invalid};

/// A target with its qualifiers understood.
///
/// | qualifier | meaning |
/// |---|---|
/// | `dc` | data centres, by comma: the first that has a healthy instance is taken |
/// | `query` | name or id of a prepared query, which is executed instead; the service is what the view is called |
/// | `tag` | only instances with this tag |
/// | `near` | order by distance from this node; `_agent` for the agent's |
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) service: ServiceName,
    pub(super) names: Names,
    /// At least one; `None` is the agent's own.
    pub(super) datacenters: Vec<Option<String>>,
    pub(super) prepared: Option<String>,
    tag: Option<String>,
    near: Option<String>,
}

impl Query {
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) for a qualifier that is unknown or
    /// wrong.
    pub(super) fn new(target: &Target, names: &Names, config: &ConsulConfig) -> Result<Self, Error> {
        let mut query = Self {
            service: target.service().clone(),
            names: names.clone(),
            datacenters: config.datacenters.iter().cloned().map(Some).collect(),
            prepared: None,
            tag: None,
            near: None,
        };
        for (key, value) in target.qualifiers().iter() {
            if value.is_empty() {
                return Err(invalid(format!("the qualifier {key:?} is empty")));
            }
            match key {
                "dc" => {
                    let names = value.split(',').map(|dc| datacenter(dc.trim()).map(Some));
                    query.datacenters = names.collect::<Result<_, _>>()?;
                }
                // These climb in a path, however they are encoded.
                "query" if matches!(value, "." | "..") => {
                    return Err(invalid("the qualifier \"query\" is no name of a prepared query"));
                }
                "query" => query.prepared = Some(value.to_owned()),
                "tag" => query.tag = Some(value.to_owned()),
                "near" => query.near = Some(value.to_owned()),
                _ => {
                    return Err(invalid(format!(
                        "the consul backend knows no qualifier {key:?}; it knows dc, near, query and tag"
                    )));
                }
            }
        }
        if query.prepared.is_some() && query.tag.is_some() {
            return Err(invalid("a prepared query has its own tags; leave the qualifier \"tag\" out"));
        }
        if query.datacenters.is_empty() {
            query.datacenters.push(None);
        }
        Ok(query)
    }

    /// The numbers of its data centres.
    pub(super) fn all(&self) -> Range<usize> {
        0..self.datacenters.len()
    }

    fn tagged(&self) -> Option<String> {
        self.tag.as_deref().map(|tag| format!("{} in Service.Tags", quoted(tag)))
    }

    /// The path that asks the leader for those of a list that a filter lets through; of a prepared query nobody can ask.
    pub(super) fn some(&self, session: &Session, dc: Option<&str>, filter: &str) -> Option<Path> {
        let path = session.path("/v1/health/service", Some(&self.names.service(&self.service)));
        let filter = match self.tagged() {
            Some(tagged) => format!("{tagged} and ({filter})"),
            None => filter.to_owned(),
        };
        self.prepared.is_none().then(|| path.maybe_query("dc", dc).query("filter", &filter))
    }

    /// Whether a service of this name at Consul with these tags would be in the list.
    pub(super) fn is_for(&self, name: &str, tags: &[String]) -> bool {
        name.eq_ignore_ascii_case(&self.names.service(&self.service))
            && self.tag.as_ref().is_none_or(|tag| tags.contains(tag))
    }

    /// The path of one read.
    pub(super) fn path(&self, session: &Session, dc: Option<&str>, read: ConsulRead) -> Path {
        let path = match &self.prepared {
            Some(prepared) => {
                let path = session.path("/v1/query", Some(prepared));
                // Between the name and its parameters.
                path.infix("/execute")
            }
            None => session.path("/v1/health/service", Some(&self.names.service(&self.service))),
        };
        let path = path.maybe_query("dc", dc).maybe_query("near", self.near.as_deref());
        let path = path.maybe_query("filter", self.tagged().as_deref());
        match read {
            ConsulRead::Stale => path.flag("stale"),
            ConsulRead::Consistent => path.flag("consistent"),
            // Not for prepared queries, and a background refresh never ends for what nobody asks again.
            ConsulRead::Cached if self.prepared.is_none() => path.flag("cached"),
            ConsulRead::Cached | ConsulRead::Default => path,
        }
    }
}

/// A string of Consul's filter language: one of Go, save that a quote can't be escaped by a backslash alone.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => literal.push_str("\\\\"),
            '"' | '\0'..='\x1f' | '\x7f' => literal.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}
