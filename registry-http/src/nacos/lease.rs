//! A set of instances that are kept alive together: by a beat each, or, if they are persistent, by nothing.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, future::BoxFuture, stream};
use registry_core::{
    Error, ErrorKind, Incarnation, Instance, InstanceKey, Lease, OnDuplicate, ServiceName,
    backend::{Lifetime, Outcome, Presence, Publish, Renewal},
    model::RecordVersion,
};
use tokio::time::{Instant, timeout_at};

use self::brake::Brake;
use super::{
    answer::Beaten,
    api::Subject,
    codec::{Address, Patience, Record},
    journal::{Journal, Line},
    names::Place,
    session::Session,
    standing::{Found, Holder, Standing, Unlisted, unknown},
};
use crate::http::abreast;

mod brake;
mod removal;

/// Requests at the same time.
const AT_ONCE: usize = 16;
/// Answers that come so shortly before the deadline are as good as late.
const MARGIN: Duration = Duration::from_millis(20);
/// Single questions of one look end so long after the look began, lists included. The core gives a look 3 s in all, and
/// forgets all of one that takes longer: one question that hangs would make every instance suspect.
const LOOK: Duration = Duration::from_millis(2800);

/// A lease in name only. Dropping it withdraws nothing.
pub(crate) struct NacosLease {
    session: Arc<Session>,
    journal: Arc<Journal>,
    number: u64,
    lifetime: Lifetime,
    incarnation: Incarnation,
}

/// What a version needs at most, in its record.
pub(crate) fn longest_version() -> RecordVersion {
    // Counters of one a second reach no more digits in a lifetime.
    RecordVersion { incarnation: Incarnation::from_bits(0), epoch: 9_999_999_999, sequence: 9_999_999_999 }
}

/// A record about to be written.
struct Wish<'a> {
    key: InstanceKey,
    address: Address,
    record: Record,
    publish: &'a Publish,
}

/// The lists that were read for one batch, by service.
type Standings = HashMap<ServiceName, Result<Standing, Error>>;

impl NacosLease {
    pub(crate) fn new(
        session: Arc<Session>,
        journal: Arc<Journal>,
        lifetime: Lifetime,
        incarnation: Incarnation,
    ) -> Self {
        let number = journal.lease();
        Self { session, journal, number, lifetime, incarnation }
    }

    fn is_ephemeral(&self) -> bool {
        matches!(self.lifetime, Lifetime::Leased { .. })
    }

    fn place(&self, service: &ServiceName) -> Place {
        Place::new(self.session.config(), self.session.namespace(), service)
    }

    async fn read(
        &self,
        operation: &'static str,
        services: impl Iterator<Item = &ServiceName> + Send,
    ) -> Standings {
        let services: BTreeSet<ServiceName> = services.cloned().collect();
        let read = |service: ServiceName| async move {
            let standing = Standing::read(&self.session, operation, &self.place(&service), &service).await;
            (service, standing)
        };
        stream::iter(services).map(read).buffer_unordered(AT_ONCE).collect().await
    }

    fn wish<'a>(&self, publish: &'a Publish) -> Result<Wish<'a>, Error> {
        let patience = match self.lifetime {
            Lifetime::Leased { ttl } => Some(Patience::of(ttl)),
            _ => None,
        };
        let config = self.session.config();
        let key = publish.instance.key();
        let record = Record::of(&publish.instance, Some(publish.version), patience).marked(publish.version);
        record
            .check(&key, config.max_metadata)
            .map_err(|error| error.with_context(super::NAME, "publish"))?;
        Ok(Wish { key, address: Address::of(&publish.instance, &config.cluster), record, publish })
    }

    /// Whether who stands there has to be known before the record is written. Who takes over has to look once, as an
    /// earlier life may have left the key at another address; and again where it may have left one itself, which by now
    /// may be somebody else's.
    fn needs_look(&self, wish: &Wish<'_>) -> bool {
        wish.publish.on_duplicate == OnDuplicate::Reject
            || !self.is_ephemeral()
            || self.journal.line(&wish.key).is_none()
            || self.journal.tried(&wish.key).iter().any(|tried| *tried != wish.address)
    }

    /// Whether what we have at an address fails the server's probe, so that nobody uses it. Who lives by beats is
    /// unhealthy without them, and mended by the next.
    fn is_failing(&self, standing: &Standing, address: &Address) -> bool {
        let found = standing.at(address).filter(|found| found.is_by(self.incarnation));
        !self.is_ephemeral() && found.is_some_and(|found| found.is_failing)
    }

    /// Whether the wish may be granted.
    fn permit(&self, wish: &Wish<'_>, standing: Option<&Standing>) -> Result<(), Error> {
        let conflict = |message: String| {
            Err(Error::new(ErrorKind::Conflict, message).with_context(super::NAME, "publish"))
        };
        let Wish { key, address, .. } = wish;
        let resident = self.journal.resident(&key.service, address).filter(|resident| resident != key);
        if let Some(resident) = resident {
            return conflict(format!(
                "{address} is where {resident} stands; Nacos knows an instance by its address, so it can't be {key} too"
            ));
        }
        let (OnDuplicate::Reject, Some(standing)) = (wish.publish.on_duplicate, standing) else {
            return Ok(());
        };
        let line = self.journal.line(key);
        if standing.holder(key, line.as_ref(), self.incarnation) == Holder::Other {
            return conflict(format!("another client holds {key}"));
        }
        match standing.at(address) {
            Some(found) if found.id != key.id && !found.is_by(self.incarnation) => {
                conflict(format!("another client holds {address} as {}", found.id))
            }
            _ => Ok(()),
        }
    }

    async fn write(&self, wish: Wish<'_>, standing: Option<&Standing>) -> Outcome {
        let Wish { key, address, mut record, publish } = wish;
        let place = self.place(&key.service);
        let ephemeral = self.is_ephemeral();
        let found = standing.filter(|standing| self.is_failing(standing, &address));
        let found = found.and_then(|standing| standing.at(&address));
        let failing = found.map(|_| {
            let message = format!("nobody uses {key}: the server's probe of {address} fails");
            Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, "publish")
        });
        if let (Some(error), true) =
            (&failing, found.is_some_and(|found| found.version == Some(publish.version)))
        {
            return Err(error.clone());
        }
        // Said to be healthy it would be used until the next probe.
        record.is_healthy = failing.is_none();
        // By the list, or by what we wrote: the same key elsewhere.
        let listed = standing.map_or(&[][..], |standing| standing.of_id(&key.id)).iter();
        let noted = self.journal.line(&key).filter(|line| !line.is_withdrawn).map(|line| line.address);
        let tried = self.journal.tried(&key);
        let is_free = |old: &Address| standing.is_none_or(|standing| standing.is_free(old, &key.id));
        let own = noted.into_iter().chain(tried).filter(is_free);
        let mut left: Vec<Address> = listed.map(|found| found.address.clone()).chain(own).collect();
        left.retain(|old| (&old.ip, old.port) != (&address.ip, address.port));
        left.sort();
        left.dedup();

        self.journal.tries(&key, &address);
        let registered =
            self.session.register(Subject { place: &place, address: &address, ephemeral }, &record).await;
        if let Err(error) = registered {
            if !error.kind().is_ambiguous() {
                self.journal.refused(&key, &address);
            }
            return Err(error);
        }
        let hidden_by = self.journal.line(&key).filter(|line| line.address == address);
        let hidden_by = hidden_by.and_then(|line| line.hidden_by);
        let shown = record.metadata.keys().cloned();
        let hidden_by = hidden_by.map(|keys| keys.iter().cloned().chain(shown).collect::<BTreeSet<_>>());
        let gate = self.journal.wrote(&key, address.clone(), publish.version, self.number, record);
        if let Some(keys) = hidden_by {
            self.unhide(&key, Subject { place: &place, address: &address, ephemeral }, &keys).await;
        }
        if !left.is_empty() {
            // Beats to the old address that could bring it back end first; others are for the new one from now on.
            drop(gate.write().await);
        }
        for old in &left {
            let removed =
                self.session.deregister("publish", Subject { place: &place, address: old, ephemeral }).await;
            match removed {
                // One that nobody beats for goes by itself.
                Err(error) if ephemeral => {
                    tracing::debug!(%key, %old, error = format!("{error:#}"), "left a record at an old address");
                }
                result => result?,
            }
        }
        failing.map_or(Ok(()), Err)
    }

    /// Makes the server show what was written where an operator's edit hides it. If that fails for a while, the next
    /// audit finds it as it was.
    async fn unhide(&self, key: &InstanceKey, subject: Subject<'_>, keys: &BTreeSet<String>) {
        match self.session.unset("publish", subject, keys).await {
            Ok(true) => {
                tracing::info!(%key, "what was edited by an operator is shown anew, save its weight and whether it is enabled");
            }
            Ok(false) if self.journal.sticks(key) => tracing::warn!(
                %key,
                address = %subject.address,
                "an operator's edit hides the metadata of this instance, and those of whoever registers there, until \
                 nobody has for a minute; only operators may undo it: DELETE .../ns/instance/metadata/batch"
            ),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%key, error = format!("{error:#}"), "an operator's edit isn't undone yet");
            }
        }
    }

    /// What is told of a record that was written last here and that an edit hides: if that can be mended, that it has to
    /// be written again.
    fn edited(&self, key: &InstanceKey, line: &Line, found: &Found) -> Presence {
        if line.is_stuck {
            return Presence::Ours { version: line.version };
        }
        self.journal.hides(key, &found.keys);
        Presence::Ours { version: unknown(self.incarnation) }
    }

    /// `None` for what isn't to be kept alive, or no longer by this lease.
    async fn beat(&self, key: &InstanceKey, until: Instant) -> Option<Result<Beaten, Error>> {
        let beat = async {
            let mut line = self.journal.beat(key, self.number)?;
            let mut is_full = self.session.wants_full_beats();
            loop {
                let gate = Arc::clone(&line.gate);
                let _passage = if is_full { Some(gate.read().await) } else { None };
                // It may have been left or moved meanwhile.
                line = self.journal.beat(key, self.number)?;
                let place = self.place(&key.service);
                let subject = Subject { place: &place, address: &line.address, ephemeral: true };
                let record = is_full.then_some(&*line.record);
                let began = Instant::now();
                match self.session.beat(subject, record, until).await {
                    Ok(Beaten::TooLight) if !is_full => is_full = true,
                    beaten => {
                        // Whom the end of the time cut off comes first in the next round.
                        if beaten.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::Timeout) {
                            self.journal.beaten(key, began);
                        }
                        return Some(beaten);
                    }
                }
            }
        };
        let late = || {
            Error::new(ErrorKind::Timeout, "no answer to the beat in time").with_context(super::NAME, "renew")
        };
        timeout_at(until, beat).await.unwrap_or_else(|_| Some(Err(late())))
    }

    /// What becomes of a key that is in no list: who is disabled by an operator is there all the same, and kept alive by
    /// beats.
    async fn judge_unlisted(&self, key: &InstanceKey, standing: &Standing, until: Instant) -> Presence {
        let Some(line) = self.journal.beat(key, self.number) else { return Presence::Missing };
        let place = self.place(&key.service);
        let subject = Subject { place: &place, address: &line.address, ephemeral: self.is_ephemeral() };
        match standing.unlisted(&self.session, "inspect", &key.service, subject, until).await {
            Ok(Unlisted::Found(found)) if found.is_edited(key, &line) => self.edited(key, &line, &found),
            Ok(Unlisted::Found(found)) if found.id == key.id && found.is_by(self.incarnation) => {
                let version = found.version.filter(|version| version.incarnation == self.incarnation);
                Presence::Ours { version: version.unwrap_or(unknown(self.incarnation)) }
            }
            // Whoever else registered there would be listed.
            Ok(Unlisted::Somebody) => Presence::Ours { version: line.version },
            Ok(Unlisted::Found(_) | Unlisted::Nobody) => Presence::Missing,
            Err(error) => {
                tracing::debug!(%key, error = format!("{error:#}"), "nobody tells whether the record is disabled");
                Presence::Unknown
            }
        }
    }

    fn judge(&self, key: &InstanceKey, standing: &Standing) -> Presence {
        let line = self.journal.line(key);
        if let Some(line) = line.as_ref().filter(|line| line.lease == self.number && !line.is_recent())
            && let Some(found) = standing.edited(key, line)
        {
            return self.edited(key, line, found);
        }
        match standing.holder(key, line.as_ref(), self.incarnation) {
            Holder::Nobody => Presence::Missing,
            Holder::Other => {
                // Another took over, maybe at our own address: our beats would keep alive what is its.
                if line.is_some_and(|line| line.lease == self.number) {
                    self.journal.forget(key);
                }
                Presence::Foreign
            }
            Holder::Ours(version) => match line.filter(|line| line.lease == self.number) {
                Some(line) if !line.is_recent() && self.is_failing(standing, &line.address) => {
                    Presence::Failing
                }
                Some(_) => Presence::Ours { version },
                None => Presence::Missing,
            },
        }
    }
}

#[async_trait]
impl Lease for NacosLease {
    fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let wishes: Vec<Result<Wish<'_>, Error>> = records.iter().map(|record| self.wish(record)).collect();
        let looked_at = wishes.iter().flatten().filter(|wish| self.needs_look(wish));
        let standings = self.read("publish", looked_at.map(|wish| &wish.key.service)).await;
        let standings = &standings;
        let mut taken: HashMap<(ServiceName, String, u16), InstanceKey> = HashMap::new();
        let granted: Vec<Result<_, Error>> = wishes
            .into_iter()
            .map(|wish| {
                let wish = wish?;
                let standing = match standings.get(&wish.key.service) {
                    Some(Ok(standing)) => Some(standing),
                    // Who takes over may write without being allowed to read.
                    Some(Err(error))
                        if error.kind() == ErrorKind::PermissionDenied
                            && wish.publish.on_duplicate == OnDuplicate::TakeOver =>
                    {
                        None
                    }
                    Some(Err(error)) => return Err(error.clone()),
                    None => None,
                };
                self.permit(&wish, standing)?;
                let address = (wish.key.service.clone(), wish.address.ip.clone(), wish.address.port);
                if let Some(other) =
                    taken.insert(address, wish.key.clone()).filter(|other| *other != wish.key)
                {
                    let message =
                        format!("{other} and {} have one address; to Nacos they are one instance", wish.key);
                    return Err(Error::new(ErrorKind::Conflict, message).with_context(super::NAME, "publish"));
                }
                Ok((wish, standing))
            })
            .collect();
        let brake = Brake::default();
        let brake = &brake;
        let mut writes: Vec<BoxFuture<'_, Outcome>> = Vec::with_capacity(granted.len());
        for granted in granted {
            writes.push(match granted {
                Ok((wish, standing)) => Box::pin(async move {
                    match brake.is_on() {
                        Some(error) => Err(error),
                        None => self.write(wish, standing).await.inspect_err(|error| brake.feel(error)),
                    }
                }),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            });
        }
        abreast(writes, AT_ONCE).await
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        self.remove("withdraw", instances.iter().map(|instance| instance.key()).collect(), None).await
    }

    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error> {
        let Lifetime::Leased { ttl } = self.lifetime else { return Ok(Renewal::default()) };
        let until = deadline.checked_sub(MARGIN).unwrap_or(deadline);
        let held = self.journal.beating(self.number);
        let brake = Brake::default();
        let mut beats: Vec<BoxFuture<'_, Option<Result<Beaten, Error>>>> = Vec::with_capacity(held.len());
        for key in &held {
            beats.push(Box::pin(async {
                if let Some(error) = brake.is_on() {
                    return Some(Err(error));
                }
                let beaten = self.beat(key, until).await;
                beaten.map(|beaten| beaten.inspect_err(|error| brake.feel(error)))
            }));
        }
        let beaten = abreast(beats, AT_ONCE).await;
        let mut renewal = Renewal::granted(ttl);
        let mut failure = None;
        let mut answered = false;
        for (key, beaten) in held.iter().zip(beaten) {
            // What was left meanwhile is neither lost nor missed.
            let Some(beaten) = beaten.filter(|_| self.journal.beat(key, self.number).is_some()) else {
                continue;
            };
            match beaten {
                Ok(Beaten::Alive { next }) => {
                    answered = true;
                    let next = next.map(Duration::from_millis);
                    renewal.renew_after = [renewal.renew_after, next].into_iter().flatten().min();
                }
                Ok(Beaten::Unknown) => {
                    answered = true;
                    renewal.lost.push(key.clone());
                }
                Ok(Beaten::TooLight) => renewal.missed.push(key.clone()),
                Err(error) => {
                    tracing::debug!(%key, error = format!("{error:#}"), "a beat was missed");
                    renewal.missed.push(key.clone());
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if !answered => Err(error),
            _ => Ok(renewal),
        }
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        let began = Instant::now();
        let standings = self.read("inspect", keys.iter().map(|key| &key.service)).await;
        // However many are missing.
        let until = (began + LOOK).min(Instant::now() + self.session.servers().config().request_timeout);
        let is_any = standings.values().any(Result::is_ok);
        let presence = |key: &InstanceKey| match &standings[&key.service] {
            Ok(standing) => Ok(self.judge(key, standing)),
            // What could be read counts.
            Err(error) if is_any => {
                tracing::debug!(%key, error = format!("{error:#}"), "the record can't be read back");
                Ok(Presence::Unknown)
            }
            Err(error) => Err(error.clone()),
        };
        let judged: Vec<Presence> = keys.iter().map(presence).collect::<Result<_, _>>()?;
        let mut presences: Vec<BoxFuture<'_, Presence>> = Vec::with_capacity(keys.len());
        for (key, presence) in keys.iter().zip(judged) {
            presences.push(match (presence, &standings[&key.service]) {
                (Presence::Missing, Ok(standing)) => Box::pin(self.judge_unlisted(key, standing, until)),
                (presence, _) => Box::pin(std::future::ready(presence)),
            });
        }
        Ok(abreast(presences, AT_ONCE).await)
    }

    async fn revoke(&self) -> Result<(), Error> {
        self.remove("revoke", self.journal.held_by(self.number), Some(self.number))
            .await
            .into_iter()
            .collect()
    }
}

impl fmt::Debug for NacosLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NacosLease")
            .field("number", &self.number)
            .field("lifetime", &self.lifetime)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
