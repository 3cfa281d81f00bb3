//! What a service does: listen, register, serve, leave.

use std::time::Duration;

use axum::{Router, routing::get};
use service_registry::{Client, Drain, DrainReport, InFlight, Instance, Registration, RegistrationEvent};
use tokio::net::TcpListener;

use crate::{Result, fleet::SERVICE, say};

/// How long one request takes, so that a drain has something to wait for.
const WORK: Duration = Duration::from_millis(20);

/// An instance that serves and is registered.
pub(crate) struct Running {
    /// Keeps it registered for as long as it is held.
    registration: Registration,
    /// Whether the server ended well, once it has ended.
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Starts to serve on a free port, then registers: nobody is sent to a port that doesn't answer yet.
pub(crate) async fn start(name: &str, client: &Client) -> Result<Running> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let instance = Instance::from_listener(SERVICE, &listener)?.to_builder().id(name).build()?;
    let in_flight = client.in_flight();
    let (answer, counted) = (name.to_owned(), in_flight.clone());
    let app = Router::new().route("/", get(move || work(answer.clone(), counted.clone())));
    let serve = axum::serve(listener, app).with_graceful_shutdown(async move { in_flight.refusing().await });
    let server = tokio::spawn(async move { serve.await });

    let registration = client.register(instance).await?;
    let who = name.to_owned();
    registration.on_event(move |event| tell(&who, &event));
    Ok(Running { registration, server })
}

/// Answers with its own name. The guard tells a drain that a request is being worked on.
async fn work(name: String, in_flight: InFlight) -> String {
    let _guard = in_flight.enter();
    tokio::time::sleep(WORK).await;
    name
}

/// How an instance leaves here: it serves on while the news of its removal travels, as long as the registry needs.
pub(crate) fn how_to_leave() -> Drain {
    Drain::new().budget(Duration::from_secs(12))
}

impl Running {
    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        self.registration.instance().endpoint().to_string()
    }

    /// What is left to do after a drain: the server must have ended by itself.
    pub(crate) async fn drained(self, report: &DrainReport) -> Result<()> {
        if !report.is_clean() {
            return Err(format!("the drain was not clean: {report:?}").into());
        }
        self.server.await??;
        Ok(())
    }
}

fn tell(name: &str, event: &RegistrationEvent) {
    match event {
        RegistrationEvent::Lost { cause, .. } => {
            say!("  {name} knows that it is no longer registered ({cause:?})");
        }
        RegistrationEvent::Recovered { epoch, downtime, .. } => {
            say!("  {name} registered itself again after {:.1} s (epoch {epoch})", downtime.as_secs_f64());
        }
        RegistrationEvent::Blocked { cause } => say!("  {name} is refused by the registry: {cause}"),
        _ => {}
    }
}
