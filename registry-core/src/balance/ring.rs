//! Consistent hashing on a ring (Karger and others, "Consistent Hashing and Random Trees", 1997), with points as in
//! ketama, and the bounded loads of Mirrokni, Thorup and Zadimoghaddam (2016).
//!
//! Each instance has many points on a ring of 2^64 places, and a key belongs to the next point. When an instance comes
//! or goes, only its own points do, so that an update merges those into what there is; but for the exceptions that
//! [`Balance::ring_hash`](super::Balance::ring_hash) names, where all change. Shares differ by the luck of the points:
//! with 160 of them by 8 % (one standard deviation).

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    Balancer, Dice, Lanes, Members, Outcome, PickContext, Picker, Rule, Slot, Ticket,
    hashing::{mix, rehash},
    in_flight::InFlight,
    maglev::following,
    roster::{Entry, Moves, Places, Roster, unit},
};

/// Points of an instance of median weight, unless the ring gets too large. However few there are: a least size of the
/// ring would give each of them others whenever one comes or goes.
const POINTS: usize = 160;
/// Most points of a ring of equal instances.
const RING: usize = 500_000;
/// Most points of one instance, however heavy.
const MOST: u64 = 4_096;
/// How many points a look-up goes past for an instance with room.
const STEPS: usize = 256;

/// How [`Balance::ring_hash`](super::Balance::ring_hash) treats an instance whose keys are asked for too often.
///
/// ```
/// use registry_core::balance::{Balance, RingHash};
///
/// let balance = Balance::from(RingHash::new().bounded_load(1.25));
/// assert_eq!(balance.name(), "ring_hash");
/// assert_ne!(balance, Balance::ring_hash());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct RingHash {
    /// In thousandths.
    bound: Option<u32>,
}

impl RingHash {
    /// Each key goes to its instance, whatever that one's load.
    pub const fn new() -> Self {
        Self { bound: None }
    }

    /// An instance that has this many times its share of what is in flight is passed over for the next one on the
    /// ring. Off by default; 1.25 is usual. Smaller means more even and less faithful to keys; at least 1.01, at most
    /// 1,000.
    ///
    /// Each thread counts what it has begun. With fewer requests in flight than instances an instance has room for
    /// one of each thread.
    ///
    /// While requests spill to other zones, the two sides are counted together, but a share is one of its side: the
    /// bound is wider by what the other side has. Where each has half of the requests, 1.25 acts as 2.5.
    pub const fn bounded_load(mut self, times: f64) -> Self {
        // Not a number is the least.
        self.bound = Some((times.clamp(1.01, 1_000.0).max(1.01) * 1e3) as u32);
        self
    }

    pub(super) fn balancer(self) -> RingBalancer {
        RingBalancer { kept: Mutex::default(), load: self.bound.map(|bound| Arc::new(Load::new(bound))) }
    }
}

/// Keeps the ring of the last version.
#[derive(Debug)]
pub(crate) struct RingBalancer {
    kept: Mutex<Kept>,
    load: Option<Arc<Load>>,
}

#[derive(Debug, Default)]
struct Kept {
    roster: Roster,
    scale: Scale,
    ring: Arc<Ring>,
}

/// The rule for one version.
#[derive(Debug)]
pub(crate) struct RingRule {
    ring: Arc<Ring>,
    places: Places,
    bounded: Option<Bounded>,
}

impl RingBalancer {
    /// For a second list of the same view.
    pub(super) fn beside(&self) -> Self {
        Self { kept: Mutex::default(), load: self.load.clone() }
    }

    pub(super) fn rule(&self, members: &Members, passed_over: Option<&Members>) -> RingRule {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { roster, scale, ring } = &mut *kept;
        let (moves, places) = roster.follow(members, passed_over);
        if !moves.is_empty() {
            let entries = roster.entries();
            let new = Scale::of(&entries);
            *ring = Arc::new(if new == *scale {
                ring.with(&moves, new)
            } else {
                let all = Moves { gone: Vec::new(), come: entries };
                Ring::default().with(&all, new)
            });
            *scale = new;
        }
        let bounded = self.load.as_ref().map(|load| Bounded::new(load, members));
        RingRule { ring: Arc::clone(ring), places, bounded }
    }
}

impl Balancer for RingBalancer {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        Arc::new(Rule::RingHash(Arc::new(self.rule(members, None))))
    }

    fn observes(&self) -> bool {
        self.load.is_some()
    }

    fn begin(&self, slot: Slot) -> Ticket {
        self.load.as_ref().map_or_else(Ticket::default, |load| load.begin(slot))
    }

    fn end(&self, slot: Slot, ticket: Ticket, _: Option<&Outcome>) {
        if let Some(load) = &self.load {
            load.end(slot, ticket);
        }
    }
}

impl RingRule {
    /// The position that the key belongs to, or the next one with room; a random one without a key. At a further
    /// attempt, the next one.
    // See `LeastRule::pick`.
    #[inline(never)]
    pub(super) fn pick(
        &self,
        members: &Members,
        context: &PickContext<'_>,
        attempt: u32,
        dice: &Dice,
    ) -> usize {
        let key = context.get_hash_key().unwrap_or_else(|| dice.bits());
        let at = self.ring.find(mix(key));
        let has_room = |position| self.bounded.as_ref().is_none_or(|load| load.has_room(members, position));
        if attempt == 0
            && let Some(position) = self.ring.owners.get(at).and_then(|slot| self.places.of(*slot))
            && has_room(position)
        {
            return position;
        }
        let (before, after) = self.ring.owners.split_at(at.min(self.ring.owners.len()));
        let further = || after.iter().chain(before);
        let mut positions = further().take(STEPS).filter_map(|slot| self.places.of(*slot));
        let roomy = if attempt == 0 { positions.find(|position| has_room(*position)) } else { None };
        roomy.unwrap_or_else(|| following(further(), &self.places, members.len(), attempt))
    }
}

#[cfg(test)]
impl RingRule {
    pub(super) fn has_ring_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ring, &other.ring)
    }
}

/// How many points a weight has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scale {
    points: u64,
    unit: Option<u32>,
}

impl Scale {
    fn of(entries: &[Entry]) -> Self {
        let members = entries.len().max(1);
        let mut points = POINTS;
        // Halved, so that it doesn't change with every member that comes, and with it every point.
        while points > 1 && points * members > RING {
            points /= 2;
        }
        Self { points: points as u64, unit: unit(entries) }
    }

    /// The points of an instance: none without a weight, else one at least.
    fn points(self, entry: &Entry) -> impl Iterator<Item = (u64, u32)> {
        let (weight, share) = entry.shares(self.unit);
        let count = if weight == 0 { 0 } else { (self.points * weight / share).clamp(1, MOST) };
        let Entry { hash, slot, .. } = *entry;
        (0..count).map(move |number| (rehash(hash, number), slot))
    }
}

/// Points in order, and whose they are.
#[derive(Debug, Default)]
struct Ring {
    points: Box<[u64]>,
    owners: Box<[u32]>,
    /// Where the points begin whose upper bits are at least these: a look-up begins there, and has a point or two to
    /// look at.
    starts: Box<[u32]>,
    /// How many lower bits to leave out.
    shift: u32,
}

impl Ring {
    /// The place of the first point at or after a hash; the first of all past the last.
    #[inline]
    fn find(&self, hash: u64) -> usize {
        let start = self.starts.get((hash >> self.shift) as usize).map_or(0, |start| *start as usize);
        let after = self.points[start..].iter().position(|point| *point >= hash);
        after.map_or(0, |after| start + after)
    }

    /// The ring without those that are gone, and with those that have come.
    fn with(&self, moves: &Moves, scale: Scale) -> Self {
        let mut new: Vec<(u64, u32)> = moves.come.iter().flat_map(|entry| scale.points(entry)).collect();
        new.sort_unstable();
        let mut gone: Vec<u32> = moves.gone.iter().map(|entry| entry.slot).collect();
        gone.sort_unstable();
        let kept: (Cow<'_, [u64]>, Cow<'_, [u32]>) = if gone.is_empty() {
            (Cow::Borrowed(&self.points), Cow::Borrowed(&self.owners))
        } else {
            let all = self.points.iter().zip(&self.owners);
            let kept = all.filter(|(_, owner)| gone.binary_search(owner).is_err());
            let (points, owners): (Vec<u64>, Vec<u32>) = kept.unzip();
            (points.into(), owners.into())
        };
        let len = kept.0.len() + new.len();
        let (mut points, mut owners) = (Vec::with_capacity(len), Vec::with_capacity(len));
        let mut from = 0;
        for (point, owner) in new {
            let to = from + kept.0[from..].partition_point(|old| *old < point);
            points.extend_from_slice(&kept.0[from..to]);
            owners.extend_from_slice(&kept.1[from..to]);
            points.push(point);
            owners.push(owner);
            from = to;
        }
        points.extend_from_slice(&kept.0[from..]);
        owners.extend_from_slice(&kept.1[from..]);
        // One bit more than their number has: less than one point each on average.
        let bits = (usize::BITS - points.len().leading_zeros()).max(1);
        let shift = u64::BITS - bits;
        let mut starts = vec![points.len() as u32; 1 << bits];
        let mut filled = 0;
        for (at, point) in points.iter().enumerate() {
            let bucket = (point >> shift) as usize;
            if filled <= bucket {
                starts[filled..=bucket].fill(at as u32);
                filled = bucket + 1;
            }
        }
        Self { points: points.into(), owners: owners.into(), starts: starts.into(), shift }
    }
}

/// What is in flight, by thread.
#[derive(Debug)]
struct Load {
    in_flight: InFlight,
    totals: Lanes<AtomicU32>,
    bound: u32,
}

impl Load {
    fn new(bound: u32) -> Self {
        Self { in_flight: InFlight::default(), totals: Lanes::new(AtomicU32::default), bound }
    }

    fn begin(&self, slot: Slot) -> Ticket {
        let at = self.in_flight.begin(slot);
        if let Some(total) = self.totals.get(at) {
            total.fetch_add(1, Ordering::Relaxed);
        }
        Ticket(at as u64)
    }

    fn end(&self, slot: Slot, Ticket(at): Ticket) {
        self.in_flight.end(slot, at as usize);
        if let Some(total) = self.totals.get(at as usize) {
            // Counts what the caller holds, whatever became of the instance.
            let _ = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| total.checked_sub(1));
        }
    }
}

/// The bound for one version.
#[derive(Debug)]
struct Bounded {
    load: Arc<Load>,
    /// All weights; 0 if they are equal.
    weights: u64,
}

impl Bounded {
    fn new(load: &Arc<Load>, members: &Members) -> Self {
        load.in_flight.reserve(members.slots());
        let weigh = || members.iter().map(|instance| u64::from(instance.weight().get())).sum();
        Self { load: Arc::clone(load), weights: if members.has_equal_weights() { 0 } else { weigh() } }
    }

    /// Whether an instance may have one more: at most `⌈bound × share × (all in flight + 1)⌉`.
    fn has_room(&self, members: &Members, at: usize) -> bool {
        let Some(slot) = members.slot(at) else { return false };
        let count = u128::from(self.load.in_flight.mine().of(slot));
        let total = u128::from(self.load.totals.mine().load(Ordering::Relaxed)) + 1;
        let (share, whole) = match self.weights {
            0 => (1, members.len() as u128),
            weights => (u128::from(members.weight(at).get()), u128::from(weights)),
        };
        count < (u128::from(self.load.bound) * share * total).div_ceil(1_000 * whole)
    }
}
