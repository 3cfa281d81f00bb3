//! The connection to a cluster: one lane per endpoint, and calls that find an endpoint that answers.
//!
//! One call asks each endpoint at most once, in the order of the [`Pool`], and stops at its deadline. While another
//! endpoint is left an attempt gets half of the remaining time, so that an endpoint which accepts and stays silent
//! doesn't use it up. There is no retry beyond that: repeating a call is the core's decision.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{CredentialProvider, Error, ErrorKind, TlsFiles};
use tokio::time::{Instant, timeout};

use crate::{
    auth::Auth,
    channel::{self, Lane},
    config::EtcdConfig,
    diagnose,
    error::{Cause, Fault, Reaction},
    pool::Pool,
};

/// A call that is dropped after this long counts against its endpoint: the caller gave up waiting for it.
const PATIENCE: Duration = Duration::from_millis(250);
/// The server's default of `--max-txn-ops`.
const MAX_TXN_OPS: usize = 128;

/// A cluster, as one client sees it.
pub(crate) struct Session {
    config: EtcdConfig,
    nodes: Vec<Node>,
    pool: Mutex<Pool>,
    auth: Auth,
    serial: AtomicU64,
    txn_ops: AtomicUsize,
}

struct Node {
    endpoint: Arc<str>,
    lane: Mutex<Option<Lane>>,
    /// Whether it ever did: from then on it is known to speak the protocol.
    answered: AtomicBool,
}

/// How one call is made.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// For errors and logs.
    pub(crate) operation: &'static str,
    pub(crate) deadline: Instant,
    /// The endpoint to ask last.
    pub(crate) avoid: Option<&'a str>,
}

/// What an operation returned, and where.
pub(crate) struct Answer<T> {
    pub(crate) value: T,
    pub(crate) lane: Lane,
    /// Of the token it was made with.
    pub(crate) token: u64,
}

impl Session {
    pub(crate) fn new(config: EtcdConfig, provider: Option<Arc<dyn CredentialProvider>>) -> Arc<Self> {
        let nodes: Vec<Node> = config
            .endpoints
            .iter()
            .map(|endpoint| Node {
                endpoint: endpoint.as_str().into(),
                lane: Mutex::default(),
                answered: AtomicBool::new(false),
            })
            .collect();
        let pool = Pool::new(nodes.len(), Instant::now(), fastrand::Rng::new());
        let auth = Auth::new(config.credential.clone(), provider);
        Arc::new(Self {
            config,
            nodes,
            pool: Mutex::new(pool),
            auth,
            serial: AtomicU64::new(0),
            txn_ops: AtomicUsize::new(MAX_TXN_OPS),
        })
    }

    pub(crate) fn config(&self) -> &EtcdConfig {
        &self.config
    }

    /// A call with the configured limit.
    pub(crate) fn call_of(&self, operation: &'static str) -> Call<'static> {
        Call { operation, deadline: Instant::now() + self.config.request_timeout, avoid: None }
    }

    /// Most operations of one transaction, as far as known.
    pub(crate) fn txn_ops(&self) -> usize {
        self.txn_ops.load(Ordering::Relaxed)
    }

    /// Notes that the server refused a transaction of `refused` operations as too large.
    pub(crate) fn shrink_txn_ops(&self, refused: usize) {
        self.txn_ops.fetch_min((refused / 2).max(1), Ordering::Relaxed);
    }

    /// Makes one call; `operation` runs once per endpoint that is tried, and once more after a token was refreshed,
    /// so it has to be repeatable.
    ///
    /// # Cancel safety
    /// Dropping it abandons the attempt in flight, which may still happen at the server.
    pub(crate) async fn call<T, F, Fut>(&self, call: Call<'_>, operation: F) -> Result<Answer<T>, Error>
    where
        F: Fn(Lane) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let avoid = call.avoid.and_then(|avoid| self.nodes.iter().position(|n| *n.endpoint == *avoid));
        self.auth.prepare(call.deadline).await.map_err(|fault| fault.into_error(call.operation))?;
        let candidates = self.pool().candidates(Instant::now(), avoid);
        let mut faults: Vec<(Arc<str>, Fault)> = Vec::new();
        for (at, node) in candidates.iter().copied().enumerate() {
            let left = call.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let budget = if at + 1 < candidates.len() { left / 2 } else { left };
            let watchdog = Watchdog { session: self, node, since: Instant::now(), armed: true };
            let attempt = timeout(budget, self.attempt(node, &operation)).await;
            watchdog.disarm();
            let fault = match attempt {
                Ok(Ok(answer)) => {
                    self.nodes[node].answered.store(true, Ordering::Relaxed);
                    self.pool().succeed(node, avoid.is_none());
                    return Ok(answer);
                }
                Ok(Err(fault)) => self.explain(node, fault).await,
                Err(_) => Fault::timeout(format!("no answer within {budget:?}")),
            };
            if fault.reaction != Reaction::NextEndpoint {
                // It refused, so it is alive.
                self.pool().succeed(node, avoid.is_none());
                return Err(fault.into_error(call.operation));
            }
            self.fail(node, None, &fault.line());
            faults.push((Arc::clone(&self.nodes[node].endpoint), fault));
        }
        Err(nobody_answered(faults, call.operation))
    }

    async fn attempt<T, F, Fut>(&self, node: usize, operation: &F) -> Result<Answer<T>, Fault>
    where
        F: Fn(Lane) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let lane = self.lane(node).await?;
        let token = self.auth.ready(&lane).await?;
        match operation(lane.clone()).await {
            Ok(value) => Ok(Answer { value, lane, token }),
            Err(fault) if fault.reaction == Reaction::RefreshToken => {
                match self.auth.refused(token, &lane).await {
                    None => Err(fault),
                    Some(token) => {
                        let token = token?;
                        let value = operation(lane.clone()).await?;
                        Ok(Answer { value, lane, token })
                    }
                }
            }
            Err(fault) => Err(fault),
        }
    }

    /// Says more about a connection that failed without an answer, where the user can mend it.
    async fn explain(&self, node: usize, fault: Fault) -> Fault {
        let node = &self.nodes[node];
        if !fault.is_transport()
            || fault.kind != ErrorKind::Unavailable
            || node.answered.load(Ordering::Relaxed)
        {
            return fault;
        }
        match &self.config.tls {
            None => diagnose::improve(&node.endpoint, fault).await,
            Some(TlsFiles { identity: None, .. }) => {
                fault.advise_if_closed("it may want a client certificate (options cert and key)")
            }
            Some(_) => fault,
        }
    }

    /// Judges the failure of a stream that a call had opened: remembers whose fault it was, and gives the error.
    ///
    /// A stream keeps the token it was opened with. If that was refused, the stream has merely to be opened again,
    /// so the error is `Unavailable`; `Unauthenticated` is what a refused *credential* gives.
    pub(crate) fn stream_failed(
        &self,
        lane: &Lane,
        token: u64,
        fault: Fault,
        operation: &'static str,
    ) -> Error {
        match fault.reaction {
            Reaction::NextEndpoint => self.fail(lane.node, Some(lane.serial), &fault.line()),
            Reaction::RefreshToken if !self.auth.token().is_empty() => {
                self.auth.forget(token);
                let message = format!("the stream has to be opened with a new token: {}", fault.message);
                return Error::new(ErrorKind::Unavailable, message).with_context(crate::NAME, operation);
            }
            Reaction::RefreshToken | Reaction::Answer => {}
        }
        fault.into_error(operation)
    }

    /// Quarantines an endpoint and forgets its lane, unless that is no longer lane `serial`: connections made since
    /// are innocent.
    fn fail(&self, node: usize, serial: Option<u64>, why: &str) {
        let mut slot = self.nodes[node].lane.lock().unwrap_or_else(PoisonError::into_inner);
        let current = slot.as_ref().map(|lane| lane.serial);
        if serial.is_some() && current.is_some() && current != serial {
            return;
        }
        *slot = None;
        drop(slot);
        if self.pool().fail(node) {
            tracing::debug!(endpoint = %self.nodes[node].endpoint, why, "quarantined an endpoint");
        }
    }

    async fn lane(&self, node: usize) -> Result<Lane, Fault> {
        let slot = &self.nodes[node].lane;
        if let Some(lane) = &*slot.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(lane.clone());
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let lane = channel::open(&self.config, node, serial, self.auth.token()).await?;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        // Another call may have been quicker; one connection is enough.
        Ok(slot.get_or_insert(lane).clone())
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("config", &self.config)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// Blames the endpoint when the caller drops a call that it waited for in vain: otherwise a caller with a shorter
/// deadline than ours would ask a frozen endpoint for ever.
struct Watchdog<'a> {
    session: &'a Session,
    node: usize,
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
        if self.armed && self.since.elapsed() >= PATIENCE {
            self.session.fail(self.node, None, "the caller gave up waiting");
        }
    }
}

fn nobody_answered(mut faults: Vec<(Arc<str>, Fault)>, operation: &'static str) -> Error {
    match faults.len() {
        0 => Error::new(ErrorKind::Timeout, "the deadline had passed already")
            .with_context(crate::NAME, operation),
        1 => {
            let (endpoint, fault) = faults.remove(0);
            fault.at(&endpoint).into_error(operation)
        }
        all => {
            let first = faults[0].1.kind;
            let kind = if faults.iter().all(|(_, f)| f.kind == first) {
                first
            } else if faults.iter().any(|(_, f)| f.kind == ErrorKind::Timeout) {
                ErrorKind::Timeout
            } else {
                ErrorKind::Unavailable
            };
            let lines: Vec<String> = faults.iter().map(|(e, f)| format!("{e}: {}", f.line())).collect();
            Error::new(kind, format!("none of {all} endpoints answered"))
                .with_context(crate::NAME, operation)
                .with_source(Cause(lines.join("; ")))
        }
    }
}
