//! The way of a body through a watch, without the calls around it.

use std::{collections::BTreeMap, fmt};

use registry_core::{Incarnation, Instance, Namespace, ServiceName, backend::Relist, model::RecordVersion};

use super::{
    codec::encode_meta,
    entry::Reading,
    list::{distinct, is_distinct, take},
    names::Names,
};
use crate::bench::Taken;

/// A watch of one service.
pub struct Lists {
    names: Names,
    service: ServiceName,
    relist: Relist,
    is_open: bool,
    has_doubles: bool,
}

impl Lists {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        let names = Names::new(&Namespace::default());
        Self { names, service, relist: Relist::new(), is_open: false, has_doubles: false }
    }

    /// Takes an answer in; nothing for a body that is the last one over again.
    ///
    /// # Panics
    /// If the body is no list.
    pub fn take(&mut self, body: &[u8]) -> Taken {
        if self.relist.is_same(body) {
            return Taken::default();
        }
        let (names, service) = (&self.names, &self.service);
        let reading = Reading { names, service, home: None, is_remote: false, is_prepared: false };
        let list = take(&mut self.relist, &reading, body).expect("a list").relisted;
        if std::mem::replace(&mut self.is_open, true) {
            let had_doubles = std::mem::replace(&mut self.has_doubles, !is_distinct(&list));
            if !self.has_doubles {
                self.relist.note_distinct();
            }
            if !had_doubles && !self.has_doubles {
                return Taken { upserts: list.changed, removals: list.gone, is_whole: false };
            }
        }
        let listed = list.instances.len();
        let (upserts, _) = distinct(list);
        self.has_doubles = upserts.len() < listed;
        if !self.has_doubles {
            self.relist.note_distinct();
        }
        Taken { upserts, removals: Vec::new(), is_whole: true }
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").field("service", &self.service).finish_non_exhaustive()
    }
}

/// The id and the `Meta` of an instance as it is registered.
///
/// # Panics
/// If it can't be.
#[must_use]
pub fn registered(instance: &Instance) -> (String, BTreeMap<String, String>) {
    let version = RecordVersion { incarnation: Incarnation::from_bits(7), epoch: 1, sequence: 1 };
    let id = Names::new(&Namespace::default()).id(&instance.key());
    (id, encode_meta(instance, version).expect("an instance that fits"))
}
