//! A backend of one's own: a registry that is a directory, shared by the processes of one machine.
//!
//! `cargo run --example own_backend` tells its story; `cargo test --example own_backend` runs the conformance suite on it.
//! All of the backend is in `directory.rs`; copy that file to begin your own.

mod directory;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use service_registry::{Client, Drain, Instance, Registration, Upstream};
use tokio::{
    runtime::{self, Runtime},
    time::{Instant, sleep, timeout},
};

use directory::DirectoryConnector;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long the whole may take; about 4 s on an idle machine.
const STORY: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let root = std::env::temp_dir().join(format!("own-backend-{}", std::process::id()));
    let told = timeout(STORY, tell(&root)).await;
    drop(fs::remove_dir_all(&root));
    match told {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            println!("FAILED: not over after {STORY:?}");
            ExitCode::FAILURE
        }
    }
}

/// A client of the directory, made from a URL like any other.
async fn client(root: &Path) -> Result<Client> {
    let url = format!("directory:///shop?root={}&ttl=3s&audit=1s", root.display());
    Ok(service_registry::builder().connector(DirectoryConnector).url(&url).build().await?)
}

async fn register(client: &Client, id: &str, port: u16) -> Result<Registration> {
    let instance = Instance::builder("orders").id(id).endpoint(format!("http://127.0.0.1:{port}")).build()?;
    Ok(client.register(instance).await?)
}

async fn tell(root: &Path) -> Result<()> {
    let began = Instant::now();
    let say = |fact: &str| println!("[{:4.1}s] {fact}", began.elapsed().as_secs_f64());

    let ours = client(root).await?;
    let _alice = register(&ours, "alice", 8081).await?;
    let _bob = register(&ours, "bob", 8082).await?;
    let doomed = Doomed::start(root.to_path_buf())?;
    let reader = client(root).await?;
    let orders = reader.discover("orders").await?;
    orders.ready(3).await?;
    say(&format!("three are registered, as files: {}", files(root).join(", ")));
    say(&format!("three requests in turn go to {}", picks(&orders, 3)?.join(", ")));

    doomed.die();
    say("the process of carol dies without a word; nobody renews its lease");
    until(|| orders.snapshot().len() == 2).await;
    say(&format!("its lease ran out: requests go to {}", picks(&orders, 4)?.join(", ")));

    let theirs = client(root).await?;
    let _dave = register(&theirs, "dave", 8084).await?;
    orders.ready(3).await?;
    say(&format!("dave registers, and what carol left is swept: {}", files(root).join(", ")));

    let record = root.join("shop/services/orders/bob");
    fs::remove_file(&record)?;
    say("somebody removes the file of bob by hand");
    until(|| record.exists()).await;
    say("bob's client has looked, and has put it back");

    // Nothing is in flight here that the news would have to reach first.
    ours.drain(Drain::default().propagate(Duration::ZERO)).await;
    until(|| orders.snapshot().len() == 1).await;
    say(&format!("alice and bob leave in good order: requests go to {}", picks(&orders, 2)?.join(", ")));
    theirs.drain(Drain::default().propagate(Duration::ZERO)).await;
    reader.close().await;
    let left = files(root);
    say(&format!("dave leaves as well; files left: {}", left.len()));
    if left.is_empty() { Ok(()) } else { Err(format!("these were left over: {left:?}").into()) }
}

/// A client with a runtime of its own, so that it can end the way a process does: at once.
struct Doomed(Runtime);

impl Doomed {
    fn start(root: PathBuf) -> Result<Self> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let handle = runtime.handle().clone();
        let begun = thread::spawn(move || {
            handle.block_on(async {
                let client = client(&root).await?;
                let registration = register(&client, "carol", 8083).await?;
                // Both live as long as the runtime does.
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop((client, registration));
                });
                Ok(())
            })
        });
        begun.join().map_err(|_| "the thread of carol panicked")?.map(|()| Self(runtime))
    }

    fn die(self) {
        self.0.shutdown_background();
    }
}

fn picks(orders: &Upstream, count: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(orders.pick()?.id().to_string());
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// The names of all records, sorted.
fn files(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("shop/services/orders")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| format!("orders/{}", entry.file_name().display())).collect();
    names.sort();
    names
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry_testkit::conformance::Stage;
    use service_registry::backend::Backend;

    use super::directory::Directory;

    // Everything but a catalogue, which it has not.
    registry_testkit::conformance!(own: fresh; discovery, registry, changes, lease, session);

    /// A directory of its own for each case, which the system's cleaner may find if a case fails.
    async fn fresh(stage: Stage) -> Backend {
        let root = std::env::temp_dir().join("own-backend-tests").join(stage.namespace.as_str());
        Directory::new(root, Duration::from_millis(50)).backend()
    }
}
