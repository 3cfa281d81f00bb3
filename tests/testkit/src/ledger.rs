//! A policy that writes down how picks ended.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use registry_core::balance::{Balance, Balancer, Draw, Failure, Members, Outcome, Picker, Slot, Ticket};

/// Takes the instances in turn, the first one first, and writes down how picks ended.
#[derive(Debug, Default)]
pub struct Ledger {
    begun: AtomicUsize,
    ended: Mutex<Vec<Option<Outcome>>>,
}

#[derive(Debug)]
struct InTurn(AtomicUsize, usize);

impl Ledger {
    /// A policy, and what it writes down.
    #[must_use]
    pub fn balance() -> (Balance, Arc<Self>) {
        let ledger = Arc::new(Self::default());
        let policy = Arc::clone(&ledger);
        (Balance::custom("ledger", move || Arc::<Self>::clone(&policy)), ledger)
    }

    /// How many picks haven't ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.begun.load(Ordering::SeqCst) - self.ended().len()
    }

    /// How the picks ended, in the order in which they did; `None` for one that ended without a verdict.
    #[must_use]
    pub fn ended(&self) -> Vec<Option<Outcome>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the picks ended, each with a verdict.
    ///
    /// # Panics
    /// If one ended without.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.ended().into_iter().map(|outcome| outcome.expect("a verdict")).collect()
    }

    /// What the picks blamed their instances for, if for anything.
    #[must_use]
    pub fn failures(&self) -> Vec<Option<Failure>> {
        self.ended().iter().map(|outcome| outcome.as_ref()?.get_failure()).collect()
    }

    /// How the picks ended, each with a verdict.
    ///
    /// # Panics
    /// If one ended without.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Result<(), Failure>> {
        self.outcomes().iter().map(|outcome| outcome.get_failure().map_or(Ok(()), Err)).collect()
    }
}

impl Balancer for Ledger {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        Arc::new(InTurn(AtomicUsize::new(0), members.len()))
    }

    fn observes(&self) -> bool {
        true
    }

    fn begin(&self, _: Slot) -> Ticket {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Ticket::default()
    }

    fn end(&self, _: Slot, _: Ticket, outcome: Option<&Outcome>) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(outcome.copied());
    }
}

impl Picker for InTurn {
    fn pick(&self, _: &Draw<'_>) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) % self.1
    }
}
