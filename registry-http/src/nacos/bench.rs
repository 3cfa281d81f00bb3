//! The way of a body through a watch, without the calls around it.

use std::{collections::BTreeMap, time::Duration};

use registry_core::{Incarnation, Instance, InstanceKey, ServiceName, backend::Change, model::RecordVersion};

use super::{
    api::Api,
    codec::{Patience, Record},
};
use crate::bench::Taken;

/// A watch of one service, by the API of version 1.
#[derive(Debug)]
pub struct Lists(super::lists::Lists);

impl Lists {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self(super::lists::Lists::new(service))
    }

    /// Takes an answer in.
    ///
    /// # Panics
    /// If the body is no list.
    pub fn take(&mut self, body: &[u8]) -> Taken {
        let news = self.0.take_body(Api::V1, body).expect("a list");
        let mut taken = Taken::default();
        for change in news.changes {
            match change {
                Change::Reset(list) => (taken.upserts, taken.is_whole) = (list, true),
                Change::Upsert(instance) => taken.upserts.push(instance),
                Change::Remove(key) => taken.removals.push(key),
                _ => {}
            }
        }
        let _: Vec<InstanceKey> = news.rejected;
        taken
    }
}

/// Weight and metadata of an instance as it is registered.
#[must_use]
pub fn registered(instance: &Instance, ttl: Duration) -> (f64, BTreeMap<String, String>) {
    let version = RecordVersion { incarnation: Incarnation::from_bits(7), epoch: 1, sequence: 1 };
    let record = Record::of(instance, Some(version), Some(Patience::of(ttl)));
    (record.weight, record.metadata)
}
