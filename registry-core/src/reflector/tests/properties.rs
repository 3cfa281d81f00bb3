//! Random scripts: whatever happens in whatever order, the promises hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{super::signal::Input, bench::Bench, *};
use crate::{
    Error, ErrorKind, ViewState,
    backend::Capabilities,
    reflector::{ReflectorConfig, ShrinkGuard},
};

const KINDS: [ErrorKind; 9] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Protocol,
    ErrorKind::RateLimited,
    ErrorKind::Unauthenticated,
    ErrorKind::PermissionDenied,
    ErrorKind::Compacted,
    ErrorKind::LeaseLost,
    ErrorKind::Closed,
];

#[derive(Clone, Debug)]
enum Op {
    /// Register or change an instance.
    Put(u8, u32),
    Drain(u8),
    Delete(u8),
    DeleteAll,
    /// The registry loses everything and starts anew.
    Wipe,
    /// The session breaks.
    Break(usize),
    End,
    /// A list that lies: without this share of the instances.
    Lie(u8),
    /// The registry is not reachable from now on, or is again.
    Down,
    Up,
    /// The pending lookup is answered: with the truth, or with an error.
    Answer(bool),
    Fail(u8),
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..8u8, 1..5u32).prop_map(|(id, weight)| Op::Put(id, weight)),
        1 => (0..8u8).prop_map(Op::Drain),
        3 => (0..8u8).prop_map(Op::Delete),
        1 => Just(Op::DeleteAll),
        1 => Just(Op::Wipe),
        2 => (0..KINDS.len()).prop_map(Op::Break),
        1 => Just(Op::End),
        1 => (0..8u8).prop_map(Op::Lie),
        1 => Just(Op::Down),
        2 => Just(Op::Up),
        2 => any::<bool>().prop_map(Op::Answer),
        1 => (0..8u8).prop_map(Op::Fail),
        6 => prop_oneof![0..3_000u64, 0..60_000u64, 0..900_000u64].prop_map(Op::Wait),
    ];
    prop::collection::vec(op, 1..80)
}

/// A registry with a history, and a bench that watches it.
struct World {
    bench: Bench,
    truth: BTreeMap<u8, Arc<Instance>>,
    source: u32,
    revision: u64,
    log: Vec<(u64, Change)>,
    up: bool,
    /// The session that was answered last, and the revision it has seen.
    live: Option<(u64, u64)>,
    answered: usize,
}

fn id(id: u8) -> String {
    format!("i{id}")
}

impl World {
    fn new(seed: u64, guard: ShrinkGuard) -> Self {
        let config = ReflectorConfig { seed: Some(seed), shrink_guard: guard, ..ReflectorConfig::default() };
        Self {
            bench: Bench::with(config, &Capabilities::session(), false),
            truth: BTreeMap::new(),
            source: 0,
            revision: 1,
            log: Vec::new(),
            up: true,
            live: None,
            answered: 0,
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence::at(SourceId::new(self.source.to_string()), self.revision)
    }

    fn event(&self, changes: Vec<Change>) -> Event {
        Event::new(changes, Some(Cursor::new(format!("{}:{}", self.source, self.revision))), self.evidence())
    }

    fn all(&self) -> Vec<Arc<Instance>> {
        self.truth.values().cloned().collect()
    }

    fn change(&mut self, change: Change) {
        self.revision += 1;
        match &change {
            Change::Upsert(i) => {
                drop(self.truth.insert(i.id().as_str()[1..].parse().unwrap(), Arc::clone(i)));
            }
            Change::Remove(key) => drop(self.truth.remove(&key.id.as_str()[1..].parse().unwrap())),
            _ => unreachable!("the registry's own changes are these"),
        }
        self.log.push((self.revision, change));
    }

    /// Answers a session that waits to be opened, and delivers what the live one hasn't seen.
    fn settle(&mut self) {
        if !self.up {
            self.live = None;
            return;
        }
        if self.bench.open && self.live.is_none_or(|(session, _)| session != self.bench.session()) {
            let (session, cursor) = self.bench.opened.last().cloned().unwrap();
            let seen = cursor.as_ref().and_then(|cursor| {
                let (source, revision) = cursor.as_str().split_once(':')?;
                (source == self.source.to_string()).then(|| revision.parse::<u64>().unwrap())
            });
            self.answered += 1;
            self.live = Some((session, self.revision));
            match (cursor, seen) {
                (Some(_), None) => self.bench.fail_with(Error::new(ErrorKind::Compacted, "gone")),
                (Some(_), Some(seen)) if self.answered.is_multiple_of(2) => {
                    let missed = self.log.iter().filter(|(revision, _)| *revision > seen);
                    let changes =
                        [Change::Resumed].into_iter().chain(missed.map(|(_, c)| c.clone())).collect();
                    self.bench.event(self.event(changes));
                }
                _ => self.bench.event(self.event(vec![Change::Reset(self.all())])),
            }
        } else if self.bench.open
            && let Some((session, seen)) = self.live
        {
            let news =
                self.log.iter().filter(|(revision, _)| *revision > seen).map(|(_, c)| c.clone()).collect();
            self.live = Some((session, self.revision));
            self.bench.event(self.event(news));
        }
    }

    fn wait(&mut self, millis: u64) {
        let end = self.bench.now.mono + Duration::from_millis(millis);
        while self.bench.now.mono < end {
            let left = end - self.bench.now.mono;
            self.bench.advance(self.bench.until_due(left.min(secs(10))));
            self.settle();
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Put(n, weight) => self.change(Change::Upsert(weighted(&id(*n), *weight))),
            Op::Drain(n) => self.change(Change::Upsert(draining(&id(*n)))),
            Op::Delete(n) => {
                if self.truth.contains_key(n) {
                    self.change(Change::Remove(key(&id(*n))));
                }
            }
            Op::DeleteAll => {
                for n in self.truth.keys().copied().collect::<Vec<_>>() {
                    self.change(Change::Remove(key(&id(n))));
                }
            }
            Op::Wipe => {
                self.truth.clear();
                self.log.clear();
                self.source += 1;
                self.revision = 1;
                self.live = None;
                if self.bench.open {
                    self.bench.end();
                }
            }
            Op::Break(kind) => {
                self.live = None;
                if self.bench.open {
                    self.bench.fail_with(Error::new(KINDS[*kind], "broken"));
                }
            }
            Op::End => {
                self.live = None;
                if self.bench.open {
                    self.bench.end();
                }
            }
            Op::Lie(keep) => {
                // Settled first, so that the lie is the newest thing on a session that is live.
                self.settle();
                if self.up && self.live.is_some() && self.bench.open {
                    self.revision += 1;
                    self.live = self.live.map(|(session, _)| (session, self.revision));
                    let some =
                        self.truth.iter().filter(|(n, _)| *n < keep).map(|(_, i)| Arc::clone(i)).collect();
                    self.bench.event(self.event(vec![Change::Reset(some)]));
                }
            }
            Op::Down => self.up = false,
            Op::Up => self.up = true,
            Op::Answer(truth) => {
                if let Some((lookup, _)) = self.bench.lookups.pop() {
                    let answer = if *truth && self.up {
                        Ok(Listing::new(self.all(), self.evidence()))
                    } else {
                        Err(Error::new(ErrorKind::Timeout, "no answer"))
                    };
                    self.bench.send(Input::Listed { id: lookup, answer });
                }
            }
            Op::Fail(n) => self.bench.send(Input::Failed(key(&id(*n)))),
            Op::Wait(millis) => self.wait(*millis),
        }
        self.settle();
    }

    fn view(&self) -> BTreeSet<(String, u32)> {
        self.bench.view.values().map(|i| (i.id().to_string(), i.weight().get())).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// D2, and with the checks of the bench at every step D3 and D4.
    #[test]
    fn after_quiescence_the_view_is_the_truth(seed in any::<u64>(), script in ops()) {
        let mut world = World::new(seed, ShrinkGuard::default());
        for op in &script {
            world.run(op);
        }
        world.up = true;
        // A fatal refusal is retried within 72 s; a hold after a new incarnation lasts 30 s. A lie is found out by
        // the next list, which a broken session brings.
        world.wait(75_000);
        world.run(&Op::Answer(false));
        world.run(&Op::Break(6));
        world.wait(75_000);
        let truth: BTreeSet<_> = world.all().iter().map(|i| (i.id().to_string(), i.weight().get())).collect();
        prop_assert_eq!(world.view(), truth);
        prop_assert_eq!(world.bench.view_state(), ViewState::Fresh);
        prop_assert!(world.bench.suspects.is_empty());
    }

    /// D1: with instances in the view, no error and no silence of any length changes a thing.
    #[test]
    fn errors_and_time_never_change_the_set(
        seed in any::<u64>(),
        count in 1..8u8,
        script in prop::collection::vec((0..KINDS.len(), 0..120_000u64, any::<bool>()), 1..60),
    ) {
        let mut world = World::new(seed, ShrinkGuard::default());
        for n in 0..count {
            world.run(&Op::Put(n, 1));
        }
        let (before, applied) = (world.view(), world.bench.applied());
        for (kind, millis, lists) in script {
            world.run(&Op::Break(kind));
            world.up = false;
            world.wait(millis);
            world.run(&Op::Answer(false));
            world.up = lists;
            world.settle();
        }
        prop_assert_eq!(world.view(), before);
        prop_assert_eq!(world.bench.applied(), applied);
    }

    /// A list that lies, however often, can't empty the view before its hold is over.
    #[test]
    fn an_empty_list_never_empties_the_view_within_its_hold(
        seed in any::<u64>(),
        count in 1..8u8,
        waits in prop::collection::vec(0..2_000u64, 1..7),
    ) {
        let mut world = World::new(seed, ShrinkGuard::default());
        for n in 0..count {
            world.run(&Op::Put(n, 1));
        }
        let before = world.view();
        for wait in waits {
            world.run(&Op::Lie(0));
            world.run(&Op::Break(0));
            world.wait(wait);
            prop_assert_eq!(&world.view(), &before);
        }
        // A session that resumes says nothing about what the lie left out; a list does.
        world.wait(5_000);
        world.run(&Op::Break(6));
        world.wait(5_000);
        prop_assert_eq!(world.view(), before);
        prop_assert!(world.bench.suspects.is_empty());
    }
}
