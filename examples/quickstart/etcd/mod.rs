//! The story's place with a server: an etcd, and one process per instance.

mod keys;
mod link;

use std::{
    collections::HashMap,
    env,
    io::{Read, stdin},
    process::{Stdio, exit},
    thread,
    time::Duration,
};

use service_registry::Client;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use self::{keys::Keys, link::Link};
use crate::{
    Result,
    fleet::Fleet,
    instance, say,
    timeline::{self, wait_for},
};

/// How long a process may take to be registered.
const START: Duration = Duration::from_secs(10);
/// What an instance's process says once it is registered, in front of its endpoint.
const UP: &str = "up ";
/// The shortest time to live there is, and read-backs often enough to see a deleted record soon.
const OPTIONS: &str = "ttl=3s&audit=2s";

/// A namespace of an etcd that is this run's alone, and the instances in it.
pub(crate) struct EtcdFleet {
    /// Host and port of etcd.
    server: String,
    namespace: String,
    keys: Keys,
    /// What the callers reach etcd through.
    link: Link,
    instances: HashMap<String, Child>,
}

impl EtcdFleet {
    /// Reads `etcd://HOST:PORT` and asks whether somebody is there.
    pub(crate) async fn new(url: &str) -> Result<Self> {
        let server = url.strip_prefix("etcd://").unwrap_or_default().trim_end_matches('/');
        if server.is_empty() || server.contains(['/', ',', '@', '?']) {
            return Err(format!("the story needs a plain etcd://HOST:PORT, not {url:?}").into());
        }
        let namespace = format!("quickstart-{:016x}", fastrand::u64(..));
        let keys = Keys::new(server, &namespace)?;
        keys.count().await?;
        let link = Link::open(server).await?;
        Ok(Self { server: server.to_owned(), namespace, keys, link, instances: HashMap::new() })
    }

    fn url(&self, server: &str) -> String {
        format!("etcd://{server}/{}?{OPTIONS}", self.namespace)
    }

    fn take(&mut self, name: &str) -> Result<Child> {
        self.instances.remove(name).ok_or_else(|| format!("there is no {name}").into())
    }
}

impl Fleet for EtcdFleet {
    fn registry(&self) -> String {
        format!("the etcd at {}, namespace {:?}", self.server, self.namespace)
    }

    async fn client(&self) -> Result<Client> {
        Ok(service_registry::connect(&self.url(&self.link.address().to_string())).await?)
    }

    async fn start(&mut self, name: &str) -> Result<()> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--instance", name, &self.url(&self.server)])
            // Never written to: its end tells the instance that the story is over.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        let stdout = child.stdout.take().ok_or("the process has no output")?;
        let mut facts = BufReader::new(stdout).lines();
        let first =
            wait_for("the process says something", START, facts.next_line()).await??.unwrap_or_default();
        let Some(endpoint) = first.strip_prefix(UP) else {
            return Err(format!("{name} didn't start: {first}").into());
        };
        say!("{name} serves at {endpoint} in process {pid} and is registered");
        // Ends with the process.
        tokio::spawn(async move {
            while let Ok(Some(fact)) = facts.next_line().await {
                say!("{fact}");
            }
        });
        self.instances.insert(name.to_owned(), child);
        Ok(())
    }

    async fn crash(&mut self, name: &str) -> Result<()> {
        self.take(name)?.kill().await?;
        say!("{name} crashed: killed with SIGKILL, and the registry doesn't know yet");
        Ok(())
    }

    async fn drain(&mut self, name: &str) -> Result<()> {
        let mut child = self.take(name)?;
        let pid = child.id().ok_or_else(|| format!("{name} has ended already"))?;
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid.to_string()]).status().await?;
        if !sent.success() {
            return Err(format!("SIGTERM could not be sent to {name}").into());
        }
        // Waiting would close it, which means something else to the instance.
        let _stdin = child.stdin.take();
        let status = child.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}").into()) }
    }

    async fn registry_goes_away(&mut self) -> Result<()> {
        self.link.cut();
        say!("the caller's link to etcd is cut");
        Ok(())
    }

    async fn registry_forgets(&mut self) -> Result<()> {
        let deleted = self.keys.delete().await?;
        if deleted == 0 {
            return Err("there was nothing to delete".into());
        }
        say!("meanwhile somebody deleted all {deleted} records of the service");
        Ok(())
    }

    async fn registry_comes_back(&mut self) -> Result<()> {
        self.link.restore();
        say!("the caller's link to etcd is back");
        Ok(())
    }

    async fn registered(&self) -> Result<usize> {
        self.keys.count().await
    }
}

/// The whole of what an instance's process does: register, serve, leave on SIGTERM.
pub(crate) async fn be_instance(name: &str, url: &str) -> Result<()> {
    end_with_the_story()?;
    let client = service_registry::connect(url).await?;
    let leaving = client.drain_on_signal(instance::how_to_leave())?;
    let running = instance::start(name, &client).await?;
    timeline::print(&format!("{UP}{}", running.endpoint()));
    let report = leaving.await;
    running.drained(&report).await
}

/// Ends this process when the one that tells the story is gone, however that ended.
fn end_with_the_story() -> Result<()> {
    thread::Builder::new().name("parent".to_owned()).spawn(|| {
        // Either way there is nobody left to serve.
        let _ended = stdin().read(&mut [0]);
        exit(1)
    })?;
    Ok(())
}
