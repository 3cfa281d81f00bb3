//! A fleet of three, through everything that happens to fleets, without one failed call.
//!
//! `cargo run --example quickstart` needs no server: the registry lives in this process.
//! `cargo run --features etcd --example quickstart -- --registry etcd://127.0.0.1:2379` tells the same story on etcd,
//! with each instance in a process of its own.
//!
//! Start reading in `story.rs`; `instance.rs` is what a service does, `load.rs` what its callers do.

#[cfg(feature = "etcd")]
mod etcd;
mod fleet;
mod instance;
mod load;
mod memory;
mod story;
mod timeline;

use std::{env, error::Error, process::ExitCode, time::Duration};

/// The errors of the example: whatever they are, they end it.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long the whole may take; about 10 s on an idle machine.
const STORY: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match arguments[..] {
        [] => tell(memory::MemoryFleet::new()).await,
        #[cfg(feature = "etcd")]
        ["--registry", url] => match etcd::EtcdFleet::new(url).await {
            Ok(fleet) => tell(fleet).await,
            Err(error) => Err(error),
        },
        // How the example starts its own instances.
        #[cfg(feature = "etcd")]
        ["--instance", name, url] => etcd::be_instance(name, url).await,
        #[cfg(not(feature = "etcd"))]
        ["--registry", _] => Err("build it with `--features etcd` for that".into()),
        _ => Err("usage: quickstart [--registry etcd://HOST:PORT]".into()),
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
