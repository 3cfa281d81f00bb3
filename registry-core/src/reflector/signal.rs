//! What goes into the state machine and what comes out of it.

use crate::{
    Error, ViewEvent,
    backend::{Cursor, Event, Listing, Read},
    disk::Stored,
    model::InstanceKey,
    view::ViewChange,
};

/// What the task reports.
#[derive(Debug)]
pub(super) enum Input {
    /// Time passed; also the first input.
    Tick,
    /// Items of a session's stream, in order.
    Watched { session: u64, items: Vec<Result<Event, Error>> },
    /// A session's stream ended without an error.
    Ended { session: u64 },
    /// The answer to a lookup.
    Listed { id: u64, answer: Result<Listing, Error> },
    /// What the disk held.
    DiskLoaded(Option<Stored>),
    /// How a save ended.
    DiskSaved(bool),
    /// A caller was refused by this instance.
    Failed(InstanceKey),
}

/// What the task carries out, in order.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Drop the session there is and open this one.
    Open { session: u64, cursor: Option<Cursor> },
    /// Drop the session there is.
    Close,
    /// Look the target up.
    Lookup { id: u64, read: Read },
    /// Read the view from disk.
    LoadDisk,
    /// Write the view to disk.
    SaveDisk(Stored),
    /// Publish one snapshot.
    Apply(ViewChange),
    /// Tell subscribers.
    Emit(ViewEvent),
}
