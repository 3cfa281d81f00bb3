//! With any registry: each instance is a process of its own, and leaves on SIGTERM.

use std::{
    collections::HashMap,
    env,
    io::{Read, stdin},
    process::{Stdio, exit},
    thread,
    time::Duration,
};

use futures_util::future::try_join_all;
use service_registry::Client;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    Result,
    fleet::Fleet,
    instance::{self, BUDGET, Left},
    server::Server,
};

/// How long a process may take to be registered.
const START: Duration = Duration::from_secs(10);
/// What an instance's process says once it is registered.
const UP: &str = "up";
/// What it says last, in front of how long leaving took, in milliseconds, and whether it was clean.
const LEFT: &str = "left";

/// In seconds; long enough for a machine that has its hands full.
const TTL_SECONDS: u32 = 5;

/// A namespace of a registry that is this run's alone, and the processes in it.
pub(crate) struct ServedFleet {
    url: String,
    instances: HashMap<String, Process>,
}

struct Process {
    child: Child,
    facts: Lines<BufReader<ChildStdout>>,
}

impl ServedFleet {
    /// The server has to outlive it.
    pub(crate) fn new(server: &Server) -> Self {
        let namespace = format!("rolling-restart-{:016x}", fastrand::u64(..));
        let url = server.url(&server.address(), &namespace, TTL_SECONDS);
        Self { url, instances: HashMap::new() }
    }
}

impl Fleet for ServedFleet {
    fn registry(&self) -> String {
        format!("{}; each instance is a process", self.url)
    }

    async fn client(&self) -> Result<Client> {
        Ok(service_registry::connect(&self.url).await?)
    }

    async fn start(&mut self, name: &str) -> Result<()> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--instance", name, &self.url])
            // Never written to: its end tells the instance that this is over.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the process has no output")?;
        let mut facts = BufReader::new(stdout).lines();
        let first = timeout(START, facts.next_line()).await??.unwrap_or_default();
        if first != UP {
            return Err(format!("{name} didn't start: {first}").into());
        }
        self.instances.insert(name.to_owned(), Process { child, facts });
        Ok(())
    }

    async fn leave(&mut self, names: &[String]) -> Result<Vec<Left>> {
        let leaving = names.iter().map(|name| {
            let process = self.instances.remove(name).ok_or_else(|| format!("there is no {name}"));
            async move { process?.leave(name).await }
        });
        try_join_all(leaving).await
    }
}

impl Process {
    async fn leave(mut self, name: &str) -> Result<Left> {
        let pid = self.child.id().ok_or_else(|| format!("{name} has ended already"))?;
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid.to_string()]).status().await?;
        if !sent.success() {
            return Err(format!("SIGTERM could not be sent to {name}").into());
        }
        // Waiting would close it, which means something else to the instance.
        let _stdin = self.child.stdin.take();
        let mut left = None;
        while let Some(fact) = timeout(2 * BUDGET, self.facts.next_line()).await?? {
            match fact.split(' ').collect::<Vec<_>>()[..] {
                [LEFT, elapsed, is_clean] => {
                    let elapsed = Duration::from_millis(elapsed.parse()?);
                    left = Some(Left { elapsed, is_clean: is_clean.parse()? });
                }
                _ => println!("{name}: {fact}"),
            }
        }
        let status = self.child.wait().await?;
        match left {
            Some(left) if status.success() => Ok(left),
            _ => Err(format!("{name} ended with {status}").into()),
        }
    }
}

/// The whole of what an instance's process does.
pub(crate) async fn be_instance(name: &str, url: &str) -> Result<()> {
    end_with_the_parent()?;
    let client = service_registry::connect(url).await?;
    let running = instance::start(name, &client).await?;
    println!("{UP}");
    let left = running.left().await?;
    println!("{LEFT} {} {}", left.elapsed.as_millis(), left.is_clean);
    Ok(())
}

/// Ends this process when the one that started it is gone, however that ended.
fn end_with_the_parent() -> Result<()> {
    thread::Builder::new().name("parent".to_owned()).spawn(|| {
        // Either way there is nobody left to serve.
        let _ended = stdin().read(&mut [0]);
        exit(1)
    })?;
    Ok(())
}
