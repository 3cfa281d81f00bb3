//! Whose an entry is that can't be read, so that it is told as such and not taken for removed.

use registry_core::InstanceKey;
use serde::Deserialize;
use serde_json::Value;

use super::{Check, Entry, Health, Node, Reading, Service, Text};
use crate::consul::codec;

impl Reading<'_> {
    /// The key of an entry some of whose fields have wrong types, as far as the others tell it; none if it isn't there to
    /// be used.
    pub(super) fn key_at_least(&self, raw: &str) -> Option<InstanceKey> {
        let entry: Value = serde_json::from_str(raw).ok()?;
        let service = entry.get("Service")?;
        let checks: Option<Vec<Check<'_>>> =
            entry.get("Checks").and_then(|told| Deserialize::deserialize(told).ok());
        if checks.is_some_and(|checks| Health::worst(&checks) == Health::Critical) {
            return None;
        }
        let named = Entry {
            node: Some(Node { node: text(entry.get("Node"), "Node"), ..Node::default() }),
            service: Service {
                id: text(Some(service), "ID")?,
                service: text(Some(service), "Service")?,
                ..Service::default()
            },
            checks: None,
        };
        if !self.is_prepared && !self.names.is_name_of(self.service, &named.service.service) {
            return None;
        }
        let is_ours = service.get("Meta").is_some_and(|meta| meta.get(codec::RECORD).is_some());
        let own = self.own_key(&named).filter(|_| is_ours);
        own.or_else(|| self.foreign_key(&named).ok())
    }
}

fn text<'a>(of: Option<&'a Value>, field: &str) -> Option<Text<'a>> {
    Text::deserialize(of?.get(field)?).ok()
}
