//! What can be seen of a registry and of those who use it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use registry_core::{
    Diff, Error, Instance, InstanceKey, Phase, RegistrationEvent, ViewState,
    backend::{Change, SourceId},
};

use super::resources::Resources;

/// Instances by key; shared, as most observations repeat them.
pub type Records = Arc<BTreeMap<InstanceKey, Arc<Instance>>>;

/// The records of a listing.
pub fn records<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Records {
    Arc::new(instances.into_iter().map(|instance| (instance.key(), Arc::clone(instance))).collect())
}

/// One thing that was seen. Names of clients, readers and watchers are the run's own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Observation {
    /// Something for the reader of a report.
    Mark(Arc<str>),
    /// From here on the registry can't be reached by who is under test.
    Outage(Arc<str>),
    /// From here on the registry may be reached now and then: an outage is being ended.
    Ending(Arc<str>),
    /// From here on the registry can be reached and works; the bounds of recovery count from the latest one.
    Usable(Arc<str>),
    /// A client was asked to keep this registered.
    Wanted {
        /// By whom.
        client: Arc<str>,
        /// What the registry shall hold.
        instance: Arc<Instance>,
    },
    /// A client has deregistered, and its call has returned.
    Unwanted {
        /// Who.
        client: Arc<str>,
        /// What.
        key: InstanceKey,
        /// Whether the registry has confirmed it; otherwise the record may stand until its time to live ends.
        confirmed: bool,
    },
    /// Somebody else has removed the record, which took effect before this.
    Gone {
        /// Whose record.
        key: InstanceKey,
        /// How.
        why: Arc<str>,
    },
    /// What a client told about a registration.
    Event {
        /// Who told it.
        client: Arc<str>,
        /// About whom.
        key: InstanceKey,
        /// What.
        event: RegistrationEvent,
    },
    /// What a client claimed of a registration when it was asked.
    Status {
        /// Who claimed it.
        client: Arc<str>,
        /// Of whom.
        key: InstanceKey,
        /// What.
        phase: Phase,
    },
    /// What the registry really holds, asked past every fault.
    Truth(Records),
    /// What a reader shows.
    View(View),
    /// A step of a reader's stream of changes.
    Change {
        /// Whose.
        reader: Arc<str>,
        /// What differs from the step before.
        diff: Arc<Diff>,
        /// The view after it.
        records: Records,
    },
    /// A pick.
    Pick {
        /// Whose.
        reader: Arc<str>,
        /// Whether it gave an instance.
        ok: bool,
        /// How long it took; the longest of those that one entry stands for.
        took: Duration,
    },
    /// A request that reached an instance.
    Request {
        /// Who sent it.
        caller: Arc<str>,
        /// Where it went.
        instance: InstanceKey,
        /// Whether it succeeded.
        ok: bool,
    },
    /// A caller was told that it keeps requests from this instance, for the first time or for longer.
    Ejected {
        /// Which caller.
        caller: Arc<str>,
        /// Which instance.
        instance: InstanceKey,
    },
    /// How many instances a caller keeps requests from.
    Ejections {
        /// Which caller.
        caller: Arc<str>,
        /// How many.
        ejected: usize,
        /// Of how many that serve.
        serving: usize,
    },
    /// A caller was told that it ignores ejection from now on, or no longer.
    Panic {
        /// Which caller.
        caller: Arc<str>,
        /// Whether panic begins.
        on: bool,
    },
    /// What a watch of the backend itself yielded.
    Watched {
        /// Who watches.
        watcher: Arc<str>,
        /// Counts its sessions, from 1.
        session: u32,
        /// The registry's revision, if it tells.
        revision: Option<u64>,
        /// The incarnation of the registry's data, if it tells.
        source: Option<SourceId>,
        /// What changed, in order.
        changes: Arc<[Change]>,
    },
    /// A renewal that ended.
    Renewal {
        /// Whose.
        client: Arc<str>,
        /// When it was sent.
        sent: Duration,
        /// Whether the registry granted it.
        ok: bool,
    },
    /// A call that arrived at the registry.
    Attempt {
        /// Whose.
        client: Arc<str>,
    },
    /// A call of the public API that was waited for.
    Call {
        /// Which, such as `discover`.
        what: Arc<str>,
        /// How long it took.
        took: Duration,
        /// How it ended.
        outcome: Result<(), Error>,
    },
    /// What the process held.
    Resources(Resources),
}

/// What a reader shows at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct View {
    /// Whose.
    pub reader: Arc<str>,
    /// The reader's own count of versions; 0 before the first.
    pub version: u64,
    /// The registry's revision, if known.
    pub revision: Option<u64>,
    /// The incarnation of the registry's data, if known.
    pub source: Option<SourceId>,
    /// The instances.
    pub records: Records,
    /// How far it claims to be trusted.
    pub state: ViewState,
    /// How many it keeps although a list no longer has them.
    pub held: usize,
    /// How many records it has left out since its start.
    pub rejected: u64,
}

impl View {
    /// A view of these instances, with nothing known beyond.
    #[must_use]
    pub fn new(reader: impl AsRef<str>, version: u64, records: Records, state: ViewState) -> Self {
        let reader = reader.as_ref().into();
        Self { reader, version, revision: None, source: None, records, state, held: 0, rejected: 0 }
    }

    fn is_same(&self, other: &Self) -> bool {
        // A version is immutable, so the records needn't be compared.
        self.version == other.version
            && self.revision == other.revision
            && self.source == other.source
            && self.state == other.state
            && self.held == other.held
            && self.rejected == other.rejected
            && self.records.len() == other.records.len()
    }
}

/// What an observation is about: of each, compaction keeps the latest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Mark,
    Contact,
    Want(Arc<str>, InstanceKey),
    Gone(InstanceKey),
    Loss(Arc<str>, InstanceKey),
    Event(Arc<str>, InstanceKey),
    Status(Arc<str>, InstanceKey),
    Truth,
    View(Arc<str>),
    Change(Arc<str>),
    Pick(Arc<str>),
    Request(Arc<str>, InstanceKey),
    Ejected(Arc<str>, InstanceKey),
    Ejections(Arc<str>),
    Panic(Arc<str>),
    Watched(Arc<str>),
    Renewal(Arc<str>, bool),
    Attempt(Arc<str>),
    Call(Arc<str>),
    Resources,
}

/// What a [`Fleet`](super::Fleet) of one's own writes down.
impl Observation {
    /// A client was asked to keep this registered, from now on.
    #[must_use]
    pub fn wanted(client: &Arc<str>, instance: Arc<Instance>) -> Self {
        Self::Wanted { client: Arc::clone(client), instance }
    }

    /// A client has deregistered, and its call has returned.
    #[must_use]
    pub fn unwanted(client: &Arc<str>, key: InstanceKey, confirmed: bool) -> Self {
        Self::Unwanted { client: Arc::clone(client), key, confirmed }
    }

    /// A client told something about a registration.
    #[must_use]
    pub fn event(client: &Arc<str>, key: InstanceKey, event: RegistrationEvent) -> Self {
        Self::Event { client: Arc::clone(client), key, event }
    }
}

impl Observation {
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Mark(_) => Subject::Mark,
            Self::Outage(_) | Self::Ending(_) | Self::Usable(_) => Subject::Contact,
            Self::Wanted { client, instance } => Subject::Want(Arc::clone(client), instance.key()),
            Self::Unwanted { client, key, .. } => Subject::Want(Arc::clone(client), key.clone()),
            Self::Gone { key, .. } => Subject::Gone(key.clone()),
            Self::Event { client, key, event } => match event {
                RegistrationEvent::Registered { .. }
                | RegistrationEvent::Lost { .. }
                | RegistrationEvent::Recovered { .. }
                | RegistrationEvent::Deregistered { .. } => Subject::Loss(Arc::clone(client), key.clone()),
                _ => Subject::Event(Arc::clone(client), key.clone()),
            },
            Self::Status { client, key, .. } => Subject::Status(Arc::clone(client), key.clone()),
            Self::Truth(_) => Subject::Truth,
            Self::View(view) => Subject::View(Arc::clone(&view.reader)),
            Self::Change { reader, .. } => Subject::Change(Arc::clone(reader)),
            Self::Pick { reader, .. } => Subject::Pick(Arc::clone(reader)),
            Self::Request { caller, instance, .. } => Subject::Request(Arc::clone(caller), instance.clone()),
            Self::Ejected { caller, instance } => Subject::Ejected(Arc::clone(caller), instance.clone()),
            Self::Ejections { caller, .. } => Subject::Ejections(Arc::clone(caller)),
            Self::Panic { caller, .. } => Subject::Panic(Arc::clone(caller)),
            Self::Watched { watcher, .. } => Subject::Watched(Arc::clone(watcher)),
            Self::Renewal { client, ok, .. } => Subject::Renewal(Arc::clone(client), *ok),
            Self::Attempt { client } => Subject::Attempt(Arc::clone(client)),
            Self::Call { what, .. } => Subject::Call(Arc::clone(what)),
            Self::Resources(_) => Subject::Resources,
        }
    }

    /// Takes in a later sample of the same subject if it says the same.
    pub(crate) fn absorb(&mut self, later: &Self) -> bool {
        match (self, later) {
            (Self::Status { phase, .. }, Self::Status { phase: later, .. }) => phase == later,
            (Self::Truth(records), Self::Truth(later)) => is_same(records, later),
            (Self::View(view), Self::View(later)) => view.is_same(later),
            (
                Self::Ejections { ejected, serving, .. },
                Self::Ejections { ejected: later, serving: later_serving, .. },
            ) => ejected == later && serving == later_serving,
            (Self::Pick { ok, took, .. }, Self::Pick { ok: later_ok, took: later, .. }) => {
                *took = (*took).max(*later);
                ok == later_ok
            }
            _ => false,
        }
    }
}

/// Whether both hold the same records, publication included.
pub(crate) fn is_same(a: &Records, b: &Records) -> bool {
    Arc::ptr_eq(a, b)
        || a.len() == b.len()
            && a.iter().zip(b.iter()).all(|((a_key, a), (b_key, b))| a_key == b_key && a.is_same_record(b))
}
