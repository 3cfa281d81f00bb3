//! One etcd process with its ports and its data, through kills and restarts.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::binaries::Binaries;
use super::ctl::Etcdctl;
use super::options::{Certificates, EtcdBuilder};
use crate::eventually::eventually;
use crate::server::http;
use crate::server::{Port, Process, ProcessBuilder, Scratch, ServerError};

/// Until a node serves. An election with split votes has taken 2.2 s.
const READY: Duration = Duration::from_secs(10);
/// For one probe: without a quorum it hangs.
const PROBE: Duration = Duration::from_millis(500);
/// From SIGTERM to the end; 32 ms is usual.
const END: Duration = Duration::from_secs(10);
/// How often a restart is tried when its port is taken for a moment.
const RESTARTS: u32 = 3;

/// An etcd node: a server of its own, or a member of an [`EtcdCluster`](super::EtcdCluster).
///
/// Its addresses stay the same for life. Dropping it kills the process and removes the data.
#[derive(Debug)]
pub struct Etcd {
    // First, so that the process is gone before its data is.
    process: Mutex<Option<Arc<Process>>>,
    pub(crate) pid: Pid,
    binaries: Binaries,
    options: EtcdBuilder,
    certificates: Option<Certificates>,
    name: String,
    pub(crate) client: Port,
    pub(crate) peer: Port,
    metrics: Port,
    group: Mutex<Group>,
    /// Whether it is the whole cluster.
    alone: bool,
    /// A start, an end or a wipe at a time.
    turn: tokio::sync::Mutex<()>,
    scratch: Scratch,
}

impl Etcd {
    /// Starts a node with the default options.
    ///
    /// # Errors
    ///
    /// When there is no binary, or the node is not ready after 10 s.
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// Options, for a node or a cluster.
    pub fn builder() -> EtcdBuilder {
        EtcdBuilder::default()
    }

    pub(crate) async fn start_alone(binaries: &Binaries, options: &EtcdBuilder) -> Result<Self, ServerError> {
        let mut etcd = Self::prepare("n1".to_owned(), binaries, options)?;
        etcd.alone = true;
        etcd.join(Group { token: fresh_token(), members: vec![(etcd.name.clone(), etcd.peer.address())] });
        etcd.restart().await?;
        Ok(etcd)
    }

    /// A member that does not run yet and knows no others.
    pub(crate) fn prepare(
        name: String,
        binaries: &Binaries,
        options: &EtcdBuilder,
    ) -> Result<Self, ServerError> {
        let failed = |error| ServerError::new(format!("preparation of etcd {name}")).with_source(error);
        Ok(Self {
            process: Mutex::new(None),
            pid: Pid::default(),
            binaries: binaries.clone(),
            options: options.clone(),
            certificates: options.certificates()?,
            client: Port::reserve().map_err(failed)?,
            peer: Port::reserve().map_err(failed)?,
            metrics: Port::reserve().map_err(failed)?,
            group: Mutex::default(),
            alone: false,
            turn: tokio::sync::Mutex::new(()),
            scratch: Scratch::new("etcd").map_err(failed)?,
            name,
        })
    }

    pub(crate) fn join(&self, group: Group) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = group;
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// The same as a URL, `http` or `https`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.address())
    }

    /// `etcdctl` for this node, as the administrator when authentication is on.
    pub fn ctl(&self) -> Etcdctl {
        self.ctl_for(vec![self.address()])
    }

    pub(crate) fn ctl_for(&self, endpoints: Vec<SocketAddr>) -> Etcdctl {
        let ctl = Etcdctl::new(self.binaries.etcdctl.clone(), endpoints, self.certificates.clone());
        if self.options.token_ttl.is_some() {
            let (name, password) = Etcdctl::ROOT;
            ctl.with_user(name, password)
        } else {
            ctl
        }
    }

    /// Whether its process has not ended; a frozen one runs.
    pub fn is_running(&self) -> bool {
        self.process().is_some_and(|process| process.is_running())
    }

    /// The last 64 KiB of what the latest process printed.
    pub fn output(&self) -> String {
        self.process().map(|process| process.output()).unwrap_or_default()
    }

    /// Ends it with SIGKILL; its data stays. Its ports refuse connections from then on.
    ///
    /// # Errors
    ///
    /// When the process does not end.
    pub async fn kill(&self) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        if let Some(process) = self.process() {
            process.kill().await?;
        }
        self.ended();
        Ok(())
    }

    /// Ends it in order (SIGTERM); its data stays.
    ///
    /// # Errors
    ///
    /// When the process does not end within 10 s.
    pub async fn terminate(&self) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        if let Some(process) = self.process() {
            process.terminate(END).await?;
        }
        self.ended();
        Ok(())
    }

    /// Stops it with SIGSTOP: connections stay open and nothing is answered.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub async fn freeze(&self) -> Result<(), ServerError> {
        self.process().ok_or_else(|| self.not_running("freeze"))?.freeze().await
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn thaw(&self) -> Result<(), ServerError> {
        self.process().ok_or_else(|| self.not_running("thaw"))?.thaw()
    }

    /// Starts it again on the same addresses, ending it in order first if it runs, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it is not ready after 10 s; a member that has no quorum never is, see [`launch`](Self::launch).
    pub async fn restart(&self) -> Result<(), ServerError> {
        self.terminate().await?;
        let mut attempt = 1;
        loop {
            let started = async {
                let fresh = self.launch().await?;
                self.ready().await?;
                if fresh && self.alone { self.set_up().await } else { Ok(()) }
            };
            match started.await {
                Err(error) if error.is_port_taken() && attempt < RESTARTS => attempt += 1,
                started => return started,
            }
        }
    }

    /// Starts the process if it does not run and does not wait until it serves. Says whether it begins without
    /// data.
    ///
    /// # Errors
    ///
    /// When the program can't be run.
    pub async fn launch(&self) -> Result<bool, ServerError> {
        let _turn = self.turn.lock().await;
        let fresh = !self.data().exists();
        if self.is_running() {
            return Ok(fresh);
        }
        let command = self.command();
        for port in [&self.client, &self.peer, &self.metrics] {
            port.release();
        }
        let process = command.spawn().await?;
        self.pid.store(process.id(), Ordering::Relaxed);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(process));
        Ok(fresh)
    }

    /// Waits until it serves linearizable reads.
    ///
    /// # Errors
    ///
    /// When it has ended or is not ready after 10 s, with the end of its output.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; it only asks.
    pub async fn ready(&self) -> Result<(), ServerError> {
        let failed = |why: &str| {
            ServerError::new(format!("start of etcd {}: {why}", self.name)).with_output(self.output())
        };
        let serves = eventually("readyz", READY, async || {
            if !self.is_running() {
                return Some(false);
            }
            let status = http::status(self.metrics.address(), "/readyz", PROBE).await;
            status.is_ok_and(|status| status == 200).then_some(true)
        });
        match serves.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let error = failed("it has ended");
                self.ended();
                Err(error)
            }
            Err(timeout) => Err(failed("not ready").with_source(timeout)),
        }
    }

    /// Deletes its data, so that the next start makes a new cluster with another id.
    ///
    /// # Errors
    ///
    /// When it runs, or is one member of several: see [`EtcdCluster::wipe`](super::EtcdCluster::wipe).
    pub async fn wipe(&self) -> Result<(), ServerError> {
        if !self.alone {
            return Err(ServerError::new(format!("wipe of etcd {}: it is a member of a cluster", self.name)));
        }
        self.forget(fresh_token()).await
    }

    pub(crate) async fn forget(&self, token: String) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        if self.is_running() {
            return Err(ServerError::new(format!("wipe of etcd {}: it runs", self.name)));
        }
        if self.data().exists() {
            fs::remove_dir_all(self.data()).map_err(|error| {
                ServerError::new(format!("wipe of etcd {}", self.name)).with_source(error)
            })?;
        }
        self.group.lock().unwrap_or_else(PoisonError::into_inner).token = token;
        Ok(())
    }

    /// What a fresh cluster needs beyond its start.
    pub(crate) async fn set_up(&self) -> Result<(), ServerError> {
        match self.options.token_ttl {
            Some(_) => self.ctl().without_user().enable_auth().await,
            None => Ok(()),
        }
    }

    fn command(&self) -> ProcessBuilder {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let url = |address: SocketAddr| format!("http://{address}");
        let members: Vec<String> =
            group.members.iter().map(|(name, peer)| format!("{name}={}", url(*peer))).collect();
        let own = group.members.iter().find(|(name, _)| *name == self.name);
        let dialled = own.map_or(self.peer.address(), |(_, peer)| *peer);
        let (heartbeat, election) = if self.alone { (10, 100) } else { (20, 200) };
        let mut command = ProcessBuilder::new(format!("etcd {}", self.name), &self.binaries.etcd)
            .hide_env("ETCD_")
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--listen-client-urls={}", self.url()))
            .arg(format!("--advertise-client-urls={}", self.url()))
            .arg(format!("--listen-peer-urls={}", url(self.peer.address())))
            .arg(format!("--initial-advertise-peer-urls={}", url(dialled)))
            .arg(format!("--initial-cluster={}", members.join(",")))
            .arg(format!("--initial-cluster-token={}", group.token))
            // The probe needs neither a certificate nor the way that a test may break.
            .arg(format!("--listen-metrics-urls={}", url(self.metrics.address())))
            .arg(format!("--heartbeat-interval={heartbeat}"))
            .arg(format!("--election-timeout={election}"))
            .args(["--log-level=warn", "--unsafe-no-fsync"]);
        if let Some(ttl) = self.options.token_ttl {
            command =
                command.arg(format!("--auth-token-ttl={}", ttl.as_secs().max(1))).arg("--bcrypt-cost=4");
        }
        if let Some(Certificates { server, client }) = &self.certificates {
            command = command
                .arg(format!("--cert-file={}", server.cert().display()))
                .arg(format!("--key-file={}", server.key().display()));
            if let Some(client) = client {
                command = command
                    .arg("--client-cert-auth")
                    .arg(format!("--trusted-ca-file={}", client.ca().cert().display()));
            }
        }
        command.args(&self.options.args)
    }

    /// Keeps the ports. A failure leaves them unguarded, which a restart can cope with.
    fn ended(&self) {
        self.pid.store(0, Ordering::Relaxed);
        for port in [&self.client, &self.peer, &self.metrics] {
            let _ = port.hold();
        }
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    fn process(&self) -> Option<Arc<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn not_running(&self, attempted: &str) -> ServerError {
        ServerError::new(format!("{attempted} of etcd {}: it does not run", self.name))
    }
}

/// The process id of the moment, shared with who tells members apart by it.
pub(crate) type Pid = Arc<AtomicU32>;

/// What a new data directory is told of its cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// Makes the ids of cluster and members, together with the peers' addresses.
    pub(crate) token: String,
    /// Names with the addresses at which peers are dialled, which may be proxies'.
    pub(crate) members: Vec<(String, SocketAddr)>,
}

/// A token no other cluster has: etcd derives the cluster's id from it and from the peers' addresses, which do not
/// change with a wipe.
pub(crate) fn fresh_token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("testkit-{}-{count}", std::process::id())
}
