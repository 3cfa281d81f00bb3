//! A service of ours, as others meet it.

use std::time::Duration;

use axum::{Router, routing::get};
use service_registry::{Client, Drain, DrainReport, Instance, tower::Server};
use tokio::{net::TcpListener, task::JoinHandle};

/// An instance of a service that says hello under `/hello`, registered by a client of its own.
pub(crate) struct Service {
    client: Client,
    uri: String,
    running: JoinHandle<DrainReport>,
}

impl Service {
    /// Starts one; done when it is registered.
    pub(crate) async fn start(url: &str, service: &str, name: &'static str) -> Self {
        let client = service_registry::connect(url).await.expect("the URL is right");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let instance = Instance::from_listener(service, &listener).expect("a valid name");
        let instance = instance.to_builder().id(name).metadata("language", "Rust").build();
        let instance = instance.expect("all of it is valid");
        let uri = instance.endpoint().to_string();
        let app = Router::new().route("/hello", get(async move || hello(name)));
        let server = Server::new(listener, app).register_instance(instance).drain(Drain::new());
        let of_server = client.clone();
        let running = tokio::spawn(async move { server.run(&of_server).await.expect("it serves") });
        while !client.health().is_registered() || client.health().registrations.is_empty() {
            assert!(!running.is_finished(), "it left before it was registered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { client, uri, running }
    }

    /// Where it is called.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// Leaves as on SIGTERM.
    pub(crate) async fn leave(self) -> DrainReport {
        self.client.drain(Drain::new()).await;
        self.running.await.expect("it doesn't panic")
    }
}

/// What the instance answers.
pub(crate) fn hello(name: &str) -> String {
    format!("hello from {name}")
}
