//! Who is held still, and who never is.

use std::time::Duration;

use super::*;

const EPOCH: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(200);

/// An intake with damping, its clock, and what it has published of instance 1: when, and its status.
struct Bench {
    intake: Intake,
    start: Instant,
    now: Instant,
    published: Vec<(Duration, Option<Status>)>,
}

impl Bench {
    fn new(first: &[Arc<Instance>]) -> Self {
        let now = Instant::now();
        let mut intake = Intake::new(Selector::new(), Damping::Epoch(EPOCH), Subset::Off, 0);
        intake.take(&upserts(first.iter().cloned()), now);
        Self { intake, start: now, now, published: Vec::new() }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.intake.deadline().filter(|due| *due <= end) {
            self.now = due;
            let change = self.intake.due(due).expect("something is due");
            self.note(&change);
        }
        self.now = end;
    }

    fn set(&mut self, status: Option<Status>) {
        let change = match status {
            Some(status) => upserts([instance(1, status)]),
            None => removals([1]),
        };
        let change = self.intake.take(&change, self.now).into_owned();
        self.note(&change);
    }

    fn note(&mut self, change: &ViewChange) {
        let at = self.now - self.start;
        self.published.extend(change.removals.iter().map(|_| (at, None)));
        self.published.extend(change.upserts.iter().map(|instance| (at, Some(instance.status()))));
    }

    fn shown(&self) -> Option<Status> {
        self.published.last().and_then(|(_, status)| *status)
    }

    fn times(&self) -> Vec<Duration> {
        self.published.iter().map(|(at, _)| *at).collect()
    }
}

fn most_in_an_epoch(times: &[Duration]) -> usize {
    times.iter().map(|at| times.iter().filter(|t| *t >= at && **t - *at < EPOCH).count()).max().unwrap_or(0)
}

#[test]
fn a_flapping_instance_is_published_twice_per_epoch_and_ends_up_right() {
    for known in [true, false] {
        let first = if known { vec![serving(1)] } else { vec![] };
        let mut bench = Bench::new(&first);
        for n in 0..500 {
            bench.set(((n % 2 == 0) != known).then_some(Status::Serving));
            bench.pass(STEP);
        }
        // One that wasn't there appears, disappears and is back: nobody is to be without it.
        let first = if known { 0 } else { 1 };
        assert_eq!(most_in_an_epoch(&bench.times()), 2 + first, "{:?}", bench.published);
        assert_eq!(most_in_an_epoch(&bench.times()[first..]), 2, "{:?}", bench.published);
        assert!(bench.published.len() >= 18, "the newest is told each epoch: {:?}", bench.published);
        bench.set(Some(Status::Serving));
        bench.pass(2 * EPOCH);
        assert_eq!(bench.shown(), Some(Status::Serving));
        let told = bench.published.len();
        bench.pass(10 * EPOCH);
        assert_eq!(bench.published.len(), told, "nothing is left over");
    }
}

#[test]
fn a_status_that_goes_back_and_forth_is_flapping_too() {
    let mut bench = Bench::new(&[serving(1)]);
    for n in 0..200 {
        bench.set(Some(if n % 2 == 0 { Status::Down } else { Status::Serving }));
        bench.pass(STEP);
    }
    assert_eq!(most_in_an_epoch(&bench.times()), 2, "{:?}", bench.published);
}

#[test]
fn each_step_of_a_short_life_is_published_at_once() {
    let mut bench = Bench::new(&[]);
    let life =
        [Some(Status::Starting), Some(Status::Serving), Some(Status::Down), Some(Status::Draining), None];
    for status in life {
        bench.set(status);
        assert_eq!((bench.shown(), bench.times().last()), (status, Some(&(bench.now - bench.start))));
        bench.pass(STEP);
    }
    assert_eq!(bench.published.len(), 5);
}

#[test]
fn a_restart_under_the_same_name_is_published_at_once() {
    let mut bench = Bench::new(&[serving(1)]);
    bench.set(None);
    bench.pass(STEP);
    bench.set(Some(Status::Serving));
    assert_eq!(bench.shown(), Some(Status::Serving));
}

#[test]
fn who_serves_is_shown_whatever_it_did_before() {
    let states =
        [None, Some(Status::Starting), Some(Status::Serving), Some(Status::Draining), Some(Status::Down)];
    for known in [true, false] {
        let mut random = fastrand::Rng::with_seed(6);
        let first = if known { vec![serving(1)] } else { vec![] };
        let mut bench = Bench::new(&first);
        for _ in 0..2_000 {
            let status = states[random.usize(..states.len())];
            bench.set(status);
            let is_known = known && bench.published.is_empty();
            assert!(status != Some(Status::Serving) || is_known || bench.shown() == status);
            bench.pass(STEP * random.u32(0..20));
        }
    }
}

#[test]
fn who_drains_and_goes_is_back_at_once() {
    let mut bench = Bench::new(&[serving(1)]);
    for status in [Some(Status::Draining), None, Some(Status::Serving)] {
        bench.set(status);
        assert_eq!(bench.shown(), status);
        bench.pass(STEP);
    }
    bench.set(None);
    assert_eq!(bench.shown(), Some(Status::Serving), "its next removal waits instead");
    bench.pass(EPOCH);
    assert_eq!(bench.shown(), None);
}

#[test]
fn who_announces_its_end_while_it_is_held_still_is_heard() {
    let mut bench = Bench::new(&[serving(1)]);
    for n in 0..7 {
        bench.set((n % 2 != 0).then_some(Status::Serving));
        bench.pass(STEP);
    }
    bench.set(Some(Status::Draining));
    assert_eq!(bench.shown(), Some(Status::Draining));
}

#[test]
fn who_has_been_still_for_an_epoch_is_forgiven() {
    let mut bench = Bench::new(&[serving(1)]);
    for n in 0..8 {
        bench.set((n % 2 != 0).then_some(Status::Serving));
        bench.pass(STEP);
    }
    bench.pass(2 * EPOCH);
    let told = bench.published.len();
    bench.set(None);
    bench.pass(STEP);
    bench.set(Some(Status::Serving));
    assert_eq!(bench.published.len(), told + 2);
}

#[test]
fn a_return_to_what_is_shown_is_no_news() {
    let mut bench = Bench::new(&[serving(1)]);
    for n in 0..4 {
        bench.set((n % 2 != 0).then_some(Status::Serving));
    }
    assert_eq!((bench.published.len(), bench.intake.deadline()), (2, None), "{:?}", bench.published);
}

#[test]
fn a_return_in_the_very_instant_in_which_its_removal_falls_due_is_no_news_and_costs_nothing() {
    let mut bench = Bench::new(&[serving(1)]);
    bench.set(None);
    bench.set(Some(Status::Serving));
    bench.set(None);
    let told = bench.published.len();
    bench.pass(EPOCH);
    assert_eq!(bench.published.len(), told, "the epoch isn't over before its last instant is");
    bench.set(Some(Status::Serving));
    assert_eq!((bench.published.len(), bench.intake.deadline()), (told, None), "{:?}", bench.published);
    // Nothing was published for an epoch, so this is.
    bench.set(None);
    assert_eq!((bench.published.len(), bench.shown()), (told + 1, None), "{:?}", bench.published);
}

#[test]
fn who_flaps_in_step_with_the_epoch_is_told_each_epoch() {
    let mut bench = Bench::new(&[serving(1)]);
    for n in 0..500 {
        bench.set((n % 2 != 0).then_some(Status::Serving));
        bench.pass(STEP);
    }
    let mut shown = Some(Status::Serving);
    for (at, status) in &bench.published {
        assert_ne!(*status, shown, "at {at:?} nothing was told: {:?}", bench.published);
        shown = *status;
    }
    let mut times = bench.times();
    times.dedup();
    assert_eq!(times.len(), bench.published.len(), "each has an instant of its own");
    assert!(times.len() >= 18, "the newest is told each epoch: {:?}", bench.published);
}

#[test]
fn weights_and_other_instances_are_not_held_up() {
    let mut bench = Bench::new(&[serving(1), serving(2)]);
    for n in 0..8 {
        bench.set((n % 2 != 0).then_some(Status::Serving));
    }
    for weight in 1..50 {
        let other = serving(2).to_builder().weight(weight).build().unwrap();
        let change = upserts([Arc::new(other)]);
        assert_eq!(bench.intake.take(&change, bench.now).upserts.len(), 1);
    }
    assert_eq!(bench.intake.take(&removals([2]), bench.now).removals, [key(2)]);
}

#[test]
fn a_change_of_weight_while_it_is_held_back_is_published_with_it() {
    let mut bench = Bench::new(&[serving(1)]);
    bench.set(None);
    bench.set(Some(Status::Serving));
    bench.set(None);
    let heavier = Arc::new(serving(1).to_builder().weight(7).build().unwrap());
    assert!(bench.intake.take(&upserts([heavier]), bench.now).upserts.is_empty());
    let due = bench.intake.deadline().unwrap();
    assert_eq!(due, bench.now + EPOCH + Duration::from_millis(1));
    assert_eq!(bench.intake.due(due).unwrap().upserts[0].weight().get(), 7);
}

#[test]
fn the_end_of_the_view_publishes_what_is_held_back() {
    let mut bench = Bench::new(&[serving(1)]);
    for n in 0..3 {
        bench.set((n % 2 != 0).then_some(Status::Serving));
    }
    assert_eq!(bench.intake.rest().unwrap().removals, [key(1)]);
    assert!(bench.intake.rest().is_none());
}

#[test]
fn what_is_published_late_keeps_the_suspects() {
    let mut bench = Bench::new(&[serving(1), serving(2)]);
    let suspects = Some(Arc::new(HashSet::from([key(2)])));
    for n in 0..3 {
        let change = if n % 2 == 0 { removals([1]) } else { upserts([serving(1)]) };
        bench.intake.take(&ViewChange { suspects: suspects.clone(), ..change }, bench.now);
    }
    let due = bench.intake.deadline().unwrap();
    assert_eq!(bench.intake.due(due).unwrap().suspects, suspects);
}

#[test]
fn only_those_that_moved_lately_are_remembered() {
    let mut bench = Bench::new(&[]);
    for id in 0..1_000 {
        bench.intake.take(&upserts([serving(id)]), bench.now);
    }
    bench.pass(2 * EPOCH);
    bench.intake.take(&removals([1]), bench.now);
    assert_eq!(bench.intake.damper.as_ref().unwrap().tracked(), 1);
}
