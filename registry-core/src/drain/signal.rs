//! SIGTERM and SIGINT as the start of a drain.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::{Drain, DrainReport};
use crate::{Client, Error};

/// Waits for a signal, drains, and yields the report; a second signal cuts the drain short.
///
/// The handlers are installed when this is created, not when it is first polled: create it before slow start-up
/// work. On Unix SIGTERM and SIGINT, elsewhere Ctrl-C. Dropping it leaves the signals without effect, as tokio's
/// handlers stay installed for the life of the process.
#[must_use = "nothing happens on a signal unless this is awaited"]
pub struct DrainOnSignal(Pin<Box<dyn Future<Output = DrainReport> + Send>>);

impl DrainOnSignal {
    pub(crate) fn install(
        client: Client,
        drain: Drain,
        propagation: std::time::Duration,
    ) -> Result<Self, Error> {
        drain.check(propagation)?;
        let mut signals = Signals::install()?;
        Ok(Self(Box::pin(async move {
            signals.next().await;
            tracing::info!("signal received: draining; a second signal cuts it short");
            let draining = client.drain(drain);
            tokio::pin!(draining);
            tokio::select! {
                report = &mut draining => report,
                () = signals.next() => {
                    tracing::warn!("second signal: cutting the drain short");
                    client.cut_drain();
                    draining.await
                }
            }
        })))
    }
}

impl Future for DrainOnSignal {
    type Output = DrainReport;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<DrainReport> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for DrainOnSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DrainOnSignal")
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn install() -> Result<Self, Error> {
        use tokio::signal::unix::{SignalKind, signal};
        let fault =
            |e: std::io::Error| Error::invalid("the signal handlers can't be installed").with_source(e);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(fault)?,
            interrupt: signal(SignalKind::interrupt()).map_err(fault)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn install() -> Result<Self, Error> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // An error means that no handler can be installed: then there is no signal to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
