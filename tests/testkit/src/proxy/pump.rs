//! Carries one direction of one connection, under the conditions of the moment.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::conditions::{Conditions, Flow, Way};

/// One read, and with [`QUEUE`] the bound of what a direction keeps in memory.
const CHUNK: usize = 16 * 1024;
/// Chunks that wait for their delay to pass or for a hold to end; a full queue stops the reading, so that the
/// sender sees the back-pressure of a real stalled path.
const QUEUE: usize = 16;

/// What was read, and when.
enum Arrival {
    Bytes(Instant, Vec<u8>),
    End(Instant),
    Failed(io::Error),
}

/// Copies from `from` to `to` until the end of the stream, which is passed on as a half-close.
///
/// A hold keeps back the end and a failure too: the other side must not learn anything from a silent path.
pub(crate) async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    conditions: watch::Receiver<Conditions>,
    way: Way,
) -> io::Result<()> {
    let (queue, arrivals) = mpsc::channel(QUEUE);
    let mut gate = Gate { conditions, way };
    // The writer decides when the direction is over: it still has the queue to empty when the reader is done.
    tokio::select! {
        never = read(from, queue) => match never {},
        written = write(to, arrivals, &mut gate) => written,
    }
}

async fn read(mut from: ReadHalf<'_>, queue: mpsc::Sender<Arrival>) -> Infallible {
    loop {
        let mut bytes = vec![0; CHUNK];
        let (arrival, last) = match from.read(&mut bytes).await {
            Ok(0) => (Arrival::End(Instant::now()), true),
            Ok(count) => {
                bytes.truncate(count);
                (Arrival::Bytes(Instant::now(), bytes), false)
            }
            Err(error) => (Arrival::Failed(error), true),
        };
        if queue.send(arrival).await.is_err() || last {
            return pending().await;
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut arrivals: mpsc::Receiver<Arrival>,
    gate: &mut Gate,
) -> io::Result<()> {
    while let Some(arrival) = arrivals.recv().await {
        match arrival {
            Arrival::Bytes(at, bytes) => {
                gate.due(at).await;
                if let Err(error) = deliver(&mut to, &bytes, gate).await {
                    // The receiver is gone; the sender hears of it only through the direction back.
                    gate.way = gate.way.reverse();
                    gate.opened().await;
                    return Err(error);
                }
            }
            Arrival::End(at) => {
                gate.due(at).await;
                gate.opened().await;
                return to.shutdown().await;
            }
            Arrival::Failed(error) => {
                gate.opened().await;
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn deliver(to: &mut WriteHalf<'_>, bytes: &[u8], gate: &mut Gate) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let flow = gate.opened().await;
        let piece = &rest[..flow.piece(rest.len())];
        // `write` is cancel safe: when a change wins, none of the piece was written.
        let written = tokio::select! {
            biased;
            () = gate.changed() => continue,
            written = to.write(piece) => written?,
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[written..];
        let pause = flow.rest(written);
        if !pause.is_zero() {
            tokio::select! {
                () = sleep(pause) => {},
                () = gate.changed() => {},
            }
        }
    }
    Ok(())
}

/// One direction's view of the conditions.
pub(crate) struct Gate {
    pub(crate) conditions: watch::Receiver<Conditions>,
    pub(crate) way: Way,
}

impl Gate {
    /// Waits until the direction is not held.
    pub(crate) async fn opened(&mut self) -> Flow {
        let way = self.way;
        if let Ok(conditions) = self.conditions.wait_for(|conditions| !conditions.flow(way).held).await {
            return conditions.flow(way);
        }
        // The proxy is gone and about to end this task.
        pending().await
    }

    /// Waits until `at` is as long ago as the direction's delay, however often that changes meanwhile.
    async fn due(&mut self, at: Instant) {
        loop {
            let delay = self.conditions.borrow_and_update().flow(self.way).delay;
            if delay.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep_until(at + delay) => return,
                () = self.changed() => {},
            }
        }
    }

    async fn changed(&mut self) {
        if self.conditions.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}
