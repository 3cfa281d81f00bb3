//! Five instances are replaced one after another while callers go on, over HTTP and gRPC: not one request fails.
//!
//! `cargo run --features axum,tonic-server --example rolling_restart` needs no server: the registry lives in this
//! process, and so do the instances, each with a client of its own. With `--features axum,tonic-server,consul` and the
//! arguments `-- --registry consul://127.0.0.1:8500` each instance is a process of its own and is replaced by SIGTERM, as
//! by a deployment; `etcd`, `eureka` and `nacos` as well. Where the URL names no host, as in `consul://`, a server is
//! started that `cargo xtask servers` has built.
//!
//! `instance.rs` is what a service does, `load.rs` what its callers do, `fleet.rs` where they run.

mod fleet;
#[path = "../greeter/mod.rs"]
mod greeter;
mod instance;
mod load;
mod memory;
#[cfg(unix)]
mod served;
#[cfg(unix)]
#[path = "../server/mod.rs"]
mod server;

use std::{env, error::Error, process::ExitCode, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use self::{
    fleet::Fleet,
    instance::Left,
    load::{Load, TooFew},
};

/// The errors of the example: whatever they are, they end it.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How many instances there are.
const FLEET: usize = 5;
/// Fewer requests per second prove nothing.
const RATE: f64 = 500.0;
/// How often the story is told at most until there were as many.
const TELLINGS: usize = 3;
/// The load before and after.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the whole may take; about 20 s on an idle machine.
const STORY: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => told(async || restart(memory::MemoryFleet::new()).await).await,
        #[cfg(unix)]
        ["--registry", url] => match server::Server::open(url).await {
            Ok(server) => told(async || restart(served::ServedFleet::new(&server)).await).await,
            Err(error) => Err(error),
        },
        // How the example starts its own instances.
        #[cfg(unix)]
        ["--instance", name, url] => served::be_instance(name, url).await,
        #[cfg(not(unix))]
        ["--registry", _] => Err("processes are started and ended as on Unix".into()),
        _ => Err("usage: rolling_restart [--registry SCHEME://[HOST:PORT]]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story; once more if the machine was too busy to make the load that it is about.
async fn told(story: impl AsyncFn() -> Result<()>) -> Result<()> {
    for _ in 1..TELLINGS {
        match within(story()).await {
            Err(error) if error.is::<TooFew>() => println!("{error}; once more"),
            told => return told,
        }
    }
    within(story()).await
}

async fn within(story: impl Future<Output = Result<()>>) -> Result<()> {
    timeout(STORY, story).await.map_err(|_| format!("not done after {STORY:?}"))?
}

async fn restart(mut fleet: impl Fleet) -> Result<()> {
    println!("the registry is {}", fleet.registry());
    let mut old = Vec::new();
    for number in 1..=FLEET {
        old.push(format!("old-{number}"));
        fleet.start(&old[number - 1]).await?;
    }

    let client = fleet.client().await?;
    let load = Load::start(&client, FLEET).await?;
    sleep(PAUSE).await;
    let mut names = old.clone();
    for (number, leaving) in old.iter().enumerate() {
        let new = format!("new-{}", number + 1);
        let begin = Instant::now();
        fleet.start(&new).await?;
        let came = begin.elapsed();
        for left in fleet.leave(std::slice::from_ref(leaving)).await? {
            println!("{new} came in {came:.1?}; {leaving} left in {:.1?}; {}", left.elapsed, load.so_far());
            within_budget(left)?;
        }
        names.push(new);
    }
    sleep(PAUSE).await;
    let sum = load.stop().await;

    fleet.leave(&names[FLEET..]).await?.into_iter().try_for_each(within_budget)?;
    client.close().await;
    println!("{sum}");
    sum.check(&names, RATE)
}

fn within_budget(left: Left) -> Result<()> {
    if left.elapsed > instance::BUDGET || !left.is_clean {
        return Err(
            format!("an instance did not leave cleanly within {:?}: {left:?}", instance::BUDGET).into()
        );
    }
    Ok(())
}
