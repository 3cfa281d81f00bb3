//! Each thread's own hold on what it picks from.
//!
//! Loading a shared pointer safely costs as much as the rest of a pick. So each thread keeps, per view, the
//! [`Live`] it read last, and a pick only compares a number: [`MOVES`] is raised after each publication of any view,
//! and is read-only between them, so that no reader writes to what another one reads. When it has moved, the thread
//! looks once whether *its* view has; if not, it notes the new number and goes on with what it holds.
//!
//! What that keeps alive: a thread holds one version of each view it has picked from, the one of its last pick,
//! until it picks from that view again, until the view is gone and the thread picks from any other, or until it ends.
//! Versions share what didn't change. At most [`SEATS`] views of a process have a seat in these tables; further ones
//! are read through the pointer, as is everything else that can't use the table: a pick while a thread ends, and a
//! pick inside the closure of another one when the version has moved in between.

use std::{
    cell::RefCell,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Live, View};
use crate::{
    balance::{Dice, Meter, PickContext},
    snapshot::Member,
    upstream::Home,
};

/// Most views of a process that threads keep near; a table takes 32 bytes for each.
pub(super) const SEATS: usize = 1024;

/// Alone on its cache lines; two, as processors fetch them in pairs.
#[repr(align(128))]
struct Counter(AtomicU64);

/// Publications of all views, and views that have ended.
static MOVES: Counter = Counter(AtomicU64::new(1));
/// Views that have ended, to know when a table has something to let go.
static ENDS: AtomicU64 = AtomicU64::new(0);
/// Who has which seat. Locked when views are made and dropped, and by the first report of a thread to a view that it
/// hasn't picked from, never by a pick.
static SEATING: Mutex<Seating> =
    Mutex::new(Seating { next: 0, returned: Vec::new(), taken: 0, views: Vec::new() });

thread_local! {
    static TABLE: RefCell<Table> = const {
        RefCell::new(Table { places: Vec::new(), ends: 0, dice: Dice::still() })
    };
}

struct Seating {
    next: usize,
    returned: Vec<usize>,
    /// How often a seat was taken.
    taken: u64,
    /// By seat; those that picks may outlive.
    views: Vec<Weak<View>>,
}

struct Table {
    places: Vec<Place>,
    /// How many views had ended when this table was last tidied.
    ends: u64,
    /// Shaken when the first place is taken.
    dice: Dice,
}

#[derive(Default)]
struct Place {
    /// [`MOVES`] when `live` was known to be the present version; 0 if it must be looked up.
    moves: u64,
    live: Option<Arc<Live>>,
    seat: Weak<Seat>,
    /// Of the view that has the seat.
    view: Option<ViewId>,
}

/// A view's place in the tables of all threads.
#[derive(Debug)]
pub(super) struct Seat {
    at: usize,
    /// The how manieth that was taken.
    turn: u64,
}

/// Names a view that has a place in these tables, and never another one: for a pick, which may outlive it, and to which
/// a reference would cost two writes to a shared counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ViewId(NonZeroU64);

impl ViewId {
    #[inline]
    fn seat(self) -> usize {
        self.0.get() as usize % SEATS
    }
}

impl Seat {
    pub(super) fn take() -> Arc<Self> {
        let mut seating = seating();
        let at = seating.returned.pop().unwrap_or_else(|| {
            seating.next += 1;
            seating.next - 1
        });
        seating.taken += 1;
        Arc::new(Self { at, turn: seating.taken })
    }

    pub(super) fn number(&self) -> usize {
        self.at
    }

    /// `None` if there is no place for it in the tables.
    fn view(&self) -> Option<ViewId> {
        let number = NonZeroU64::new(self.turn * SEATS as u64 + self.at as u64)?;
        (self.at < SEATS).then_some(ViewId(number))
    }
}

fn seating() -> MutexGuard<'static, Seating> {
    SEATING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Before another view can have the seat: a thread that picks from that one finds that all has moved.
        ENDS.fetch_add(1, Ordering::Release);
        moved();
        let mut seating = seating();
        seating.returned.push(self.at);
        if let Some(view) = seating.views.get_mut(self.at) {
            *view = Weak::new();
        }
        drop(seating);
        let held =
            TABLE.try_with(|table| Some(table.try_borrow_mut().ok()?.places.get_mut(self.at)?.live.take()));
        // What a custom picker does in its destructor finds the table free.
        drop(held);
    }
}

/// Says that a view has another version, once that is stored.
pub(super) fn moved() {
    MOVES.0.fetch_add(1, Ordering::AcqRel);
}

impl View {
    /// Chooses from what is live, without a lock or a shared write, and passes the choice to `f`; `seat` is the
    /// number of this view's.
    ///
    /// Sees every version whose publication happened before.
    #[inline(always)]
    pub(crate) fn pick<R>(
        &self,
        seat: usize,
        context: &PickContext<'_>,
        f: impl FnOnce(Option<&Member>) -> R,
    ) -> R {
        let mut f = Some(f);
        let mut pass = |choice: Option<&Member>| f.take().map(|f| f(choice));
        match near(seat, |live, dice| pass(live.choose(context, dice))) {
            Some(Some(result)) => result,
            _ => self.anew(|live, dice| pass(live.choose(context, dice))).expect(ONCE),
        }
    }

    /// As [`pick`](Self::pick) under a policy that counts requests. `counted` gets the choice and where requests to it are
    /// counted, as the policy has just looked there; if anything is unusual, `other` gets the choice alone. Either gets
    /// what is `passed`. `OWNS` says whether they keep the instance.
    #[inline(always)]
    pub(crate) fn pick_metered<const OWNS: bool, T, R>(
        &self,
        seat: usize,
        context: &PickContext<'_>,
        passed: T,
        counted: impl FnOnce(T, &Member, Meter<'_>) -> R,
        other: impl Fn(T, Option<&Member>) -> R,
    ) -> R {
        let mut passed = Some(passed);
        let done = near(seat, |live, dice| {
            let passed = passed.take()?;
            Some(match live.choose_metered::<OWNS>(context, dice) {
                Ok((member, meter)) => counted(passed, member, meter),
                Err(at) => other(passed, live.choose_after(context, dice, at)),
            })
        });
        match (done.flatten(), passed) {
            (Some(result), _) => result,
            (None, passed) => {
                let passed = passed.expect(ONCE);
                self.anew(|live, dice| other(passed, live.choose(context, dice)))
            }
        }
    }

    /// Passes what is live to `f`, through the shared pointer, and takes a hold for the next time.
    #[cold]
    #[inline(never)]
    fn anew<R>(&self, f: impl FnOnce(&Live, &Dice) -> R) -> R {
        f(&self.hold(), &Dice::fresh())
    }

    /// What is live, after it was put into this thread's table.
    fn hold(&self) -> arc_swap::Guard<Arc<Live>> {
        // First the number, then the version: one that is published in between is looked at again.
        let moves = MOVES.0.load(Ordering::Acquire);
        let live = self.live();
        let let_go =
            TABLE.try_with(|table| Some(table.try_borrow_mut().ok()?.hold(&self.seat, moves, &live)));
        // Outside of the borrow: what a picker does in its destructor may be a pick.
        drop(let_go);
        live
    }

    /// A name by which picks [find home](at_home); `None` if threads have no place for this view.
    pub(crate) fn enlist(self: &Arc<Self>) -> Option<ViewId> {
        let view = self.seat.view()?;
        let (mut seating, at) = (seating(), self.seat.at);
        if seating.views.len() <= at {
            seating.views.resize_with(at + 1, Weak::new);
        }
        seating.views[at] = Arc::downgrade(self);
        Some(view)
    }
}

/// Why a pick still has what it passes the choice to: it is passed near, or anew.
const ONCE: &str = "nothing is returned before it is called";

/// Passes what is live to `f`, through what the thread holds of the view; `None`, and `f` isn't called, if that can't be
/// used.
///
/// Whoever also has another way gives that a closure of its own: what is called in one place only is compiled into it.
#[inline(always)]
fn near<R>(seat: usize, f: impl FnOnce(&Live, &Dice) -> R) -> Option<R> {
    // Borrowed while `f` runs, so that whatever `f` does can't let go of what it reads.
    let picked = TABLE.try_with(|table| {
        let table = table.try_borrow().ok()?;
        let place = table.places.get(seat)?;
        if place.moves != MOVES.0.load(Ordering::Acquire) {
            return None;
        }
        Some(f(place.live.as_ref()?, &table.dice))
    });
    picked.ok().flatten()
}

/// Passes `f` whom picks from this view report to, through what the thread holds of it. `None` once the view is gone and
/// the thread has noticed: then nobody wants to know. Nothing that `f` calls may be others' code, as the table is in use
/// meanwhile.
#[inline]
pub(crate) fn at_home<R>(view: ViewId, f: impl FnOnce(&Arc<Home>) -> R) -> Option<R> {
    let mut f = Some(f);
    let done = TABLE.try_with(|table| {
        let table = table.try_borrow().ok()?;
        let place = table.places.get(view.seat())?;
        if place.view != Some(view) {
            return None;
        }
        let live = place.live.as_ref()?;
        Some(f.take()?(&live.home))
    });
    match done {
        Ok(Some(result)) => Some(result),
        _ => at_distant_home(view, f.take()?),
    }
}

/// A thread that hasn't picked from the view, or a thread that ends. The next time it is near.
#[cold]
#[inline(never)]
fn at_distant_home<R>(id: ViewId, f: impl FnOnce(&Arc<Home>) -> R) -> Option<R> {
    let view = seating().views.get(id.seat())?.upgrade()?;
    if view.seat.view() != Some(id) {
        return None;
    }
    view.hold();
    Some(f(view.home()))
}

impl Table {
    /// Holds this version, and gives back what is held no longer: the version before, and that of a view that has
    /// ended. One such view at a time, as letting go of a large one takes a while; the next pick takes the next.
    fn hold(&mut self, seat: &Arc<Seat>, moves: u64, live: &Arc<Live>) -> [Option<Arc<Live>>; 2] {
        let mut ended = None;
        let mut is_tidy = true;
        let ends = ENDS.load(Ordering::Acquire);
        if self.ends != ends {
            let is_over = |place: &&mut Place| place.live.is_some() && place.seat.strong_count() == 0;
            let mut over = self.places.iter_mut().filter(is_over);
            ended = over.next().and_then(|place| place.live.take());
            is_tidy = over.next().is_none();
            if is_tidy {
                self.ends = ends;
            }
        }
        let at = seat.number();
        if at >= SEATS {
            return [ended, None];
        }
        if self.places.is_empty() {
            self.dice.shake();
        }
        if self.places.len() <= at {
            self.places.resize_with(at + 1, Place::default);
        }
        let place = &mut self.places[at];
        place.moves = if is_tidy { moves } else { 0 };
        if !std::ptr::eq(place.seat.as_ptr(), Arc::as_ptr(seat)) {
            place.seat = Arc::downgrade(seat);
            place.view = seat.view();
        }
        let is_same = place.live.as_ref().is_some_and(|held| Arc::ptr_eq(held, live));
        [ended, if is_same { None } else { place.live.replace(Arc::clone(live)) }]
    }
}
