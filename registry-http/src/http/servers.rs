//! Calls over several servers: who is asked, and who next.
//!
//! A server that can't be reached is followed by the next one always; one that doesn't answer, loses the connection or
//! answers that it is broken or overloaded only if the request may be repeated. No retry policy: each server is asked
//! once per call, save that a connection which turns out dead is replaced by a new one.

#[cfg(feature = "eureka")]
use std::time::Duration;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use registry_core::{Error, ErrorKind};
use tokio::time::Instant;

use super::{
    Answer, Call,
    call::Who,
    config::Common,
    error::{Cause, Fault},
    lane::{Lane, Time},
    pool::Pool,
};

/// The servers of one registry and what is known of their health.
pub(crate) struct Servers {
    backend: &'static str,
    config: Common,
    lanes: Vec<Lane>,
    pool: Mutex<Pool>,
}

impl Servers {
    /// Connects to nobody yet.
    pub(crate) fn new(backend: &'static str, config: Common) -> Self {
        let pool = Pool::new(config.servers.len(), fastrand::Rng::new());
        Self::with_pool(backend, config, pool)
    }

    /// With an order of preference of its own: a permutation of the configured servers.
    #[cfg(test)]
    pub(crate) fn in_order(backend: &'static str, config: Common, order: Vec<usize>) -> Self {
        Self::with_pool(backend, config, Pool::in_order(order))
    }

    /// Prefers another server about as often, at random; see [`Pool::rebalance`].
    #[cfg(feature = "eureka")]
    pub(crate) fn rebalanced(self, every: Duration) -> Self {
        self.pool().rebalance(every, fastrand::Rng::new(), Instant::now());
        self
    }

    fn with_pool(backend: &'static str, config: Common, pool: Pool) -> Self {
        let lanes = config.servers.iter().map(|server| Lane::new(server)).collect();
        Self { backend, config, lanes, pool: Mutex::new(pool) }
    }

    #[cfg(any(feature = "eureka", feature = "nacos"))]
    pub(crate) fn config(&self) -> &Common {
        &self.config
    }

    /// Checks that the TLS files can be used: wrong at the start, they are a mistake; later they may be being replaced.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] saying which can't.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let checked = self.lanes[0].open(&self.config).await;
        checked.map(|_| ()).map_err(|fault| {
            Error::new(ErrorKind::InvalidArgument, fault.line()).with_context(self.backend, "connect")
        })
    }

    /// The server that would be asked first.
    #[cfg(any(test, feature = "consul", feature = "nacos"))]
    pub(crate) fn preferred(&self) -> Arc<str> {
        Arc::clone(&self.lanes[self.pool().candidates(Instant::now(), None)[0]].server)
    }

    /// All servers, in the order in which they would be asked.
    #[cfg(feature = "nacos")]
    pub(crate) fn in_turn(&self) -> Vec<Arc<str>> {
        let turn = self.pool().candidates(Instant::now(), None);
        turn.into_iter().map(|node| Arc::clone(&self.lanes[node].server)).collect()
    }

    /// Makes one call. An answer of any status is `Ok`; the last one, if all were their servers' fault.
    ///
    /// # Errors
    /// No server answered: `Unavailable`, `Timeout` or `Protocol`, naming the servers.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection in use; the request may still happen at the server.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Error> {
        let deadline = call.deadline.unwrap_or_else(|| Instant::now() + self.config.request_timeout);
        let candidates = self.candidates(&call)?;
        let mut faults: Vec<(Arc<str>, Fault)> = Vec::new();
        let mut refusal = None;
        for (at, node) in candidates.iter().copied().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // One that hangs must leave time for the others.
            let is_shared = at + 1 < candidates.len() && call.is_repeatable && !call.is_patient;
            match self.attempt(node, &call, Time::new(&call, deadline, is_shared)).await {
                Ok(answer) if answer.is_servers_fault() || call.passed_on.is_some_and(|is| is(&answer)) => {
                    let is_pinned = call.who.is_pinned();
                    if !is_pinned {
                        self.fail(node, answer.status.as_str());
                    }
                    if is_pinned || !call.is_repeatable {
                        return Ok(answer);
                    }
                    refusal = Some(answer);
                }
                Ok(answer) => {
                    self.pool().succeed(node);
                    return Ok(answer);
                }
                Err(fault) => {
                    self.fail(node, &fault.line());
                    let is_over = fault.was_sent && !call.is_repeatable;
                    faults.push((Arc::clone(&self.lanes[node].server), fault));
                    if is_over {
                        break;
                    }
                }
            }
        }
        match refusal {
            Some(answer) => Ok(answer),
            None => Err(nobody_answered(faults).with_context(self.backend, call.operation)),
        }
    }

    async fn attempt(&self, node: usize, call: &Call, time: Time) -> Result<Answer, Fault> {
        let lane = &self.lanes[node];
        let mut serial = lane.serial();
        let armed = !call.is_patient;
        let watchdog = Watchdog { servers: self, node, serial, since: Instant::now(), armed };
        let until = time.silence();
        let mut result = lane.attempt(&self.config, call, time).await;
        if call.is_repeatable && result.as_ref().is_err_and(|fault| fault.broke) && Instant::now() < until {
            // The server closed a pooled connection just as we used it.
            lane.reset(serial);
            serial = lane.serial();
            result = lane.attempt(&self.config, call, time).await;
        }
        watchdog.disarm();
        // A plain connection that was refused leaves nothing behind.
        if let Err(fault) = &result
            && (fault.was_sent || self.config.tls.is_some())
        {
            lane.reset(serial);
        }
        result
    }

    fn candidates(&self, call: &Call) -> Result<Vec<usize>, Error> {
        let find = |server: &str| self.lanes.iter().position(|lane| *lane.server == *server);
        match &call.who {
            Who::Any => Ok(self.pool().candidates(Instant::now(), None)),
            Who::Avoid(server) => Ok(self.pool().candidates(Instant::now(), find(server))),
            Who::Only(server) => find(server).map(|node| vec![node]).ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument, format!("{server} is not among the servers"))
                    .with_context(self.backend, call.operation)
            }),
        }
    }

    /// Takes what a server answered for its fault, though it didn't look like one.
    #[cfg(feature = "eureka")]
    pub(crate) fn blame(&self, server: &str, why: &str) {
        if let Some(node) = self.lanes.iter().position(|lane| *lane.server == *server) {
            self.fail(node, why);
        }
    }

    fn fail(&self, node: usize, why: &str) {
        if self.pool().fail(node, Instant::now()) {
            tracing::debug!(server = %self.lanes[node].server, why, "quarantined a server");
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blames the server when the core gives up on an attempt by dropping it.
struct Watchdog<'a> {
    servers: &'a Servers,
    node: usize,
    serial: u64,
    since: Instant,
    armed: bool,
}

impl Watchdog<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Watchdog<'_> {
    fn drop(&mut self) {
        // Less is a caller that changed its mind.
        if self.armed && self.since.elapsed() >= self.servers.config.request_timeout / 2 {
            self.servers.lanes[self.node].reset(self.serial);
            self.servers.fail(self.node, "the caller gave up waiting");
        }
    }
}

fn nobody_answered(mut faults: Vec<(Arc<str>, Fault)>) -> Error {
    let Some((server, last)) = faults.pop() else {
        return Error::new(ErrorKind::Timeout, "no time was left to ask a server");
    };
    if faults.is_empty() {
        return last.into_error(&server);
    }
    // A write may have happened if any server saw it.
    let ambiguous = faults.iter().any(|(_, fault)| fault.was_sent);
    let kind = if ambiguous { ErrorKind::Timeout } else { last.kind };
    let causes: Vec<String> = faults
        .iter()
        .map(|(server, fault)| (server, fault))
        .chain([(&server, &last)])
        .map(|(server, fault)| format!("{server}: {}", fault.line()))
        .collect();
    Error::new(kind, "no server answered").with_source(Cause(causes.join("; ")))
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("servers", &self.config.servers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
