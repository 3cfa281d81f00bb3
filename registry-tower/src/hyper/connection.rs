//! One connection of a server, from its acceptance to its end.
//!
//! ```text
//! open ── refusing ──> closing ── peer or last answer ──> closed
//!   │                     │
//!   └─ peer ──> closed    └─ no request and no write for LINGER, or the drain's budget is spent ──> cut
//! ```
//!
//! Closing is hyper's graceful shutdown: over HTTP/1 the connection ends with the present answer, which says
//! `connection: close`, and over HTTP/2 with two GOAWAYs (RFC 9113, section 6.8). It waits for the peer for ever
//! (<https://github.com/hyperium/hyper/issues/4170>): one that sent half a head, doesn't acknowledge, or doesn't
//! read, would hold up the exit. So a connection on which nothing goes on is cut after a while, and each is a task that the
//! drain drops in the end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use registry_core::InFlight;
use tokio::{net::TcpStream, time::sleep};
use tower_service::Service;

use super::activity::{Activity, Noting, NotingIo};
use crate::BoxError;

/// How long a connection without a request may take to close; also how long a new one is given to send its first.
/// While something is written to it, it has until the end of the drain's budget.
const LINGER: Duration = Duration::from_secs(3);
/// The same for a connection whose buffers are full: the system makes room again only when the peer has read about a
/// third of some megabytes.
const BLOCKED: Duration = Duration::from_secs(10);
/// How long a peer over HTTP/2 may be silent before it is asked whether it lives; and how long it may then take.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Serves one connection until either side closes it, or a drain does.
#[cfg_attr(not(feature = "axum"), expect(unused_variables, reason = "only axum wants to know the peer"))]
pub(super) async fn serve<S, B>((stream, peer): (TcpStream, SocketAddr), service: S, in_flight: InFlight)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let activity = Arc::new(Activity::default());
    let service = TowerToHyperService::new(Noting {
        inner: service,
        activity: Arc::clone(&activity),
        #[cfg(feature = "axum")]
        peer,
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // With a timer, half a head is waited for 30 s only.
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_EVERY);
    let stream = NotingIo { io: stream, activity: Arc::clone(&activity) };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);

    tokio::select! {
        outcome = connection.as_mut() => return log(outcome),
        () = in_flight.refusing() => {}
    }
    // One that was just opened has a request under way: it gets an answer, which says that it may go elsewhere.
    tokio::select! {
        outcome = connection.as_mut() => return log(outcome),
        () = activity.first() => {}
        () = sleep(LINGER) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        outcome = connection.as_mut() => log(outcome),
        () = activity.idle_for(LINGER, BLOCKED) => tracing::debug!("a connection with nothing to do did not close; it is cut"),
    }
}

/// Peers come and go as they like: nothing that anybody has to mend.
fn log(outcome: Result<(), BoxError>) {
    if let Err(error) = outcome {
        tracing::debug!(error, "a connection ended early");
    }
}
