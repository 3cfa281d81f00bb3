#![allow(
    unreachable_pub,
    dead_code,
    reason = "shared by several test binaries, none of which uses all of it"
)]
//! Real servers, and shorthands for what the tests do with the backend.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use registry_core::{
    Backend, ConnectContext, Connector, Discovery, Error, Incarnation, Instance, InstanceKey, Lease,
    Namespace, OnDuplicate, Registry, RegistryUrl, Target,
    backend::{Change, Event, Grant, Publish, WatchStream},
    model::RecordVersion,
};
use registry_etcd::EtcdConnector;

static COUNTER: AtomicU32 = AtomicU32::new(0);

pub struct Etcd {
    pub port: u16,
    peer: u16,
    name: String,
    cluster: String,
    dir: PathBuf,
    flags: Vec<String>,
    child: Option<Child>,
}

fn binary(name: &str) -> PathBuf {
    let dir = std::env::var("SERVICE_REGISTRY_ETCD").expect("SERVICE_REGISTRY_ETCD names the folder of etcd");
    PathBuf::from(dir).join(name)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Self {
        let mut nodes = Self::cluster_with(1, flags).await;
        nodes.remove(0)
    }

    pub async fn cluster(nodes: usize) -> Vec<Self> {
        Self::cluster_with(nodes, &[]).await
    }

    async fn cluster_with(count: usize, flags: &[&str]) -> Vec<Self> {
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let cluster: Vec<String> =
            ports.iter().enumerate().map(|(i, (_, q))| format!("n{i}=http://127.0.0.1:{q}")).collect();
        let mut nodes: Vec<Self> = ports
            .iter()
            .enumerate()
            .map(|(i, (port, peer))| {
                let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
                Self {
                    port: *port,
                    peer: *peer,
                    name: format!("n{i}"),
                    cluster: cluster.join(","),
                    dir: std::env::temp_dir().join(format!("sr-etcd-{}-{serial}", std::process::id())),
                    flags: flags.iter().map(|f| (*f).to_owned()).collect(),
                    child: None,
                }
            })
            .collect();
        for node in &mut nodes {
            node.spawn();
        }
        for node in &nodes {
            node.ready().await;
        }
        nodes
    }

    fn spawn(&mut self) {
        fs::create_dir_all(&self.dir).unwrap();
        let tls = self.flags.iter().any(|flag| flag == "--cert-file");
        let client = format!("http{}://127.0.0.1:{}", if tls { "s" } else { "" }, self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary("etcd"))
            .args(["--name", &self.name, "--log-level", "error", "--unsafe-no-fsync"])
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .arg("--data-dir")
            .arg(self.dir.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster])
            .args(self.flags.iter().map(|flag| flag.replace("{dir}", self.dir.to_str().unwrap())))
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub async fn ready(&self) {
        for _ in 0..200 {
            let tls = self.flags.iter().any(|flag| flag == "--cert-file");
            if tls {
                // Its log stays empty, so an open port has to do.
                if tokio::net::TcpStream::connect(self.authority()).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let (up, said) = self.ctl_raw(&["get", "ready", "--command-timeout=1s"]);
            if up || said.contains("user name is empty") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd is not ready: {}", fs::read_to_string(self.dir.join("log")).unwrap());
    }

    fn ctl_raw(&self, args: &[&str]) -> (bool, String) {
        let out = Command::new(binary("etcdctl"))
            .arg(format!("--endpoints=http://127.0.0.1:{}", self.port))
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text)
    }

    pub fn ctl(&self, args: &[&str]) -> String {
        self.ctl_raw(args).1
    }

    pub fn ctl_input(&self, args: &[&str], input: &str) {
        use std::io::Write;
        let mut child = Command::new(binary("etcdctl"))
            .arg(format!("--endpoints=http://127.0.0.1:{}", self.port))
            .args(args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        self.spawn();
        self.ready().await;
    }

    /// Starts anew without any data.
    pub async fn wipe(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        fs::remove_dir_all(self.dir.join("data")).unwrap();
        self.spawn();
        self.ready().await;
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A backend and the client life it writes for.
pub struct Node {
    pub backend: Backend,
    pub incarnation: Incarnation,
}

pub async fn connect(url: &str) -> Node {
    let url: RegistryUrl = url.parse().unwrap();
    let context = ConnectContext::new(Namespace::new("prod").unwrap(), Duration::from_secs(5));
    let backend = EtcdConnector::new().connect(&url, &context).await.unwrap();
    Node { backend, incarnation: Incarnation::generate() }
}

impl Node {
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(self.backend.registry.as_ref().unwrap())
    }

    pub fn discovery(&self) -> Arc<dyn Discovery> {
        Arc::clone(self.backend.discovery.as_ref().unwrap())
    }

    pub async fn grant(&self, secs: u64) -> Result<Arc<dyn Lease>, Error> {
        self.registry().grant(&Grant::new(Duration::from_secs(secs), self.incarnation)).await
    }

    pub fn record(&self, instance: &Instance, sequence: u64) -> Publish {
        let version = RecordVersion { incarnation: self.incarnation, epoch: 1, sequence };
        Publish::new(Arc::new(instance.clone()), version, OnDuplicate::TakeOver)
    }

    pub fn watch(&self, service: &str) -> WatchStream {
        self.discovery().watch(&target(service), None)
    }
}

pub fn target(service: &str) -> Target {
    Target::try_from(service).unwrap()
}

pub fn instance(service: &str, id: &str) -> Instance {
    Instance::builder(service).id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

pub fn key(service: &str, id: &str) -> InstanceKey {
    instance(service, id).key()
}

/// The next event that has changes or rejected keys.
pub async fn event(watch: &mut WatchStream) -> Result<Event, Error> {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next())
            .await
            .expect("an event comes in time")
            .expect("the stream goes on")?;
        if !event.changes.is_empty() || !event.rejected.is_empty() {
            return Ok(event);
        }
    }
}

/// The ids of a reset, sorted.
pub fn reset_ids(event: &Event) -> Vec<String> {
    let Change::Reset(instances) = &event.changes[0] else { panic!("no reset: {event:?}") };
    let mut ids: Vec<String> = instances.iter().map(|i| i.id().to_string()).collect();
    ids.sort();
    ids
}
