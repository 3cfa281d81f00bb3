//! An axum service that registers once its port is open, and leaves cleanly on SIGTERM or Ctrl-C.
//!
//! `cargo run --features axum --example axum_server` serves alone, with a registry in its own process; with a real one:
//! `cargo run --features axum,etcd --example axum_server -- etcd://127.0.0.1:2379`, as often as you like. The example
//! `reqwest_client` calls it.

use std::env;

use axum::{Router, routing::get};
use service_registry::tower::Server;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "memory://".to_owned());
    let client = service_registry::connect(&url).await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("serving http://{address}/lines, registered as \"orders\" in {url}; Ctrl-C to leave");

    let app = Router::new()
        .route("/lines", get(async move || format!("7 lines, from {address}\n")))
        .route("/health", get(async || "alive\n"));
    // Health checks are answered to the very end.
    let report = Server::new(listener, app).register("orders").exempt("/health").run(&client).await?;

    println!("left after {:.1?}; clean: {}", report.elapsed, report.is_clean());
    Ok(())
}
