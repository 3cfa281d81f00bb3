//! Who stands in a service, read before a record is replaced or removed: Nacos has no compare-and-set.
//!
//! Between the reading and the writing another client may write, and a list is up to a second old: a duplicate that
//! comes within that time isn't noticed.

use std::{collections::HashMap, sync::Arc};

use registry_core::{Error, Incarnation, InstanceId, InstanceKey, ServiceName, model::RecordVersion};
use tokio::time::Instant;

use super::{
    answer::{self, List},
    api::Subject,
    codec::{Address, Entry, decode, is_reserved},
    host::Host,
    journal::Line,
    mark,
    names::{Place, Wanted},
    session::{One, Session},
};

/// A record in a list.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) id: InstanceId,
    pub(crate) address: Address,
    /// Who wrote it, unless an operator's edit says otherwise; `None` without any mark of ours.
    pub(crate) version: Option<RecordVersion>,
    /// The server calls it unhealthy: so nobody uses it.
    pub(crate) is_failing: bool,
    /// The keys in it that aren't the user's.
    pub(crate) keys: Vec<String>,
}

impl Found {
    /// Whether we were the last who wrote it.
    pub(crate) fn is_by(&self, us: Incarnation) -> bool {
        mark::is_by(us, &self.keys, self.version)
    }

    /// Whether it is what was written last here, and an edit hides that.
    pub(crate) fn is_edited(&self, key: &InstanceKey, line: &Line) -> bool {
        let is_shown = self.id == key.id && self.version == Some(line.version);
        self.is_by(line.version.incarnation) && !is_shown && self.keys.contains(&mark::mark(line.version))
    }
}

/// Who stands at an address that is in no list.
#[derive(Debug)]
pub(crate) enum Unlisted {
    Nobody,
    Found(Found),
    /// There is one, and its record is not for us to read.
    Somebody,
}

/// All records of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    by_id: HashMap<InstanceId, Vec<Found>>,
    by_address: HashMap<(String, u16), Found>,
    /// Who said so.
    server: Arc<str>,
}

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    Ours(RecordVersion),
    Other,
}

impl Standing {
    /// # Errors
    /// What kept the list from being read.
    pub(crate) async fn read(
        session: &Session,
        operation: &'static str,
        place: &Place,
        service: &ServiceName,
    ) -> Result<Self, Error> {
        let wanted = Wanted { place: place.clone(), clusters: String::new() };
        let listed = session.list(operation, &wanted, None, None).await?;
        let entries = List::parse(listed.api, &listed.answer.body).and_then(|list| {
            Ok(list.entries()?.into_iter().filter_map(|entry| found(service, entry)).collect::<Vec<_>>())
        });
        let entries = entries.map_err(|error| error.with_context(super::NAME, operation))?;
        Ok(Self::of(listed.answer.server, entries))
    }

    fn of(server: Arc<str>, all: Vec<Found>) -> Self {
        let mut standing = Self { server, ..Self::default() };
        for found in all {
            standing.by_address.insert((found.address.ip.clone(), found.address.port), found.clone());
            standing.by_id.entry(found.id.clone()).or_default().push(found);
        }
        standing
    }

    /// What the server that gave the list has at an address that isn't in it: lists leave out whom an operator has
    /// disabled. A server of 3.x that tells that to others takes beats for whom it has, and for nobody else.
    ///
    /// # Errors
    /// What kept the server from answering.
    pub(crate) async fn unlisted(
        &self,
        session: &Session,
        operation: &'static str,
        service: &ServiceName,
        subject: Subject<'_>,
        until: Instant,
    ) -> Result<Unlisted, Error> {
        Ok(match session.one(operation, subject, Arc::clone(&self.server), until).await? {
            One::Told(told) => answer::one(told.api, &told.answer.body)
                .and_then(|entry| found(service, entry))
                .map_or(Unlisted::Nobody, Unlisted::Found),
            One::Nothing => Unlisted::Nobody,
            One::Secret => match subject.ephemeral {
                true if session.has_by_beat(subject, Arc::clone(&self.server), until).await? => {
                    Unlisted::Somebody
                }
                // Nothing else shows that a persistent one was deleted.
                _ => Unlisted::Nobody,
            },
        })
    }

    /// Where records of a key stand.
    pub(crate) fn of_id(&self, id: &InstanceId) -> &[Found] {
        self.by_id.get(id).map_or(&[], Vec::as_slice)
    }

    /// What stands at an address.
    pub(crate) fn at(&self, address: &Address) -> Option<&Found> {
        self.by_address.get(&(address.ip.clone(), address.port))
    }

    /// Whether nobody else stands at an address.
    pub(crate) fn is_free(&self, address: &Address, id: &InstanceId) -> bool {
        self.at(address).is_none_or(|found| found.id == *id)
    }

    /// What was written last here, if an edit hides it.
    pub(crate) fn edited(&self, key: &InstanceKey, line: &Line) -> Option<&Found> {
        self.at(&line.address).filter(|found| !line.is_withdrawn && found.is_edited(key, line))
    }

    /// Whose a key is, by what was written here lately, else by the list.
    pub(crate) fn holder(&self, key: &InstanceKey, line: Option<&Line>, us: Incarnation) -> Holder {
        if let Some(line) = line.filter(|line| line.is_recent()) {
            return match line {
                line if line.is_withdrawn => Holder::Nobody,
                line if line.version.incarnation == us => Holder::Ours(line.version),
                _ => Holder::Other,
            };
        }
        if let Some(line) = line.filter(|line| self.edited(key, line).is_some()) {
            return Holder::Ours(line.version);
        }
        let mut holder = Holder::Nobody;
        for found in self.of_id(&key.id) {
            match found.version {
                Some(version) if found.is_by(us) && version.incarnation == us => {
                    return Holder::Ours(version);
                }
                // Of ours, and not the last: whatever is to stand there, this isn't it.
                _ if found.is_by(us) => return Holder::Ours(unknown(us)),
                _ => holder = Holder::Other,
            }
        }
        holder
    }
}

/// A version that is none of those that were ever written.
pub(crate) fn unknown(us: Incarnation) -> RecordVersion {
    RecordVersion { incarnation: us, epoch: 0, sequence: 0 }
}

fn found(service: &ServiceName, entry: &[u8]) -> Option<Found> {
    let instance = match decode(service, entry) {
        Entry::Usable(instance) | Entry::Hidden(instance) => instance,
        Entry::Spoilt(..) | Entry::Bad(..) => return None,
    };
    let host = serde_json::from_slice::<Host<'_>>(entry).ok()?;
    let keys = host.metadata().map(|(key, _)| key).filter(|key| is_reserved(key)).map(str::to_owned);
    let (keys, address) = (keys.collect(), host.address()?);
    let is_failing = !host.is_healthy();
    Some(Found { id: instance.id().clone(), address, version: instance.record_version(), is_failing, keys })
}
