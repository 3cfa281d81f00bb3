//! A reqwest client for which `http://orders/lines` goes to an instance of `orders`, at whichever address and port.
//!
//! `cargo run --features axum,reqwest --example reqwest_client` brings its own two instances, with a registry in this
//! process; `cargo run --features axum,etcd,reqwest --example reqwest_client -- etcd://127.0.0.1:2379` calls those that the
//! example `axum_server` started.

use std::{env, error::Error, time::Duration};

use axum::{Router, routing::get};
use service_registry::{
    Client, Drain, MemoryRegistry,
    tower::{Server, ServiceClient},
};
use tokio::net::TcpListener;

/// How many requests.
const REQUESTS: usize = 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        Some(url) => call(&service_registry::connect(&url).await?).await,
        None => {
            let registry = MemoryRegistry::new();
            let hosts = [host(&registry).await?, host(&registry).await?];
            let client = Client::from_backend(registry.backend()).await?;
            client.discover("orders").await?.ready(hosts.len()).await?;
            call(&client).await?;
            for host in hosts {
                host.drain(Drain::new().propagate(Duration::ZERO)).await;
            }
            Ok(())
        }
    }
}

async fn call(client: &Client) -> Result<(), Box<dyn Error>> {
    // Servers close idle connections, most of them after 30 s or later: sooner here, so that no request meets that.
    let http = reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(15)).build()?;
    let http = ServiceClient::new(client, http);
    for _ in 0..REQUESTS {
        let answer = http.get("http://orders/lines").timeout(Duration::from_secs(1)).send().await?;
        print!("{}", answer.error_for_status()?.text().await?);
    }
    Ok(())
}

/// An instance with a client of its own, as if it were a process.
async fn host(registry: &MemoryRegistry) -> Result<Client, Box<dyn Error>> {
    let client = Client::from_backend(registry.backend()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = Router::new().route("/lines", get(async move || format!("7 lines, from {address}\n")));
    let server = Server::new(listener, app).register("orders");
    let of_server = client.clone();
    tokio::spawn(async move {
        if let Err(error) = server.run(&of_server).await {
            println!("an instance could not serve: {error:#}");
        }
    });
    Ok(client)
}
