//! A set of instances and their beats.
//!
//! Eureka compares nothing but timestamps when it takes a registration. So the record that stands there is read just
//! before a write or a removal, past the server's cache; what happens between the two can't be helped.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, future::BoxFuture, stream};
use registry_core::{
    Error, ErrorKind, Incarnation, Instance, InstanceKey, Lease, OnDuplicate, Status,
    backend::{Lifetime, Outcome, Presence, Publish, Renewal},
    model::RecordVersion,
};
use tokio::time::{Instant, timeout_at};

use super::{
    absence::Deniers,
    api::{Api, Body, Known, Place},
    codec::{self, Marks},
    envelope,
    error::{contradicted, malformed},
    names::Names,
    registry::{Holding, Ledger},
    wire::Info,
};
use crate::http::abreast;

/// Requests of one call that are on their way at once.
pub(crate) const AT_ONCE: usize = 32;
/// What a renewal leaves of its time to tell the result: at least, at most.
const MARGIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// A virtual lease. Dropping it neither withdraws nor cancels anything.
pub(crate) struct EurekaLease {
    api: Arc<Api>,
    names: Arc<Names>,
    ledger: Arc<Ledger>,
    id: u64,
    incarnation: Incarnation,
    ttl: Duration,
}

/// The record that stands under a key of ours.
struct Standing {
    /// Whose it is; none if it bears no mark of ours, or a broken one.
    version: Option<RecordVersion>,
    dirty: Option<u64>,
    /// Whether its writer wanted it drained, and it is.
    was_drained: bool,
    /// Whether an override was ended without a status to follow it: its beats are denied until it is registered anew.
    is_unknown: bool,
}

impl EurekaLease {
    pub(crate) fn new(
        api: Arc<Api>,
        names: Arc<Names>,
        ledger: Arc<Ledger>,
        id: u64,
        incarnation: Incarnation,
        seconds: u64,
    ) -> Self {
        Self { api, names, ledger, id, incarnation, ttl: Duration::from_secs(seconds) }
    }

    fn place(&self, key: &InstanceKey) -> Place {
        Place { app: self.names.app(&key.service).into(), id: self.names.instance_id(key).into() }
    }

    /// What stands there by the first answer; none after a 404 of anybody.
    async fn standing(
        &self,
        place: &Place,
        operation: &'static str,
        until: Instant,
    ) -> Result<Option<Standing>, Error> {
        match self.api.instance(place, None, operation, until).await? {
            Known::Yes(body) => self.read(&body, operation).map(Some),
            Known::Denied(_) => Ok(None),
        }
    }

    /// What stands there indeed.
    async fn proven(
        &self,
        place: &Place,
        deniers: &Deniers,
        operation: &'static str,
        until: Instant,
    ) -> Result<Option<Standing>, Error> {
        match self.api.instance(place, None, operation, until).await? {
            Known::Yes(body) => self.read(&body, operation).map(Some),
            Known::Denied(server) => self.in_spite(place, server, deniers, operation, until).await,
        }
    }

    /// What stands there in spite of a server's denial; none if that is Eureka's own.
    async fn in_spite(
        &self,
        place: &Place,
        server: Arc<str>,
        deniers: &Deniers,
        operation: &'static str,
        until: Instant,
    ) -> Result<Option<Standing>, Error> {
        deniers.recognise(&self.api, &server, operation, until).await?;
        match self.api.instance(place, Some(server), operation, until).await? {
            Known::Yes(body) => self.read(&body, operation).map(Some),
            Known::Denied(_) => Ok(None),
        }
    }

    fn read(&self, body: &Body, operation: &'static str) -> Result<Standing, Error> {
        let bad = |error: serde_json::Error| malformed(&body.server, operation, error);
        let info: Info<'_> =
            serde_json::from_str(envelope::instance(body.text(operation)?).map_err(bad)?).map_err(bad)?;
        let is_out = info.overridden() == Some("OUT_OF_SERVICE");
        Ok(Standing {
            version: codec::own(&self.names, &info).ok().flatten().and_then(|own| own.record_version()),
            dirty: info.last_dirty_timestamp.number(),
            was_drained: is_out && codec::wants_draining(&info),
            is_unknown: info.status.text() == Some("UNKNOWN"),
        })
    }

    fn is_ours(&self, standing: &Standing) -> bool {
        standing.version.is_some_and(|version| version.incarnation == self.incarnation)
    }

    async fn publish_one(&self, record: &Publish, until: Instant) -> Outcome {
        let key = record.instance.key();
        let place = self.place(&key);
        let _turn = timeout_at(until, self.ledger.turn()).await.map_err(|_| {
            Error::new(ErrorKind::Unavailable, "too many publications are on their way")
                .with_context(super::NAME, "publish")
        })?;
        let standing = self.standing(&place, "publish", until).await?;
        if record.on_duplicate == OnDuplicate::Reject
            && standing.as_ref().is_some_and(|standing| !self.is_ours(standing))
        {
            self.ledger.forget(Some(self.id), &key);
            let message = format!("{key} is registered by another process");
            return Err(Error::new(ErrorKind::Conflict, message).with_context(super::NAME, "publish"));
        }
        let dirty = self.ledger.stamp(&key, standing.as_ref().and_then(|standing| standing.dirty));
        let marks = Marks { version: record.version, dirty, ttl: self.ttl };
        let body = codec::encode(&self.names, &record.instance, &marks)
            .map_err(|error| error.with_context(super::NAME, "publish"))?;
        self.api.register(&place.app, body, until).await?;
        let status = codec::beat_status(record.instance.status());
        self.ledger.hold(key, Holding { lease: self.id, dirty, status, beats: true });
        if record.instance.status() == Status::Draining {
            // The override in the body is enough for the servers we know; this is the protocol's own way.
            self.api.override_status(&place, "OUT_OF_SERVICE", until).await?;
        } else if standing.is_some_and(|standing| standing.was_drained) {
            // Our own override, as the record says. An operator's stays.
            if let Known::Denied(server) = self.api.end_override(&place, status, until).await? {
                // It was registered this moment.
                return Err(contradicted(&server, "publish"));
            }
        }
        Ok(())
    }

    /// One beat; whether the instance is known. What isn't known as we hold it may have been replaced meanwhile.
    async fn beat(
        &self,
        key: &InstanceKey,
        holding: &Holding,
        deniers: &Deniers,
        until: Instant,
    ) -> Result<bool, Error> {
        let place = self.place(key);
        let answer = self.api.beat(&place, holding.status, holding.dirty, until).await?;
        let Known::Denied(server) = answer else { return Ok(true) };
        if self.is_replaced(key, holding) {
            return Ok(false);
        }
        let denied_by = Arc::clone(&server);
        match self.in_spite(&place, server, deniers, "renew", until).await? {
            None => Ok(false),
            Some(standing) if standing.is_unknown || standing.dirty < Some(holding.dirty) => Ok(false),
            Some(_) if self.is_replaced(key, holding) => Ok(false),
            Some(_) => Err(contradicted(&denied_by, "renew")),
        }
    }

    /// Whether it was registered anew, or given up, since it was held like this.
    fn is_replaced(&self, key: &InstanceKey, holding: &Holding) -> bool {
        self.ledger.held(self.id, key).as_ref() != Some(holding)
    }

    async fn withdraw_one(&self, key: &InstanceKey, deniers: &Deniers, until: Instant) -> Outcome {
        // Before all else, so that no beat keeps alive what is to go.
        self.ledger.still(key);
        let place = self.place(key);
        if let Some(standing) = self.proven(&place, deniers, "withdraw", until).await?
            && self.is_ours(&standing)
            && let Known::Denied(server) = self.api.cancel(&place, until).await?
        {
            let left = self.in_spite(&place, Arc::clone(&server), deniers, "withdraw", until).await?;
            if left.is_some_and(|left| self.is_ours(&left)) {
                return Err(contradicted(&server, "withdraw"));
            }
        }
        self.ledger.forget(None, key);
        Ok(())
    }

    async fn withdraw_all(&self, keys: &[InstanceKey], until: Instant) -> Vec<Outcome> {
        let deniers = Deniers::default();
        let mut calls: Vec<BoxFuture<'_, Outcome>> = Vec::with_capacity(keys.len());
        for key in keys {
            calls.push(Box::pin(self.withdraw_one(key, &deniers, until)));
        }
        abreast(calls, AT_ONCE).await
    }

    async fn inspect_one(
        &self,
        key: &InstanceKey,
        deniers: &Deniers,
        until: Instant,
    ) -> Result<Presence, Error> {
        let standing = self.proven(&self.place(key), deniers, "inspect", until).await?;
        let Some(standing) = standing else { return Ok(Presence::Missing) };
        Ok(match standing.version {
            Some(version) if version.incarnation == self.incarnation => {
                match self.ledger.held(self.id, key) {
                    Some(_) => Presence::Ours { version },
                    None => Presence::Missing,
                }
            }
            _ => {
                // Our beats would keep it alive when its own process is gone.
                self.ledger.forget(Some(self.id), key);
                Presence::Foreign
            }
        })
    }
}

#[async_trait]
impl Lease for EurekaLease {
    fn lifetime(&self) -> Lifetime {
        Lifetime::Leased { ttl: self.ttl }
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let until = self.api.deadline();
        let mut calls: Vec<BoxFuture<'_, Outcome>> = Vec::with_capacity(records.len());
        for record in records {
            calls.push(Box::pin(self.publish_one(record, until)));
        }
        abreast(calls, AT_ONCE).await
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        let until = self.api.deadline();
        let keys: Vec<InstanceKey> = instances.iter().map(|instance| instance.key()).collect();
        self.withdraw_all(&keys, until).await
    }

    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let until = deadline - (left / 10).clamp(MARGIN.0, MARGIN.1).min(left);
        let mut renewal = Renewal::granted(self.ttl);
        let mut held = self.ledger.all(self.id);
        held.retain(|(_, holding)| holding.beats);
        if held.is_empty() {
            return Ok(renewal);
        }
        let asked: HashMap<InstanceKey, Holding> = held.iter().cloned().collect();
        let mut waiting: HashSet<InstanceKey> = asked.keys().cloned().collect();
        let deniers = &Deniers::default();
        // By value: a closure that takes a reference is too special for a boxed future.
        let beats = stream::iter(held).map(|(key, holding)| async move {
            let answer = self.beat(&key, &holding, deniers, until).await;
            (key, answer)
        });
        let mut beats = beats.buffer_unordered(AT_ONCE);
        let (mut renewed, mut fault) = (0_usize, None);
        while let Ok(Some((key, answer))) = timeout_at(until, beats.next()).await {
            waiting.remove(&key);
            match answer {
                Ok(true) => renewed += 1,
                Ok(false) => renewal.lost.push(key),
                Err(error) => {
                    renewal.missed.push(key);
                    fault.get_or_insert(error);
                }
            }
        }
        renewal.missed.extend(waiting);
        // Whose registration was answered meanwhile is another one's now than the beat was about.
        let is_same = |key: &InstanceKey| asked.get(key).is_some_and(|asked| !self.is_replaced(key, asked));
        let (lost, replaced): (Vec<_>, Vec<_>) = renewal.lost.drain(..).partition(is_same);
        let is_unanswered = renewed == 0 && lost.is_empty() && replaced.is_empty();
        renewal.lost = lost;
        renewal.missed.extend(replaced);
        if is_unanswered {
            return Err(fault.unwrap_or_else(|| {
                Error::new(ErrorKind::Timeout, "no beat was answered in time")
                    .with_context(super::NAME, "renew")
            }));
        }
        Ok(renewal)
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        let until = self.api.deadline();
        let deniers = Deniers::default();
        let mut looks: Vec<BoxFuture<'_, Result<Presence, Error>>> = Vec::with_capacity(keys.len());
        for key in keys {
            looks.push(Box::pin(self.inspect_one(key, &deniers, until)));
        }
        let found = abreast(looks, AT_ONCE).await;
        let is_any = found.iter().any(Result::is_ok);
        let presence = |found: Result<Presence, Error>| match found {
            Err(_) if is_any => Ok(Presence::Unknown),
            found => found,
        };
        found.into_iter().map(presence).collect()
    }

    async fn revoke(&self) -> Result<(), Error> {
        let until = self.api.deadline();
        let keys: Vec<InstanceKey> = self.ledger.all(self.id).into_iter().map(|(key, _)| key).collect();
        keys.iter().for_each(|key| self.ledger.still(key));
        self.withdraw_all(&keys, until).await.into_iter().collect()
    }
}

impl Drop for EurekaLease {
    fn drop(&mut self) {
        self.ledger.forget_all(self.id);
    }
}

impl fmt::Debug for EurekaLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EurekaLease")
            .field("id", &self.id)
            .field("ttl", &self.ttl)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
