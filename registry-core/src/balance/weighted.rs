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

use super::{Dice, Members};
use crate::snapshot::{Leaf, Member};

/// Members with a table of their own.
const RUN: usize = 32;

/// Runs that are near all together.
const FEW: usize = 64;

/// Keeps the tables of the last version, of which the next one uses what didn't change.
#[derive(Debug, Default)]
pub(crate) struct WeightedRandom(Mutex<Option<Arc<Tables>>>);

impl WeightedRandom {
    /// The tables for one version; `None` if all weights are the same, so that none is needed.
    pub(super) fn tables(&self, members: &Members) -> Option<Arc<Tables>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if members.has_equal_weights() {
            *last = None;
            return None;
        }
        let kept = last.as_ref().map_or(&[][..], |tables| &tables.runs);
        let runs: Box<[Run]> = members
            .runs()
            .enumerate()
            .map(|(at, (start, leaf))| match kept.get(at) {
                Some(run) if Arc::ptr_eq(&run.leaf, leaf) => Run { start, ..run.clone() },
                _ => Run::new(start, leaf),
            })
            .collect();
        let above = table(runs.iter().map(|run| run.total)).into();
        let tables = Arc::new(Tables { above, runs });
        *last = Some(Arc::clone(&tables));
        Some(tables)
    }
}

#[derive(Debug)]
pub(crate) struct Tables {
    above: Box<[Cell]>,
    runs: Box<[Run]>,
}

impl Tables {
    /// A position, and the member there: the run knows its leaf, which saves the way down to it.
    #[inline]
    pub(super) fn draw(&self, dice: &Dice) -> (usize, Option<&Member>) {
        let random = dice.bits();
        let run = &self.runs[draw(&self.above, (random >> 32) as u32)];
        if self.runs.len() > FEW {
            // Far away in memory, which brings it while the column is read: that stands for itself more often than not.
            let column = random as u32 as usize >> (u32::BITS - RUN.ilog2());
            hint::black_box(run.leaf[column % RUN].is_some());
        }
        let at = draw(&run.cells[..], random as u32);
        (run.start + at, run.leaf[at % RUN].as_ref())
    }
}

/// The table of one run of neighbours.
#[derive(Clone, Debug)]
struct Run {
    start: usize,
    total: u64,
    /// What the table was made of.
    leaf: Leaf<Member>,
    /// As many as fit into a run, so that a pick needn't look: those past the last member have no share. Not behind a
    /// pointer, so that a pick reads a cell while it reads where the leaf is.
    cells: [Packed; RUN],
}

impl Run {
    fn new(start: usize, leaf: &Leaf<Member>) -> Self {
        let mut weights = [0; RUN];
        for (weight, member) in weights.iter_mut().zip(leaf.iter().flatten()) {
            *weight = u64::from(member.instance.weight().get());
        }
        let cells: Vec<Packed> = table(weights.into_iter()).into_iter().map(Packed::new).collect();
        let cells = cells.try_into().expect("as many cells as weights");
        Self { start, total: weights.iter().sum(), leaf: Arc::clone(leaf), cells }
    }
}

/// One column of an alias table: below `cut` it stands for itself, else for `alias`.
#[derive(Clone, Copy, Debug)]
struct Cell {
    cut: u32,
    alias: u32,
}

impl Column for Cell {
    fn cut(self) -> u32 {
        self.cut
    }

    fn alias(self) -> usize {
        self.alias as usize
    }
}

/// A cell of a run in half the room, as there are as many as members and a pick meets any of them: the low five bits
/// of the cut make way for the alias. A share is exact to 2^-27 of its run.
#[derive(Clone, Copy, Debug)]
struct Packed(u32);

impl Packed {
    const ALIAS: u32 = RUN as u32 - 1;

    fn new(cell: Cell) -> Self {
        Self(cell.cut & !Self::ALIAS | cell.alias)
    }
}

impl Column for Packed {
    fn cut(self) -> u32 {
        self.0 & !Self::ALIAS
    }

    fn alias(self) -> usize {
        (self.0 & Self::ALIAS) as usize
    }
}

/// What a draw asks of a column.
trait Column: Copy {
    fn cut(self) -> u32;
    fn alias(self) -> usize;
}

/// Draws from a table that isn't empty. Times the length, the whole part of the random number chooses the column and
/// what is left the side: one number does for both, and a share is exact to 2^-32.
#[inline(always)]
fn draw(cells: &[impl Column], random: u32) -> usize {
    let product = u64::from(random) * cells.len() as u64;
    let column = (product >> 32) as usize;
    let cell = cells[column];
    // The side is as random as can be: a branch would be mispredicted half the time, which costs more than
    // the rest.
    hint::select_unpredictable((product as u32) < cell.cut(), column, cell.alias())
}

/// Builds an alias table. In integers, so that the shares add up whatever the weights; a share is exact to
/// 2^-32.
fn table(weights: impl ExactSizeIterator<Item = u64>) -> Vec<Cell> {
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
    cells
}
