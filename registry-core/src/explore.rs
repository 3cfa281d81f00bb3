//! A depth-first explorer: every choice in every state, each state once.
//!
//! A [`World`] is a machine as it ships together with a model of everything around it, as one value. The explorer
//! takes every choice that a world offers, remembers the fingerprint of each world it has seen, and goes no further
//! where it has been. Properties are assertions: inside the world, after each choice, and in [`World::end`].
//!
//! A violation is told as the list of choices that leads to it, and played again from the start by a world that
//! keeps its notes. Why this and no library: ADR 0010.
//!
//! The scopes are small enough for every run of the tests. `EXPLORE_FAULTS` and `EXPLORE_EDITS` in the environment add
//! so many faults and edits to each of them, for a machine that has hours:
//! `EXPLORE_FAULTS=1 cargo test -p registry-core --lib exhaustive -- --nocapture`.

use std::{collections::HashSet, fmt::Debug, panic::AssertUnwindSafe};

/// A machine and all around it.
pub(crate) trait World: Clone {
    /// One thing that may happen next.
    type Choice: Clone + Debug;

    /// All that may happen next; nothing at the end of a path.
    fn choices(&self) -> Vec<Self::Choice>;

    /// Lets it happen, and asserts what must always hold.
    fn take(&mut self, choice: &Self::Choice);

    /// Equal for worlds with the same future: they are explored once.
    fn fingerprint(&self) -> u64;

    /// The end of a path: asserts what must hold in the long run.
    fn end(self);
}

/// How much was explored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Explored {
    /// Different worlds.
    pub(crate) states: usize,
    /// Choices taken.
    pub(crate) transitions: usize,
    /// Paths that came to an end in a world that no other had ended in.
    pub(crate) ends: usize,
    /// The longest path.
    pub(crate) depth: usize,
}

/// Faults beyond those of each scope: `EXPLORE_FAULTS`, none by default.
pub(crate) fn more_faults() -> u8 {
    more("EXPLORE_FAULTS")
}

/// Edits beyond those of each scope: `EXPLORE_EDITS`, none by default.
pub(crate) fn more_edits() -> u8 {
    more("EXPLORE_EDITS")
}

fn more(variable: &str) -> u8 {
    let set = std::env::var(variable).ok();
    set.map_or(0, |number| number.parse().expect("a number of faults or edits"))
}

struct Level<W: World> {
    world: W,
    left: Vec<W::Choice>,
    depth: usize,
}

/// Explores everything that follows from `start`, which is also asked for a world that keeps notes.
pub(crate) fn explore<W: World>(name: &str, start: impl Fn(bool) -> W) -> Explored {
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    let mut path: Vec<W::Choice> = Vec::new();
    let mut stack = Vec::new();
    visit(start(false), &path, &mut seen, &mut stack, &mut explored, &start);
    while let Some(level) = stack.last_mut() {
        let Some(choice) = level.left.pop() else {
            stack.pop();
            continue;
        };
        path.truncate(level.depth);
        path.push(choice.clone());
        let mut world = level.world.clone();
        explored.transitions += 1;
        guarded(&path, &start, AssertUnwindSafe(|| world.take(&choice)));
        visit(world, &path, &mut seen, &mut stack, &mut explored, &start);
    }
    println!(
        "{name}: {} states, {} transitions, {} ends, longest path {}",
        explored.states, explored.transitions, explored.ends, explored.depth
    );
    explored
}

fn visit<W: World>(
    world: W,
    path: &[W::Choice],
    seen: &mut HashSet<u64>,
    stack: &mut Vec<Level<W>>,
    explored: &mut Explored,
    start: &impl Fn(bool) -> W,
) {
    if !seen.insert(world.fingerprint()) {
        return;
    }
    explored.states += 1;
    explored.depth = explored.depth.max(path.len());
    let left = world.choices();
    if left.is_empty() {
        explored.ends += 1;
        guarded(path, start, AssertUnwindSafe(|| world.end()));
    } else {
        stack.push(Level { world, left, depth: path.len() });
    }
}

/// Runs a part of a path; if an assertion fails, tells the path and plays it again aloud.
fn guarded<W: World>(path: &[W::Choice], start: &impl Fn(bool) -> W, part: AssertUnwindSafe<impl FnOnce()>) {
    let Err(violation) = std::panic::catch_unwind(part) else { return };
    let told: Vec<_> = path.iter().enumerate().map(|(n, choice)| format!("{n:>4} {choice:?}")).collect();
    eprintln!("--- the path to the violation ---\n{}\n--- again ---", told.join("\n"));
    let mut world = start(true);
    path.iter().for_each(|choice| world.take(choice));
    world.end();
    std::panic::resume_unwind(violation);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters that two clerks raise, in any order.
    #[derive(Clone)]
    struct Counters([u8; 2], u8);

    impl World for Counters {
        type Choice = usize;

        fn choices(&self) -> Vec<usize> {
            (0..2).filter(|n| self.0[*n] < 3).collect()
        }

        fn take(&mut self, choice: &usize) {
            self.0[*choice] += 1;
            assert!(self.0[0] + self.0[1] < self.1, "too many");
        }

        fn fingerprint(&self) -> u64 {
            u64::from(self.0[0]) * 256 + u64::from(self.0[1])
        }

        fn end(self) {
            assert_eq!(self.0, [3, 3]);
        }
    }

    #[test]
    fn each_state_is_explored_once_by_every_way_that_leads_to_it() {
        let explored = explore("counters", |_| Counters([0, 0], 10));
        assert_eq!((explored.states, explored.transitions), (16, 24));
        assert_eq!((explored.ends, explored.depth), (1, 6));
    }

    #[test]
    #[should_panic(expected = "too many")]
    fn a_violation_that_only_one_state_shows_is_found() {
        explore("counters", |_| Counters([0, 0], 6));
    }
}
