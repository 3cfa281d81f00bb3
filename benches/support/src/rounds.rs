//! Runs cases against each other.

use std::sync::Barrier;

use crate::{
    Case,
    machine::{on_thread, pin},
    quantile,
};

/// Rounds of a comparison: each runs every case once.
const ROUNDS: usize = 11;

/// What several cases took in the same rounds.
///
/// All figures are medians; those that compare are medians over the rounds of one case ÷ the other in the same
/// round.
#[derive(Debug)]
pub struct Rounds {
    results: Vec<Result>,
}

#[derive(Debug)]
struct Result {
    name: &'static str,
    /// ns per operation in each round: on one thread, and per thread on two at once.
    single: Vec<f64>,
    double: Vec<f64>,
    allocations: f64,
}

impl Rounds {
    /// 11 rounds, each case on one pinned thread.
    #[must_use]
    pub fn on_one_thread(cases: &[Case]) -> Self {
        Self::run(cases, false)
    }

    /// 11 rounds, each case on one pinned thread, then on two that start together.
    #[must_use]
    pub fn on_two_threads(cases: &[Case]) -> Self {
        Self::run(cases, true)
    }

    fn run(cases: &[Case], twice: bool) -> Self {
        let result = |case: &Case| Result {
            name: case.name(),
            single: Vec::new(),
            double: Vec::new(),
            allocations: 0.0,
        };
        let mut results: Vec<_> = cases.iter().map(result).collect();
        for _ in 0..ROUNDS {
            for (case, result) in cases.iter().zip(&mut results) {
                let (single, allocations) = on_thread(0, || case.run());
                result.single.push(single);
                result.allocations = result.allocations.max(allocations);
                if twice {
                    result.double.push(on_two(case));
                }
            }
        }
        Self { results }
    }

    /// How many times the ruler a case costs.
    ///
    /// # Panics
    /// If there is no case of a name.
    #[must_use]
    pub fn ratio(&self, case: &str, ruler: &str) -> f64 {
        ratio(&self.result(case).single, &self.result(ruler).single)
    }

    /// 2 × one thread ÷ two threads: 2 is perfect, below 1 two threads do less than one. Not a number unless
    /// measured on two threads.
    ///
    /// # Panics
    /// If there is no case of this name.
    #[must_use]
    pub fn scaling(&self, case: &str) -> f64 {
        let result = self.result(case);
        2.0 * ratio(&result.single, &result.double)
    }

    /// Allocations per operation, the most of any round.
    ///
    /// # Panics
    /// If there is no case of this name.
    #[must_use]
    pub fn allocations(&self, case: &str) -> f64 {
        self.result(case).allocations
    }

    /// ns per operation on one thread.
    ///
    /// # Panics
    /// If there is no case of this name.
    #[must_use]
    pub fn ns(&self, case: &str) -> f64 {
        quantile(&self.result(case).single, 0.5)
    }

    /// Prints a table with a column of ratios per ruler.
    pub fn print(&self, title: &str, rulers: &[&str]) {
        print!("\n{title}\n{:<26}", "case");
        rulers.iter().for_each(|ruler| print!(" {:>9}", format!("×{ruler}")));
        println!(" {:>10} {:>10} {:>7} {:>7} {:>7}", "ns", "min", "spread", "scaling", "allocs");
        for result in &self.results {
            print!("{:<26}", result.name);
            rulers.iter().for_each(|ruler| print!(" {:>9.2}", self.ratio(result.name, ruler)));
            let median = quantile(&result.single, 0.5);
            let spread = (quantile(&result.single, 0.75) - quantile(&result.single, 0.25)) / median;
            let scaling = match result.double.is_empty() {
                true => "–".to_owned(),
                false => format!("{:.2}", self.scaling(result.name)),
            };
            println!(
                " {median:>10.1} {:>10.1} {:>6.1}% {scaling:>7} {:>7.3}",
                quantile(&result.single, 0.0),
                100.0 * spread,
                result.allocations,
            );
        }
    }

    fn result(&self, name: &str) -> &Result {
        let found = self.results.iter().find(|result| result.name == name);
        found.unwrap_or_else(|| panic!("no case is called {name:?}"))
    }
}

/// Median over the rounds of a ÷ b.
fn ratio(a: &[f64], b: &[f64]) -> f64 {
    quantile(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>(), 0.5)
}

/// ns per op and thread, on two threads that start together.
fn on_two(case: &Case) -> f64 {
    let barrier = Barrier::new(2);
    let run = |core: usize| {
        pin(core);
        barrier.wait();
        case.run().0
    };
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|core| scope.spawn(move || run(core)));
        threads.map(|thread| thread.join().expect("a case doesn't panic")).iter().sum::<f64>() / 2.0
    })
}
