//! The story's place with a server: any registry, and one process per instance.

mod link;
mod records;

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
    runtime::Handle,
    task::block_in_place,
};

use self::{link::Link, records::Records};
use crate::{
    Result,
    fleet::Fleet,
    instance, say,
    server::{Kind, Place, Server},
    timeline::{self, wait_for},
};

/// How long a process may take to be registered.
const START: Duration = Duration::from_secs(10);
/// What an instance's process says once it is registered, in front of its endpoint.
const UP: &str = "up ";
/// The shortest time to live there is, so that nobody has to wait for a crash to be noticed.
const TTL_SECONDS: u32 = 3;

/// A namespace of a registry that is this run's alone, and the instances in it.
pub(crate) struct ServedFleet {
    server: Server,
    namespace: String,
    records: Records,
    /// What the callers reach a registry through that can't be killed, as it isn't ours.
    link: Option<Link>,
    instances: HashMap<String, Child>,
}

impl ServedFleet {
    /// With the registry at `SCHEME://HOST:PORT`, or with one of its own where only the scheme is named.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let server = Server::open(url).await?;
        let namespace = format!("quickstart-{:016x}", fastrand::u64(..));
        let records = Records::new(server.kind, &server.address(), &namespace)?;
        // Whether somebody is there.
        records.count().await?;
        let link = match &server.place {
            Place::Outside(address) => Some(Link::open(address).await?),
            _ => None,
        };
        Ok(Self { server, namespace, records, link, instances: HashMap::new() })
    }

    fn url(&self, address: &str) -> String {
        self.server.url(address, &self.namespace, TTL_SECONDS)
    }

    fn take(&mut self, name: &str) -> Result<Child> {
        self.instances.remove(name).ok_or_else(|| format!("there is no {name}").into())
    }
}

impl Fleet for ServedFleet {
    fn registry(&self) -> String {
        let whose = if self.link.is_some() { "the" } else { "an own" };
        format!(
            "{whose} {} at {}, namespace {:?}",
            self.server.kind.scheme(),
            self.server.address(),
            self.namespace
        )
    }

    fn soon(&self) -> Duration {
        Duration::from_secs(match self.server.kind {
            // A time to live of 3 s, and some air.
            Kind::Etcd | Kind::Consul => 8,
            // Twice the time to live, as Eureka counts it, and what its caches and the next list take.
            Kind::Eureka => 15,
            // 5 s, up to 5 s more until Nacos looks, and up to 2 s until a list shows it.
            Kind::Nacos => 20,
        })
    }

    async fn client(&self) -> Result<Client> {
        let address = match &self.link {
            Some(link) => link.address().to_string(),
            None => self.server.address(),
        };
        Ok(service_registry::connect(&self.url(&address)).await?)
    }

    async fn start(&mut self, name: &str) -> Result<()> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--instance", name, &self.url(&self.server.address())])
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
        match &self.server.place {
            Place::Outside(_) => {
                self.link.iter().for_each(Link::cut);
                say!("the caller's link to the registry is cut");
                return Ok(());
            }
            Place::Etcd(etcd) => etcd.kill().await?,
            Place::Consul(consul) => consul.kill().await?,
            Place::Eureka(eureka) => eureka.kill().await?,
            Place::Nacos(nacos) => nacos.kill().await?,
        }
        say!("the registry crashed: killed with SIGKILL");
        Ok(())
    }

    async fn registry_forgets(&mut self) -> Result<()> {
        match &self.server.place {
            Place::Outside(_) => {
                let deleted = self.records.delete().await?;
                if deleted == 0 {
                    return Err("there was nothing to delete".into());
                }
                say!("meanwhile somebody deleted all {deleted} records of the service");
                return Ok(());
            }
            Place::Etcd(etcd) => etcd.wipe().await?,
            Place::Consul(consul) => consul.wipe().await?,
            // It keeps nothing on disk.
            Place::Eureka(_) => {}
            Place::Nacos(nacos) => nacos.wipe().await?,
        }
        say!("meanwhile it lost its disk");
        Ok(())
    }

    async fn registry_comes_back(&mut self) -> Result<()> {
        match &self.server.place {
            Place::Outside(_) => {
                self.link.iter().for_each(Link::restore);
                say!("the caller's link to the registry is back");
                return Ok(());
            }
            place => block_in_place(|| Handle::current().block_on(restart(place)))?,
        }
        say!("the registry is back, and knows of nobody");
        Ok(())
    }

    async fn registered(&self) -> Result<usize> {
        self.records.count().await
    }
}

/// Starts a server of ours again. Its future can't be sent between threads, so far as the compiler can see.
async fn restart(place: &Place) -> Result<()> {
    match place {
        Place::Outside(_) => {}
        Place::Etcd(etcd) => etcd.restart().await?,
        Place::Consul(consul) => consul.restart().await?,
        Place::Eureka(eureka) => eureka.restart().await?,
        Place::Nacos(nacos) => nacos.restart().await?,
    }
    Ok(())
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
