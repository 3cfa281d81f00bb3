//! From one list of a service to the next: who may be used, who is new, who is gone.
//!
//! Who may be used is said by each list alone, whatever came before: whom the server calls healthy, and no operator has
//! disabled. So a look, a watch that begins and one that has run for hours say the same of the same list. That holds
//! below the protection threshold too, where the server calls everybody healthy since too few are: then the judge is
//! suspected rather than all of them, by the operator's own wish, and the balancer finds out who doesn't answer.
//! Nacos' own clients do the same, and lists of v3 don't even tell.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet, hash_map},
    iter,
    sync::Arc,
};

use foldhash::fast::RandomState;
use registry_core::{
    Error, Instance, InstanceId, InstanceKey, ServiceName,
    backend::{Change, Relist, Relisted},
};

use super::{
    answer::List,
    api::Api,
    codec::{Entry, decode, read},
    host::{Host, Texts},
};
use crate::json::{Array, Element, Elements, Pieces};

/// So many keys are looked for by comparing.
const FEW: usize = 4;
/// Entries of fewer bytes are rare.
const SHORT: usize = 256;

/// What one watch knows of its service.
#[derive(Debug)]
pub(crate) struct Lists {
    service: ServiceName,
    /// Stands in keys of entries that aren't to be used.
    hidden_mark: ServiceName,
    relist: Relist,
    hidden: HashSet<InstanceId>,
    is_protected: bool,
    is_open: bool,
    /// Whether the last list had each key once.
    is_unique: bool,
    pieces: Pieces,
}

/// What a list brings.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) changes: Vec<Change>,
    pub(crate) rejected: Vec<InstanceKey>,
}

impl Lists {
    pub(crate) fn new(service: ServiceName) -> Self {
        let mark = if service.as_str() == "-" { "--" } else { "-" };
        let hidden_mark = ServiceName::foreign(mark).expect("a dash is a name");
        Self {
            service,
            hidden_mark,
            relist: Relist::new(),
            hidden: HashSet::new(),
            is_protected: false,
            is_open: false,
            is_unique: false,
            pieces: Pieces::default(),
        }
    }

    /// What a list says by itself: whoever may be used, and the keys that can't be read.
    ///
    /// # Errors
    /// `Protocol` if the body is no list.
    pub(crate) fn once(
        service: ServiceName,
        api: Api,
        body: &[u8],
    ) -> Result<(Vec<Arc<Instance>>, Vec<InstanceKey>), Error> {
        let News { changes, rejected } = Self::new(service).take_body(api, body)?;
        let whole = changes.into_iter().find_map(|change| match change {
            Change::Reset(instances) => Some(instances),
            _ => None,
        });
        Ok((whole.expect("a first list is told whole"), rejected))
    }

    /// # Errors
    /// `Protocol` if the body is no list; then nothing was learnt.
    pub(crate) fn take_body(&mut self, api: Api, body: &[u8]) -> Result<News, Error> {
        let usual = match !self.is_open && self.relist.is_new() {
            true => self.take_first(api, body),
            false => self.take_next(api, body),
        };
        match usual {
            Some(news) => Ok(news),
            None => self.take(&List::parse(api, body)?),
        }
    }

    /// Of a first list everything is new: its entries are read as they are found, which also tells where they end.
    /// `None` if it isn't written as servers write it, and then nothing was learnt.
    fn take_first(&mut self, api: Api, body: &[u8]) -> Option<News> {
        let text = std::str::from_utf8(body).ok()?;
        let open = List::open(api, body)?;
        let hosts = &text[open..];
        let mut array = Array::new(hosts.as_bytes());
        if let Some((_, length)) = Host::plain(hosts, Texts::new()) {
            // Mostly all are about as long as the first.
            self.relist.reserve(hosts.len() / length.max(SHORT));
        }
        let spare = Cell::new(Texts::new());
        let entries = iter::from_fn(|| {
            let rest = &hosts[array.element()?..];
            let entry = match Host::plain(rest, spare.take()) {
                Some((host, length)) => Element::Read(&rest[..length], host),
                None => Elements::new(rest).next()?,
            };
            array.pass(entry.as_ref().len());
            Some(entry)
        });
        let (service, mark, pieces) = (&self.service, &self.hidden_mark, &mut self.pieces);
        pieces.forget();
        let relisted = self.relist.next_by(
            entries,
            |_, entry| pieces.note(entry.as_ref()),
            |entry| match entry {
                Element::Read(_, host) => {
                    let seen = sight(service, mark, read(service, &host));
                    spare.set(host.into_empty());
                    seen
                }
                Element::Raw(raw) => sight(service, mark, decode(service, raw.as_bytes())),
            },
        );
        let is_protected = array.close().and_then(|close| List::around(api, body, open, open + close));
        let Some(is_protected) = is_protected else {
            // It knew nothing before.
            self.relist = Relist::new();
            self.pieces.forget();
            return None;
        };
        self.protect(is_protected, array.met());
        Some(self.news(relisted, true))
    }

    /// Of any other list most is as it was, and where that ends is known. `None` as of a first one.
    fn take_next(&mut self, api: Api, body: &[u8]) -> Option<News> {
        let open = List::open(api, body)?;
        let cut = self.pieces.cut(&body[open..])?;
        let is_protected = List::around(api, body, open, open + cut.close)?;
        let is_anew = !self.is_open || is_protected != self.is_protected;
        if cut.is_same && !is_anew {
            return Some(News::default());
        }
        self.protect(is_protected, cut.len());
        let (service, mark) = (&self.service, &self.hidden_mark);
        let relisted = self.relist.next_by(
            cut.entries(),
            |_, (_, hash)| *hash,
            |(entry, _)| sight(service, mark, decode(service, entry)),
        );
        self.pieces.keep(cut);
        Some(self.news(relisted, is_anew))
    }

    /// However it is written.
    ///
    /// # Errors
    /// `Protocol` if the hosts are no array; then nothing was learnt.
    pub(crate) fn take(&mut self, list: &List<'_>) -> Result<News, Error> {
        // Told whole where entries mean something else than they did.
        let is_anew = !self.is_open || list.is_protected != self.is_protected;
        let entries = list.entries()?;
        self.protect(list.is_protected, entries.len());
        let (service, mark, pieces) = (&self.service, &self.hidden_mark, &mut self.pieces);
        pieces.forget();
        let relisted = self.relist.next_by(
            entries,
            |_, entry| pieces.note(entry),
            |entry| sight(service, mark, decode(service, entry)),
        );
        Ok(self.news(relisted, is_anew))
    }

    fn protect(&mut self, is_protected: bool, instances: usize) {
        if std::mem::replace(&mut self.is_protected, is_protected) != is_protected {
            self.report_protection(instances);
        }
    }

    fn news(&mut self, mut relisted: Relisted, is_anew: bool) -> News {
        // Nobody was told of those.
        relisted.gone.retain(|key| key.service != self.hidden_mark);
        let (hidden, rejected): (Vec<_>, Vec<_>) =
            relisted.rejected.into_iter().partition(|key| key.service == self.hidden_mark);
        self.hidden = hidden.into_iter().map(|key| key.id).collect();
        let total = relisted.instances.len();
        let few = if self.is_unique && !is_anew { &*relisted.changed } else { &[] };
        let instances = match few.len() {
            _ if relisted.is_distinct && !is_anew => relisted.instances,
            // Of those that were each of another key only these can be double.
            1..=FEW if few.iter().all(|one| is_once(one.id(), &relisted.instances)) => relisted.instances,
            _ => unique(relisted.instances),
        };
        self.is_unique = instances.len() == total;
        if self.is_unique {
            self.relist.note_distinct();
        }
        let is_known_hidden = |key: &InstanceKey| self.hidden.contains(&key.id);
        let is_whole = is_anew || instances.len() < total || !relisted.gone.iter().all(is_known_hidden);
        // The server has them but says that nobody should use them: not merely absent.
        let mut changes: Vec<Change> =
            relisted.gone.into_iter().filter(is_known_hidden).map(Change::Remove).collect();
        match is_whole {
            true => changes.push(Change::Reset(instances)),
            false => changes.extend(relisted.changed.into_iter().map(Change::Upsert)),
        }
        self.is_open = true;
        News { changes, rejected }
    }

    fn report_protection(&self, instances: usize) {
        let service = &self.service;
        if self.is_protected {
            tracing::warn!(
                %service,
                instances,
                "the protection threshold is reached: the server calls all instances healthy, and all are used"
            );
        } else {
            tracing::info!(%service, instances, "the protection threshold is no longer reached");
        }
    }
}

/// What becomes of an entry that nothing else is known of.
fn sight(service: &ServiceName, mark: &ServiceName, entry: Entry) -> Result<Instance, Option<InstanceKey>> {
    match entry {
        Entry::Usable(instance) => Ok(instance),
        Entry::Hidden(instance) => Err(Some(InstanceKey::new(mark.clone(), instance.id().clone()))),
        Entry::Spoilt(key, error) => {
            tracing::debug!(%service, ?key, error = format!("{error:#}"), "hides a malformed record");
            Err(Some(InstanceKey::new(mark.clone(), key.id)))
        }
        Entry::Bad(key, error) => {
            tracing::debug!(%service, ?key, error = format!("{error:#}"), "skipped a record");
            Err(key)
        }
    }
}

fn is_once(id: &InstanceId, instances: &[Arc<Instance>]) -> bool {
    instances.iter().filter(|instance| instance.id() == id).nth(1).is_none()
}

/// Each key once: of two records with one id the one that was written later, as far as that can be told, else the first.
fn unique(instances: Vec<Arc<Instance>>) -> Vec<Arc<Instance>> {
    let ids = instances.iter().map(|instance| instance.id());
    if ids.collect::<HashSet<_, RandomState>>().len() == instances.len() {
        return instances;
    }
    let mut places: HashMap<InstanceId, usize> = HashMap::with_capacity(instances.len());
    let mut unique: Vec<Arc<Instance>> = Vec::with_capacity(instances.len());
    for instance in instances {
        match places.entry(instance.id().clone()) {
            hash_map::Entry::Vacant(place) => {
                place.insert(unique.len());
                unique.push(instance);
            }
            hash_map::Entry::Occupied(place) => {
                let held = &mut unique[*place.get()];
                if is_later(&instance, held) {
                    *held = instance;
                }
            }
        }
    }
    unique
}

fn is_later(one: &Instance, other: &Instance) -> bool {
    match (one.record_version(), other.record_version()) {
        (Some(one), Some(other)) if one.incarnation == other.incarnation => {
            (one.epoch, one.sequence) > (other.epoch, other.sequence)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
