//! Five instances are replaced one after another while callers go on, over HTTP and gRPC: not one request fails.
//!
//! `cargo run --features axum,tonic-server --example rolling_restart` needs no server: the registry lives in this
//! process, and so do the instances, each with a client of its own. With `--features axum,tonic-server,etcd` and the
//! arguments `-- --registry etcd://127.0.0.1:2379` each instance is a process of its own and is replaced by SIGTERM, as
//! by a deployment.
//!
//! `instance.rs` is what a service does, `load.rs` what its callers do, `fleet.rs` where they run.

#[cfg(feature = "etcd")]
mod etcd;
mod fleet;
#[path = "../greeter/mod.rs"]
mod greeter;
mod instance;
mod load;
mod memory;

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
        #[cfg(feature = "etcd")]
        ["--registry", url] => told(async || restart(etcd::EtcdFleet::new(url)?).await).await,
        // With an etcd of its own, for those who have built one for the tests.
        #[cfg(feature = "etcd")]
        ["--own-etcd"] => match registry_testkit::Etcd::start().await {
            Ok(server) => {
                let url = format!("etcd://{}", server.address());
                told(async || restart(etcd::EtcdFleet::new(&url)?).await).await
            }
            Err(error) => Err(error.into()),
        },
        // How the example starts its own instances.
        #[cfg(feature = "etcd")]
        ["--instance", name, url] => etcd::be_instance(name, url).await,
        #[cfg(not(feature = "etcd"))]
        ["--registry" | "--own-etcd", ..] => Err("build it with `--features etcd` for that".into()),
        _ => Err("usage: rolling_restart [--registry etcd://HOST:PORT | --own-etcd]".into()),
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
