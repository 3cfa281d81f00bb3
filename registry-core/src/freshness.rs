//! How old a view is, where it comes from, and what happened to it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::StreamExt;
use tokio::sync::broadcast;

use crate::{
    EjectionCause, Error,
    backend::SourceId,
    feed::{Item, Reader},
    model::InstanceKey,
};

/// How far a view can be trusted, as of the moment it was asked.
///
/// It is a *checked* answer: the age of the last proof of life is compared with the clock when you ask, so that
/// even a stuck background task can't claim to be fresh.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Freshness {
    /// Where the view stands.
    pub state: ViewState,
    /// Time since the registry last proved that the view is current; for a view from disk, since it was saved.
    /// `None` while there is no view. Counts time spent suspended, as it also looks at the wall clock.
    pub age: Option<Duration>,
    /// The incarnation of the registry's data the view was read from, if the registry tells.
    pub source: Option<SourceId>,
    /// How many instances are kept although a list no longer holds them, until that is confirmed.
    pub held: usize,
    /// How many records were left out since the start, as they could not be decoded or were too many.
    pub rejected: u64,
    /// Whether the registry leaves out what this reader may not see.
    pub partial: bool,
    /// The last failure, until the next success.
    pub last_error: Option<Error>,
}

/// Where a view stands: `Loading → Fresh ⇄ Stale → Expired`, with the side entry `Loading → Disk → Fresh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViewState {
    /// No answer yet, and nothing to serve.
    Loading,
    /// The registry hasn't answered since the start; the last view this host saved is served.
    Disk,
    /// The registry proved within its usual interval that the view is current.
    Fresh,
    /// The registry is silent or the watch is broken. The last good view is served, for ever by default.
    Stale,
    /// Older than the limit that was configured as `max_staleness`.
    Expired,
}

impl fmt::Display for ViewState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loading => "loading",
            Self::Disk => "disk",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        })
    }
}

/// Something happened to a view beyond plain changes of its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewEvent {
    /// The view is current, for the first time or again.
    Fresh,
    /// The view is no longer proven current; once per loss of contact.
    Stale,
    /// The view is older than `max_staleness`; once.
    Expired,
    /// The registry didn't answer at the start; the view from disk is served.
    SourceDegraded,
    /// Many instances vanished in a way that looks like the registry's fault. They are kept as suspects until the
    /// removal is confirmed.
    #[non_exhaustive]
    SuspiciousShrink {
        /// Instances in the view.
        from: usize,
        /// Instances that the registry still lists.
        to: usize,
        /// Instances that are held now, in all.
        held: usize,
    },
    /// Held instances were removed: a second answer agreed, the hold ended, or one refused a connection.
    #[non_exhaustive]
    ShrinkApplied {
        /// How many were removed.
        removed: usize,
    },
    /// Records were left out, as they could not be decoded or the view is full (50 000 instances). What the view
    /// held under their keys stays.
    #[non_exhaustive]
    Rejected {
        /// The first of their keys, at most 32.
        keys: Arc<[InstanceKey]>,
        /// How many they are in all.
        count: usize,
    },
    /// An instance gets no requests for a while, as those before failed; or for longer, as its probe did.
    #[non_exhaustive]
    Ejected {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        cause: EjectionCause,
        /// After how long one request will try it again.
        lasts: Duration,
    },
    /// An instance that was ejected gets requests again.
    #[non_exhaustive]
    Restored {
        /// Which instance.
        key: InstanceKey,
    },
    /// Too few instances are usable: ejection is ignored from now on.
    #[non_exhaustive]
    PanicBegan {
        /// Instances that serve and neither are ejected nor would be if there were room.
        usable: usize,
        /// Instances that serve or are down.
        of: usize,
    },
    /// Enough instances are usable: ejection counts again.
    PanicEnded,
    /// This subscriber was too slow: the queue of 1024 events overflowed and the oldest were dropped.
    #[non_exhaustive]
    Lagged {
        /// How many events were dropped.
        missed: u64,
    },
}

/// The events of one view, from the moment of subscription.
///
/// A queue of 1024 events; a subscriber that falls further behind gets [`ViewEvent::Lagged`] in place of the
/// oldest. Ends with the view.
#[must_use = "streams do nothing unless polled"]
pub struct ViewEvents(Pin<Box<dyn Stream<Item = ViewEvent> + Send + Sync>>);

impl ViewEvents {
    pub(crate) fn new(receiver: Option<broadcast::Receiver<ViewEvent>>) -> Self {
        let stream = futures_util::stream::unfold(receiver, |receiver| async move {
            let mut receiver = receiver?;
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(missed)) => ViewEvent::Lagged { missed },
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((event, Some(receiver)))
        });
        Self(Box::pin(stream))
    }

    /// These events and those of another feed, as they come; ends when both have ended.
    pub(crate) fn and(self, feed: Reader<ViewEvent>) -> Self {
        let feed = feed.map(|item| match item {
            Item::Event(event) => event,
            Item::Lagged(missed) => ViewEvent::Lagged { missed },
        });
        Self(Box::pin(futures_util::stream::select(self.0, feed)))
    }

    /// The next event, or `None` once the view has ended.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<ViewEvent> {
        std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for ViewEvents {
    type Item = ViewEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ViewEvent>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for ViewEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ViewEvents")
    }
}
