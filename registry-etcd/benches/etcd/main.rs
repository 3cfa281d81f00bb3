//! What the etcd backend costs beside a bare client of the same server: `cargo bench -p registry-etcd --bench etcd`,
//! with the ids of bounds behind `--` to run only those.
//!
//! Everything is a ratio to a bare `etcd-client` in the same rounds, or a count that the server kept. The server is a
//! real one, without fsync; its data lies below `TMPDIR`, which is best a tmpfs.
//!
//! Here and not beside the other benchmarks: it needs `etcd-client`, whose build needs `protoc`, and the development
//! dependencies of the root package are compiled by everybody who tries an example.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail; the lint only knows tests")]

#[cfg(unix)]
mod burst;
#[cfg(unix)]
mod idle;
#[cfg(unix)]
mod register;
#[cfg(unix)]
mod renew;
#[cfg(unix)]
mod stage;
#[cfg(unix)]
mod sync;
#[cfg(unix)]
mod watch;
#[cfg(unix)]
mod watchers;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use registry_bench_support::conclude;

    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |id: &str| asked.is_empty() || asked.iter().any(|asked| asked == id);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let bounds = runtime.block_on(async {
        let mut bounds = Vec::new();
        if wants("W1") {
            bounds.extend(Box::pin(watch::measure()).await);
        }
        if wants("W2") {
            bounds.extend(Box::pin(sync::measure()).await);
        }
        if wants("W3") {
            bounds.extend(Box::pin(burst::measure()).await);
        }
        if wants("R1") {
            bounds.extend(Box::pin(register::measure()).await);
        }
        if wants("R2") {
            bounds.extend(Box::pin(renew::measure()).await);
        }
        if wants("I1") || wants("I2") {
            bounds.extend(Box::pin(idle::measure()).await);
        }
        bounds
    });
    conclude(&bounds)
}

#[cfg(not(unix))]
fn main() {
    println!("the server is started by its launcher, which knows Unix only");
}
