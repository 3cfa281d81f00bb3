//! Subsetting: of a large service, each client uses a few instances, so that neither has too many connections.
//!
//! The instances stand in one order by a hash, those that serve first, and the client takes a window of it:
//!
//! - *random*: the hash has a seed of the client's own and the window begins at the front. This is rendezvous hashing
//!   (Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996), as in gRPC's proposal A68, by XXH64.
//! - *aperture*: all clients have the same order, and client i of c begins at i/c of those that serve, as in Finagle's
//!   deterministic aperture. As the windows begin evenly, the number of clients of two instances differs by at most one.
//!
//! A change of one instance moves the window by at most one; in an aperture by two for the few clients whose window
//! reaches round the end of the order, as the change may be in one part of it and the move in the other.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Bound::{Excluded, Included, Unbounded},
    str::FromStr,
    sync::Arc,
};

use crate::{
    Error,
    balance::{hash_of_instance, rehash},
    model::{Instance, InstanceKey},
    snapshot::Pool,
    view::ViewChange,
};

/// Large enough that one instance of it more or less hardly shows (gRPC's A68 leaves the number to the user).
const DEFAULT_SIZE: usize = 20;
/// Smallest aperture: with fewer, neighbours share too many instances, and a burst of one client hits few (Finagle).
const MIN_APERTURE: usize = 12;

/// How many instances of a service a client uses.
///
/// For services of hundreds of instances with many clients, where all to all is too many connections. The subset holds
/// serving instances; only if there are fewer, others fill it up. When one leaves, another takes its place, and nothing
/// else changes. An upstream shows and counts its subset only: `ready(30)` never comes true with a subset of 20.
///
/// As text: `off`, `on` (20), a number such as `20`, or with the client's index, from 0, and the number of clients,
/// `20:3/10`.
///
/// ```
/// use registry_core::Subset;
///
/// assert_eq!("20:3/10".parse::<Subset>()?, Subset::Aperture { size: 20, index: 3, count: 10 });
/// # Ok::<(), registry_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subset {
    /// All of them. The default.
    #[default]
    Off,
    /// This many, drawn for each client; `on` is 20. With 1,000 clients of 300 instances the busiest has 1.4 times
    /// the mean.
    Random(usize),
    /// This many, at least 12, dealt out among clients that know their place: each instance has the same number of
    /// clients, give or take one, provided that all see the same list.
    Aperture {
        /// How many.
        size: usize,
        /// This client's index: from 0, and below `count`.
        index: u32,
        /// How many clients there are.
        count: u32,
    },
}

impl Subset {
    /// What [`FromStr`] takes.
    pub(crate) const EXPECTS: &str = "off, on (20), a number such as 20, or 20:3/10 for the client of index 3, \
                                      from 0, of 10";

    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a size of 0, or an index past the end.
    pub(crate) fn check(self) -> Result<(), Error> {
        match self {
            Self::Random(0) | Self::Aperture { size: 0, .. } => {
                Err(Error::invalid("a subset must have at least one instance"))
            }
            Self::Aperture { index, count, .. } if index >= count => {
                Err(Error::invalid(format!("a subset's index is {index}, from 0; it must be below {count}")))
            }
            Self::Off | Self::Random(_) | Self::Aperture { .. } => Ok(()),
        }
    }
}

impl FromStr for Subset {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) that says what is valid.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            Some(match text {
                "off" => Self::Off,
                "on" => Self::Random(DEFAULT_SIZE),
                _ => match text.split_once(':') {
                    None => Self::Random(text.parse().ok()?),
                    Some((size, place)) => {
                        let (index, count) = place.split_once('/')?;
                        Self::Aperture {
                            size: size.parse().ok()?,
                            index: index.parse().ok()?,
                            count: count.parse().ok()?,
                        }
                    }
                },
            })
        };
        let subset = parse().ok_or_else(|| Error::invalid(format!("a subset is {}", Self::EXPECTS)))?;
        subset.check()?;
        Ok(subset)
    }
}

/// Where an instance stands: those of the better pool first, then by hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    pool: u8,
    hash: u64,
    key: InstanceKey,
}

impl Place {
    fn serves(&self) -> bool {
        self.pool == Pool::Serving as u8
    }
}

/// All known instances in order, and the window of one view. A change takes O(log n), and the size of the window.
#[derive(Debug)]
pub(super) struct Ring {
    size: usize,
    seed: u64,
    /// Index and count of the client, if it knows them.
    client: Option<(u32, u32)>,
    known: HashMap<InstanceKey, (Arc<Instance>, Place)>,
    order: BTreeSet<Place>,
    serving: usize,
    /// Where the window begins, and how many of those that serve stand before it.
    start: Option<(Place, usize)>,
    /// Who is in the window.
    chosen: HashSet<InstanceKey>,
}

impl Ring {
    pub(super) fn new(subset: Subset, seed: u64) -> Option<Self> {
        let (size, client, seed) = match subset {
            Subset::Off => return None,
            Subset::Random(size) => (size, None, seed),
            // The same for all clients.
            Subset::Aperture { size, index, count } => (size.max(MIN_APERTURE), Some((index, count)), 0),
        };
        Some(Self {
            size,
            seed,
            client,
            known: HashMap::new(),
            order: BTreeSet::new(),
            serving: 0,
            start: None,
            chosen: HashSet::new(),
        })
    }

    pub(super) fn take(&mut self, change: &ViewChange) -> ViewChange {
        change.removals.iter().for_each(|key| self.remove(key));
        change.upserts.iter().for_each(|instance| self.upsert(instance));
        let touched: HashSet<_> = change.upserts.iter().map(|instance| instance.key()).collect();
        self.slide();
        let window: Vec<_> = self.window().cloned().collect();
        let before =
            std::mem::replace(&mut self.chosen, window.iter().map(|place| place.key.clone()).collect());
        let is_new = |key: &InstanceKey| !before.contains(key) || touched.contains(key);
        ViewChange {
            upserts: window
                .iter()
                .filter(|place| is_new(&place.key))
                .map(|place| Arc::clone(&self.known[&place.key].0))
                .collect(),
            removals: before.iter().filter(|key| !self.chosen.contains(*key)).cloned().collect(),
            suspects: change.suspects.clone(),
            revision: change.revision,
        }
    }

    fn upsert(&mut self, instance: &Arc<Instance>) {
        let key = instance.key();
        // The same on every machine and in every release: clients that share an aperture must agree.
        let hash = rehash(hash_of_instance(instance), self.seed);
        let place = Place { pool: Pool::of(instance) as u8, hash, key };
        match self.known.get_mut(&place.key) {
            Some((known, stands)) if *stands == place => {
                *known = Arc::clone(instance);
                return;
            }
            Some(_) => self.remove(&place.key),
            None => {}
        }
        if place.serves() {
            self.serving += 1;
            if let Some((start, rank)) = &mut self.start
                && place < *start
            {
                *rank += 1;
            }
        }
        self.order.insert(place.clone());
        self.known.insert(place.key.clone(), (Arc::clone(instance), place));
    }

    fn remove(&mut self, key: &InstanceKey) {
        let Some((_, place)) = self.known.remove(key) else { return };
        self.order.remove(&place);
        if !place.serves() {
            return;
        }
        self.serving -= 1;
        if let Some((start, rank)) = &mut self.start {
            if place < *start {
                *rank -= 1;
            } else if place == *start {
                self.start = self.at_or_before(&place);
            }
        }
    }

    /// The next that serves after one that has left, else the one before it, with its rank.
    fn at_or_before(&self, gone: &Place) -> Option<(Place, usize)> {
        let (_, rank) = self.start.as_ref()?;
        match self.order.range(gone..).next().filter(|next| next.serves()) {
            Some(next) => Some((next.clone(), *rank)),
            None => self.order.range(..gone).next_back().map(|last| (last.clone(), rank - 1)),
        }
    }

    /// Moves the start to where it belongs, by as many steps as instances came and went.
    fn slide(&mut self) {
        let Some(first) = self.order.first().filter(|first| first.serves()) else {
            self.start = None;
            return;
        };
        let (mut start, mut rank) = self.start.take().unwrap_or_else(|| (first.clone(), 0));
        let wanted = match self.client {
            None => 0,
            Some((index, count)) => (self.serving as u64 * u64::from(index) / u64::from(count)) as usize,
        };
        while rank != wanted {
            let step = if rank < wanted {
                rank += 1;
                self.order.range((Excluded(&start), Unbounded)).next()
            } else {
                rank -= 1;
                self.order.range(..&start).next_back()
            };
            start = step.expect("the rank is below the number of those that serve").clone();
        }
        self.start = Some((start, rank));
    }

    /// Who belongs to the subset.
    fn window(&self) -> impl Iterator<Item = &Place> {
        let begin = self.start.as_ref().filter(|_| self.serving >= self.size);
        let from = begin.and_then(|(start, _)| self.order.get(start));
        let from = from.map_or(Unbounded, Included);
        let serving = self.serving;
        // From the start to the last that serves, and on from the front; if too few serve, all in order.
        let tail = self.order.range::<Place, _>((from, Unbounded));
        let tail = tail.take_while(move |place| place.serves() || begin.is_none());
        let front = self.order.iter().take(if begin.is_some() { serving } else { 0 });
        tail.chain(front).take(self.size)
    }
}
