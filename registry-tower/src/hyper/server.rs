//! A server that registers once its port is open, and leaves cleanly.

use std::fmt;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use registry_core::{Client, Drain, DrainReport, Error, InFlight, Instance, RegisterOptions, Registration};
use tokio::{net::TcpListener, sync::oneshot};
use tower_layer::Layer;
use tower_service::Service;

use super::connection;
use crate::{BoxError, drain::DrainLayer, listen::Connections};

/// An HTTP server, HTTP/1 and HTTP/2 without TLS, that is wired to a client's registration and drain.
///
/// The application is any `tower` service of requests, an axum `Router` for one; with the feature `axum` its handlers
/// may extract `ConnectInfo<SocketAddr>`. [`run`](Self::run) does everything
/// in the right order:
///
/// 1. signal handlers are installed;
/// 2. the port is open, as the listener is given, and connections are accepted;
/// 3. the instance is registered;
/// 4. on SIGTERM or SIGINT, or when the client is drained by other means: the drain's stages. The server goes on until
///    new work is to be refused; then it accepts what has connected already and no more, answers 503 with
///    `connection: close` to new requests, closes idle connections, and finishes what is in flight. What isn't
///    finished at the end of the drain's budget is dropped.
#[must_use = "a server does nothing until it runs"]
pub struct Server<S> {
    listener: TcpListener,
    app: S,
    instance: Option<Result<Instance, Error>>,
    options: RegisterOptions,
    drain: Drain,
    exempt: Vec<String>,
}

impl<S> Server<S> {
    /// A server of `app` on a port that is open.
    pub fn new(listener: TcpListener, app: S) -> Self {
        Self {
            listener,
            app,
            instance: None,
            options: RegisterOptions::new(),
            drain: Drain::new(),
            exempt: Vec::new(),
        }
    }

    /// Registers it as an instance of `service` at the listener's port, see [`Instance::from_listener`].
    pub fn register(mut self, service: impl AsRef<str>) -> Self {
        self.instance = Some(Instance::from_listener(service, &self.listener));
        self
    }

    /// Registers this instance instead: with a zone, metadata, an address of its own.
    pub fn register_instance(mut self, instance: Instance) -> Self {
        self.instance = Some(Ok(instance));
        self
    }

    /// How to register.
    pub fn options(mut self, options: RegisterOptions) -> Self {
        self.options = options;
        self
    }

    /// How to leave; within 25 s by default.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Requests for exactly this path are answered as long as anything is, see [`DrainLayer::exempt`].
    pub fn exempt(mut self, path: impl Into<String>) -> Self {
        self.exempt.push(path.into());
        self
    }
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Default + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Serves, registers, and on a signal leaves; returns what came of the leaving.
    ///
    /// # Errors
    /// As for [`Client::register_with`] and [`Client::drain_on_signal`]; nothing more is accepted then, and open
    /// connections go on.
    ///
    /// # Cancel safety
    /// Dropped, it accepts nothing more and withdraws the registration; open connections go on.
    pub async fn run(mut self, client: &Client) -> Result<DrainReport, Error> {
        let (drain, options) = (self.drain.clone(), self.options);
        let leaving = client.drain_on_signal(drain.clone())?;
        let instance = self.instance.take().transpose()?;
        let _accepting = self.accept(client);

        let in_flight = client.in_flight();
        let serving = async {
            let _registration: Option<Registration> = match instance {
                Some(instance) => Some(client.register_with(instance, options).await?),
                None => None,
            };
            in_flight.refusing().await;
            Ok::<_, Error>(())
        };
        tokio::pin!(leaving);
        tokio::select! {
            biased;
            report = &mut leaving => return Ok(report),
            refusing = serving => refusing?,
        }
        // If nobody has sent a signal, somebody else drains the client, or has closed it: this waits for the same end.
        tokio::select! {
            report = leaving => Ok(report),
            report = client.drain(drain) => Ok(report),
        }
    }

    /// Serves until the client's drain is over, and leaves registering and draining to others.
    ///
    /// # Cancel safety
    /// Dropped, it accepts nothing more; open connections go on.
    pub async fn serve(self, client: &Client) {
        let _accepting = self.accept(client);
        client.in_flight().aborted().await;
    }

    /// Accepts connections until the drain refuses new work, or until the result is dropped.
    fn accept(self, client: &Client) -> oneshot::Sender<()> {
        let in_flight = client.in_flight();
        let layer = self.exempt.into_iter().fold(DrainLayer::new(in_flight.clone()), DrainLayer::exempt);
        let (accepting, dropped) = oneshot::channel();
        let accept = accept(self.listener, layer.layer(self.app), in_flight.clone(), dropped);
        in_flight.spawn("http server", accept);
        accepting
    }
}

/// Accepts connections until a drain refuses new work.
async fn accept<S, B>(listener: TcpListener, app: S, in_flight: InFlight, mut stop: oneshot::Receiver<()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut connections = Connections::new(listener, in_flight.clone());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => return,
            accepted = connections.next() => accepted,
        };
        let Some(accepted) = accepted else { return };
        in_flight.spawn("http connection", connection::serve(accepted, app.clone(), in_flight.clone()));
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("instance", &self.instance)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
