//! What a proxy currently does to its connections.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

/// The state every connection of a proxy follows while it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// Where new connections go.
    pub(crate) target: SocketAddr,
    /// Whether new connections are refused.
    pub(crate) cut: bool,
    /// How often connections were cut: one that was made before the latest cut has to end, even when the proxy
    /// was restored before the connection's task ran.
    pub(crate) cuts: u64,
    /// From the client to the server.
    pub(crate) to_server: Flow,
    /// From the server to the client.
    pub(crate) to_client: Flow,
}

impl Conditions {
    pub(crate) fn new(target: SocketAddr) -> Self {
        Self { target, cut: false, cuts: 0, to_server: Flow::default(), to_client: Flow::default() }
    }

    pub(crate) fn flow(&self, way: Way) -> Flow {
        match way {
            Way::ToServer => self.to_server,
            Way::ToClient => self.to_client,
        }
    }

    /// Lifts every fault; the target and the count of cuts stay.
    pub(crate) fn restore(&mut self) {
        *self = Self { cuts: self.cuts, ..Self::new(self.target) };
    }
}

/// The direction bytes take through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

impl Way {
    pub(crate) fn reverse(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// The faults of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    /// Nothing is handed over: no byte, no close, no reset.
    pub(crate) held: bool,
    /// How long after its arrival a byte is handed over at the earliest.
    pub(crate) delay: Duration,
    /// Bytes per second.
    pub(crate) rate: Option<NonZeroU64>,
}

/// How many pieces a trickling flow writes per second, as long as a piece has at least one byte.
const PIECES_PER_SECOND: u64 = 20;

impl Flow {
    /// How many of `available` bytes to write at once.
    pub(crate) fn piece(self, available: usize) -> usize {
        match self.rate {
            None => available,
            Some(rate) => {
                let piece = (rate.get() / PIECES_PER_SECOND).max(1);
                available.min(usize::try_from(piece).unwrap_or(usize::MAX))
            }
        }
    }

    /// How long to rest after `written` bytes.
    pub(crate) fn rest(self, written: usize) -> Duration {
        match self.rate {
            None => Duration::ZERO,
            Some(rate) => Duration::from_nanos((written as u64).saturating_mul(1_000_000_000) / rate.get()),
        }
    }
}
