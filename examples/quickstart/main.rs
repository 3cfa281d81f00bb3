//! A fleet of three, through everything that happens to fleets, without one failed call.
//!
//! `cargo run --example quickstart` needs no server: the registry lives in this process.
//! `cargo run --features consul --example quickstart -- --registry consul://127.0.0.1:8500` tells the same story on a
//! Consul, with each instance in a process of its own; `etcd`, `eureka` and `nacos` as well. Where the URL names no host,
//! as in `consul://`, a server is started that `cargo xtask servers` has built, and crashes on the way; a Nacos starts only
//! where nobody else can reach it: `tests/servers/apart cargo run …`.
//!
//! Start reading in `story.rs`; `instance.rs` is what a service does, `load.rs` what its callers do.

mod fleet;
mod instance;
mod load;
mod memory;
#[cfg(unix)]
mod served;
#[cfg(unix)]
#[path = "../server/mod.rs"]
mod server;
mod story;
mod timeline;

use std::{env, error::Error, process::ExitCode, time::Duration};

/// The errors of the example: whatever they are, they end it.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long the whole may take: about 15 s in this process, twice that with a server in Java.
const STORY: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match arguments[..] {
        [] => tell(memory::MemoryFleet::new()).await,
        #[cfg(unix)]
        ["--registry", url] => match served::ServedFleet::open(url).await {
            Ok(fleet) => tell(fleet).await,
            Err(error) => Err(error),
        },
        // How the example starts its own instances.
        #[cfg(unix)]
        ["--instance", name, url] => served::be_instance(name, url).await,
        #[cfg(not(unix))]
        ["--registry", _] => Err("processes are started and ended as on Unix".into()),
        _ => Err("usage: quickstart [--registry SCHEME://[HOST:PORT]]".into()),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("FAILED: {}", timeline::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn tell(fleet: impl fleet::Fleet) -> Result<()> {
    timeline::wait_for("the whole story", STORY, story::tell(fleet)).await?
}
