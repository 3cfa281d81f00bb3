//! In proportion to weight: alias tables (Vose, "A Linear Algorithm for Generating Random Numbers with a
//! Given Distribution", 1991) in two levels.
//!
//! One flat table must be rebuilt whole for each change (50 µs for 10,000 members). Here every run of 32
//! neighbours has its own table, and a table above them chooses the run: a change rebuilds one run and the
//! table above, which has a 32nd of the length. So the tables are ready before the version is visible, and no
//! pick ever builds one.

use std::{
    hint,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Balancer, Draw, Members, Picker, random::Random};
use crate::snapshot::{Leaf, Member};

/// Keeps the tables of the last version, of which the next one uses what didn't change.
#[derive(Debug, Default)]
pub(super) struct WeightedRandom(Mutex<Vec<Run>>);

impl Balancer for WeightedRandom {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if members.has_equal_weights() {
            last.clear();
            return Arc::new(Random);
        }
        let runs: Vec<Run> = members
            .runs()
            .enumerate()
            .map(|(at, (start, leaf))| match last.get(at) {
                Some(run) if Arc::ptr_eq(&run.leaf, leaf) => Run { start, ..run.clone() },
                _ => Run::new(start, leaf),
            })
            .collect();
        last.clone_from(&runs);
        let above = table(runs.iter().map(|run| run.total));
        let runs = runs.into_iter().map(|run| (run.start, run.cells)).collect();
        Arc::new(Tables { above, runs })
    }
}

#[derive(Debug)]
struct Tables {
    above: Arc<[Cell]>,
    runs: Box<[(usize, Arc<[Cell]>)]>,
}

impl Picker for Tables {
    fn pick(&self, _: &Draw<'_>) -> usize {
        let random = fastrand::u128(..);
        let (start, cells) = &self.runs[draw(&self.above, random as u64)];
        start + draw(cells, (random >> 64) as u64)
    }
}

/// The table of one run of neighbours.
#[derive(Clone, Debug)]
struct Run {
    start: usize,
    total: u64,
    cells: Arc<[Cell]>,
    /// What the table was made of.
    leaf: Leaf<Member>,
}

impl Run {
    fn new(start: usize, leaf: &Leaf<Member>) -> Self {
        let weights: Vec<u64> =
            leaf.iter().flatten().map(|member| u64::from(member.instance.weight().get())).collect();
        let total = weights.iter().sum();
        Self { start, total, cells: table(weights.into_iter()), leaf: Arc::clone(leaf) }
    }
}

/// One column of an alias table: below `cut` it stands for itself, else for `alias`.
#[derive(Clone, Copy, Debug)]
struct Cell {
    cut: u32,
    alias: u32,
}

/// Draws from a table that isn't empty: the upper half of the random number chooses the column, the lower the
/// side.
#[inline]
fn draw(cells: &[Cell], random: u64) -> usize {
    let column = ((random >> 32) * cells.len() as u64) >> 32;
    let cell = cells[column as usize];
    // The side is as random as can be: a branch would be mispredicted half the time, which costs more than
    // the rest.
    hint::select_unpredictable((random as u32) < cell.cut, column as usize, cell.alias as usize)
}

/// Builds an alias table. In integers, so that the shares add up whatever the weights; a share is exact to
/// 2^-32.
fn table(weights: impl ExactSizeIterator<Item = u64>) -> Arc<[Cell]> {
    let columns = weights.len() as u128;
    let mut left: Vec<u128> = weights.map(|weight| u128::from(weight) * columns).collect();
    // The mean of what is left, so that each column holds exactly this much.
    let full = left.iter().sum::<u128>() / columns.max(1);
    let mut cells: Vec<Cell> = (0..left.len()).map(|at| Cell { cut: u32::MAX, alias: at as u32 }).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..left.len()).partition(|at| left[*at] < full);
    while let (Some(low), Some(high)) = (small.pop(), large.last().copied()) {
        cells[low] =
            Cell { cut: u32::try_from((left[low] << 32) / full).unwrap_or(u32::MAX), alias: high as u32 };
        left[high] -= full - left[low];
        if left[high] < full {
            large.pop();
            small.push(high);
        }
    }
    cells.into()
}
