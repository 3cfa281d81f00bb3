//! Registering: what is checked before anything is sent, and what `register` waits for.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    Client, ClientConfig, FAR,
    registration::{Registration, check_record},
    timed_out,
};
use crate::{
    Error, ErrorKind, OnDuplicate,
    address::advertise,
    keeper::{OnMissing, Phase, Policy},
    model::Instance,
};

/// How to register one instance.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct RegisterOptions {
    start: Start,
    ttl: Option<Duration>,
    policy: Policy,
}

/// What `register` does while the registry is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Fails after the client's `register_timeout` (5 s) and leaves nothing half-registered: a new node that nobody
    /// can see had better not come up. The default.
    #[default]
    FailFast,
    /// Returns at once, in phase `Registering`, and goes on trying.
    Background,
}

impl RegisterOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do while the registry is away.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// A time to live of its own; it gets a lease of its own with it. At least 3 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What to do about another process's record under the same id.
    pub fn on_duplicate(mut self, on_duplicate: OnDuplicate) -> Self {
        self.policy.on_duplicate = on_duplicate;
        self
    }

    /// What to do when an operator deletes the record.
    pub fn on_missing(mut self, on_missing: OnMissing) -> Self {
        self.policy.on_missing = on_missing;
        self
    }
}

impl Client {
    /// Registers an instance and keeps it registered until the result is dropped or deregistered.
    ///
    /// # Errors
    /// If the instance isn't live after `register_timeout` (5 s), with the registry's last word as the source, and
    /// nothing is left half-registered; at once if the registry refuses it, if it is larger than the registry takes,
    /// if this client registers the same key already, or if the client is draining.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the instance is withdrawn again.
    pub async fn register(&self, instance: Instance) -> Result<Registration, Error> {
        self.register_with(instance, RegisterOptions::default()).await
    }

    /// [`register`](Self::register) with options.
    ///
    /// # Errors
    /// As for [`register`](Self::register); with [`Start::Background`] only what is wrong by itself.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the instance is withdrawn again.
    pub async fn register_with(
        &self,
        instance: Instance,
        options: RegisterOptions,
    ) -> Result<Registration, Error> {
        let inner = &self.inner;
        inner.check_running()?;
        let ttl = options.ttl.unwrap_or(inner.config.ttl);
        ClientConfig { ttl, ..inner.config.clone() }.check()?;
        if ttl < inner.backend.capabilities.min_ttl {
            let least = inner.backend.capabilities.min_ttl;
            return Err(Error::invalid(format!("ttl is {ttl:?}; this registry honours at least {least:?}")));
        }
        let within = inner.config.register_timeout;
        let end = Instant::now() + within.min(FAR);
        let advertised = advertise(instance, inner.config.advertise, &inner.backend.addresses);
        let instance = timeout_at(end, advertised).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("no address to advertise was found within {within:?}"))
        })??;
        check_record(&instance, &inner.backend)?;
        let keeper = inner.keeper(ttl)?;
        let registration = Registration::new(inner, keeper, Arc::new(instance), options.policy)?;
        if options.start == Start::Background {
            return Ok(registration);
        }
        let state = match timeout_at(end, registration.decided()).await {
            Ok(state) => state,
            Err(_) => {
                let cause = registration.state().cause;
                registration.abandon();
                return Err(timed_out("registration", &registration.key(), within, cause));
            }
        };
        match (state.phase, state.cause) {
            (phase, _) if state.ended || matches!(phase, Phase::Absent | Phase::Deregistering) => {
                Err(Error::new(ErrorKind::Closed, "the client was closed while registering"))
            }
            (Phase::Blocked, Some(cause)) => {
                registration.abandon();
                let message = format!("the registry refuses {}", registration.key());
                Err(Error::new(cause.kind(), message)
                    .with_context(inner.backend.name, "register")
                    .with_source(cause))
            }
            _ => Ok(registration),
        }
    }
}
