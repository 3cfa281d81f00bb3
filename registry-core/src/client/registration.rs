//! The guard of one published instance.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::Inner;
use crate::{
    Backend, Error, ErrorKind,
    feed::{Item, Reader},
    keeper::{Cell, Deregistration, Keeper, Phase, Policy, RegistrationEvent, RegistrationState},
    model::{Instance, InstanceKey, Status, Weight, encode_record},
    observer::observe,
};

/// How long a dropped registration's withdrawal is tried before the record is left to its time to live.
pub(super) const WITHDRAW_WITHIN: Duration = Duration::from_secs(3);

/// One published instance, for as long as this is held.
///
/// The state can be read at any time; events come on top, as a stream or to a callback. Dropping it withdraws the
/// instance in the background, as far as that gets; [`deregister`](Self::deregister) waits and says what it achieved.
#[must_use = "dropping it withdraws the instance: keep it for as long as that is to be found"]
pub struct Registration {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    client: Arc<Inner>,
    keeper: Arc<Keeper>,
    cell: Arc<Cell>,
    policy: Policy,
    desired: Mutex<Arc<Instance>>,
}

/// Where a registration stands in one registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistryPhase {
    /// The registry's short name, such as `etcd`.
    pub registry: &'static str,
    /// The state there.
    pub state: RegistrationState,
}

impl Registration {
    pub(super) fn new(
        client: &Arc<Inner>,
        keeper: Arc<Keeper>,
        instance: Arc<Instance>,
        policy: Policy,
    ) -> Result<Self, Error> {
        let key = instance.key();
        let mut registered = client.registered();
        // Again, under the lock that a drain's listing takes: none may slip in behind it.
        client.check_running()?;
        if registered.get(&key).is_some_and(|other| other.strong_count() > 0) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("{key} is already registered by this client"),
            ));
        }
        let cell = keeper.register(Arc::clone(&instance), policy);
        let desired = Mutex::new(instance);
        let shared = Arc::new(Shared { client: Arc::clone(client), keeper, cell, policy, desired });
        registered.insert(key, Arc::downgrade(&shared));
        Ok(Self { shared })
    }

    pub(super) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Service and id.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        self.shared.cell.key.clone()
    }

    /// The instance as it is desired now, with the advertised address filled in.
    #[must_use]
    pub fn instance(&self) -> Arc<Instance> {
        Arc::clone(&self.shared.desired())
    }

    /// Where it stands: the phase as it may be claimed at this moment.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// The whole state.
    #[must_use]
    pub fn state(&self) -> RegistrationState {
        self.shared.cell.read()
    }

    /// Where it stands in each registry it is published in; one in this release.
    #[must_use]
    pub fn phases(&self) -> Vec<RegistryPhase> {
        vec![RegistryPhase { registry: self.shared.client.backend.name, state: self.state() }]
    }

    /// What happens from now on. A reader that falls 1,024 events behind gets `Lagged` and goes on; the stream ends
    /// with the registration.
    pub fn events(&self) -> RegistrationEvents {
        RegistrationEvents { reader: self.shared.cell.feed.subscribe() }
    }

    /// Calls `callback` for each event from now on: in order, one at a time, on tokio's blocking pool. It may block
    /// or panic without touching the renewal; at most 16 callbacks of a client run at the same time.
    pub fn on_event(&self, callback: impl Fn(RegistrationEvent) + Send + Sync + 'static) {
        let client = &self.shared.client;
        let lagged = |missed| RegistrationEvent::Lagged { missed };
        observe(self.shared.cell.feed.subscribe(), callback, lagged, client.stage());
    }

    /// Replaces what is published: metadata, weight, status, endpoints. Takes effect as soon as the registry can be
    /// reached, however long that takes; only the newest update is published. Returns at once;
    /// [`updated`](Self::updated) waits.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the instance has another service or id, or is larger than the registry
    /// takes; [`ErrorKind::Closed`] once the client drains or the registration was withdrawn.
    pub fn update(&self, instance: Instance) -> Result<(), Error> {
        self.shared.client.check_running()?;
        self.shared.replace(|_| Ok(instance))
    }

    /// Changes the status alone; see [`update`](Self::update).
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn set_status(&self, status: Status) -> Result<(), Error> {
        self.shared.client.check_running()?;
        self.shared.replace(|old| old.to_builder().status(status).build())
    }

    /// Changes the weight alone; see [`update`](Self::update).
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn set_weight(&self, weight: Weight) -> Result<(), Error> {
        self.shared.client.check_running()?;
        self.shared.replace(|old| old.to_builder().weight(weight.get()).build())
    }

    /// Waits until the registry holds the newest update.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] with the registry's last word as its source, if it doesn't within `within`;
    /// [`ErrorKind::Closed`] if the registration ended.
    ///
    /// # Cancel safety
    /// Cancel safe: the update goes on.
    pub async fn updated(&self, within: Duration) -> Result<(), Error> {
        let done = |state: &RegistrationState| state.is_current || state.phase == Phase::Absent;
        match tokio::time::timeout(within, self.shared.cell.wait_for(done)).await {
            Ok(state) if state.is_current && state.phase != Phase::Absent => Ok(()),
            Ok(_) => Err(closed(&self.key())),
            Err(_) => Err(super::timed_out("update", &self.key(), within, self.state().cause)),
        }
    }

    /// Withdraws the instance and waits up to 3 s for the registry's word. Never fails and never blocks for longer:
    /// what can't be confirmed expires by itself, and is still tried in the background while the client lives.
    ///
    /// # Cancel safety
    /// Once polled, the withdrawal goes on when this is dropped.
    pub async fn deregister(self) -> Deregistration {
        self.deregister_within(WITHDRAW_WITHIN).await
    }

    /// [`deregister`](Self::deregister) with a limit of its own.
    ///
    /// # Cancel safety
    /// Once polled, the withdrawal goes on when this is dropped.
    pub async fn deregister_within(&self, within: Duration) -> Deregistration {
        self.shared.leave(within);
        let done = |state: &RegistrationState| state.outcome.is_some();
        let state = tokio::time::timeout(within, self.shared.cell.wait_for(done)).await;
        state.ok().and_then(|state| state.outcome).unwrap_or(Deregistration::TtlWillExpire)
    }

    /// Withdraws it in the background, without a word.
    pub(crate) fn abandon(&self) {
        self.shared.leave(WITHDRAW_WITHIN);
    }

    /// Waits until it is live, refused, or over.
    pub(super) async fn decided(&self) -> RegistrationState {
        let decided =
            |state: &RegistrationState| matches!(state.phase, Phase::Live | Phase::Blocked | Phase::Absent);
        self.shared.cell.wait_for(decided).await
    }

    /// Waits until the registry holds the newest content.
    pub(crate) async fn current(&self) {
        self.shared.cell.wait_for(|state| state.is_current || state.phase == Phase::Absent).await;
    }

    /// Changes the status even while the client drains; a registration that is over has nothing to announce.
    pub(crate) fn announce(&self, status: Status) {
        let announced = self.shared.replace(|old| old.to_builder().status(status).build());
        if let Err(error) = announced {
            tracing::debug!(error = format!("{error:#}"), "nothing to announce");
        }
    }

    /// Whether it was ever visible to others.
    pub(crate) fn was_live(&self) -> bool {
        self.shared.cell.read().was_live
    }

    pub(super) fn cell(&self) -> Arc<Cell> {
        Arc::clone(&self.shared.cell)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    pub(super) fn client(&self) -> &Arc<Inner> {
        &self.client
    }

    fn desired(&self) -> MutexGuard<'_, Arc<Instance>> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn replace(
        &self,
        change: impl FnOnce(&Instance) -> Result<Instance, Error>,
    ) -> Result<(), Error> {
        if matches!(self.cell.read().phase, Phase::Deregistering | Phase::Absent) {
            return Err(closed(&self.cell.key));
        }
        let mut desired = self.desired();
        let instance = change(&desired)?;
        if instance.key() != self.cell.key {
            return Err(Error::invalid(format!(
                "an update can't turn {} into {}; register the other one instead",
                self.cell.key,
                instance.key()
            )));
        }
        if instance.has_wildcard_endpoint() {
            return Err(Error::invalid("an update must name the address to advertise, not a wildcard"));
        }
        check_record(&instance, &self.client.backend)?;
        if **desired == instance {
            return Ok(());
        }
        *desired = Arc::new(instance);
        self.keeper.update(&self.cell, Arc::clone(&desired), self.policy);
        Ok(())
    }
}

impl Shared {
    /// Withdraws once, and says whether this call did it; the key is free for another registration from here on.
    fn leave(&self, within: Duration) -> bool {
        let mut registered = self.client.registered();
        let ours = registered.get(&self.cell.key).is_some_and(|other| std::ptr::eq(other.as_ptr(), self));
        if ours {
            if self.cell.read().was_live {
                self.client.ever_live.store(true, Ordering::SeqCst);
            }
            registered.remove(&self.cell.key);
            // A withdrawal goes by key, so it must not hit a later registration of the same one.
            self.keeper.withdraw(&self.cell.key, within);
            drop(registered);
            self.client.leave(Arc::clone(&self.cell));
        }
        ours
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let is_held = !self.cell.is_over() && !self.client.stop.is_cancelled();
        if self.leave(WITHDRAW_WITHIN) && is_held {
            tracing::warn!(
                key = %self.cell.key,
                "a registration was dropped without `deregister`; withdrawing it in the background (keep it for as \
                 long as the instance is to be found)"
            );
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("key", &self.key()).field("phase", &self.phase()).finish()
    }
}

/// What happens to one registration; see [`Registration::events`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct RegistrationEvents {
    reader: Reader<RegistrationEvent>,
}

impl Stream for RegistrationEvents {
    type Item = RegistrationEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.reader).poll_next(cx).map(|item| {
            item.map(|item| match item {
                Item::Event(event) => event,
                Item::Lagged(missed) => RegistrationEvent::Lagged { missed },
            })
        })
    }
}

/// Refuses a record that the registry would not take, before anything is sent.
pub(super) fn check_record(instance: &Instance, backend: &Backend) -> Result<(), Error> {
    // The version fields that are written beside it.
    const VERSION: usize = 128;
    let max = backend.capabilities.max_record;
    let size = encode_record(instance, None)?.len() + VERSION;
    if size > max {
        return Err(Error::invalid(format!(
            "the record of {} needs {size} bytes; this registry takes at most {max}",
            instance.key()
        )));
    }
    backend.registry.as_ref().map_or(Ok(()), |registry| registry.check(instance))
}

fn closed(key: &InstanceKey) -> Error {
    Error::new(ErrorKind::Closed, format!("the registration of {key} has ended"))
}

/// Whether the registry has said yes or no.
pub(super) fn is_decided(state: &RegistrationState) -> bool {
    matches!(state.phase, Phase::Live | Phase::Blocked | Phase::Absent)
}
