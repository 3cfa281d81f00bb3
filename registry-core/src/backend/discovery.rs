//! Finding: one look, or one watch session.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::Stream;

use crate::{
    Error,
    model::{Instance, InstanceKey, Target},
};

/// A registry that can be asked who serves a target.
#[async_trait]
pub trait Discovery: fmt::Debug + Send + Sync + 'static {
    /// Lists the instances of a target once.
    ///
    /// - A service nobody has registered is an empty listing, not an error.
    /// - A record that can't be decoded is skipped and its key listed in [`Listing::rejected`].
    /// - An answer that was filtered for lack of rights is never empty. If it shows some, it says so in
    ///   [`Evidence::partial`]; if it shows none, or no longer what it showed before, it is
    ///   [`PermissionDenied`](crate::ErrorKind::PermissionDenied).
    ///
    /// # Errors
    /// What kept the registry from answering.
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error>;

    /// Opens one watch session, beginning after `cursor` if that can be honoured.
    ///
    /// - The first event opens the session: its first change is [`Change::Reset`] with the complete list, or
    ///   [`Change::Resumed`] if the cursor was honoured.
    /// - Events follow in order and without gaps; the stream ends on its first failure, which is its last item. A
    ///   stream never reconnects by itself.
    /// - An event without changes is a sign of life; a session gives one at least every
    ///   [`Capabilities::proof_within`](super::Capabilities::proof_within).
    /// - Dropping the stream ends the session.
    fn watch(&self, target: &Target, cursor: Option<Cursor>) -> WatchStream;
}

/// One watch session.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<Event, Error>> + Send>>;

/// How to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read {
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// The endpoint that should *not* answer, if there is another: for a second opinion.
    pub avoid: Option<Arc<str>>,
}

impl Read {
    /// A read with a given consistency.
    #[must_use]
    pub fn new(consistency: Consistency) -> Self {
        Self { consistency, avoid: None }
    }

    /// Asks for an answer from another endpoint than this one.
    #[must_use]
    pub fn avoiding(mut self, endpoint: Option<Arc<str>>) -> Self {
        self.avoid = endpoint;
        self
    }
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Consistency {
    /// As the backend is configured.
    #[default]
    Configured,
    /// The freshest the registry can give.
    Strong,
    /// Whatever the nearest replica has.
    Stale,
}

/// The answer to one look.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The instances, each key once.
    pub instances: Vec<Arc<Instance>>,
    /// Where the answer stands in the registry's history.
    pub evidence: Evidence,
    /// Keys of records that exist but could not be decoded.
    pub rejected: Vec<InstanceKey>,
}

impl Listing {
    /// A listing with its evidence.
    #[must_use]
    pub fn new(instances: Vec<Arc<Instance>>, evidence: Evidence) -> Self {
        Self { instances, evidence, rejected: Vec::new() }
    }
}

/// Where an answer comes from and how old it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// The registry's own incarnation (etcd's cluster id): when it changes, the data started anew.
    pub source: Option<SourceId>,
    /// The registry's revision, comparable within one source.
    pub revision: Option<u64>,
    /// How stale the registry itself says the answer is.
    pub age: Duration,
    /// The endpoint that answered.
    pub endpoint: Option<Arc<str>>,
    /// Whether the registry said that it left out what the reader may not see. What the list holds is there; of others
    /// nobody knows. A backend never lets what was shown before vanish from a partial list because it was hidden.
    pub partial: bool,
}

impl Evidence {
    /// Evidence of a source at a revision.
    #[must_use]
    pub fn at(source: SourceId, revision: u64) -> Self {
        Self { source: Some(source), revision: Some(revision), ..Self::default() }
    }
}

/// What a watch session yields: a batch of changes with its cursor and evidence.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Event {
    /// The changes, in order; none is a sign of life.
    pub changes: Vec<Change>,
    /// Where a later session can resume, once this event is applied.
    pub cursor: Option<Cursor>,
    /// Where the event stands in the registry's history.
    pub evidence: Evidence,
    /// Keys whose record is there but could not be decoded, so that they are not taken for removed.
    pub rejected: Vec<InstanceKey>,
}

impl Event {
    /// An event with changes.
    #[must_use]
    pub fn new(changes: Vec<Change>, cursor: Option<Cursor>, evidence: Evidence) -> Self {
        Self { changes, cursor, evidence, rejected: Vec::new() }
    }
}

/// One change within an [`Event`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Forget everything: this is the whole truth. What it no longer holds is *implied* to be gone.
    Reset(Vec<Arc<Instance>>),
    /// The cursor was honoured: what was known still holds.
    Resumed,
    /// The instance was added or changed.
    Upsert(Arc<Instance>),
    /// The registry said that this record was deleted or expired.
    Remove(InstanceKey),
}

/// An opaque position in a registry's history, given back to resume a watch.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Arc<str>);

/// The incarnation of a registry's data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SourceId(Arc<str>);

macro_rules! opaque {
    ($type:ident) => {
        impl $type {
            /// Wraps the backend's own notation.
            #[must_use]
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(text.as_ref().into())
            }

            /// The backend's own notation.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque!(Cursor);
opaque!(SourceId);
