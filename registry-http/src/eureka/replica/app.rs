//! The records of one application, in the order in which the server lists them.
//!
//! A list has them in the order of the one before, so that the two are compared place by place, and what only tells where
//! each id is stays the same.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{Record, STATUSES};

/// How many have each of the [`STATUSES`].
type Counts = [usize; STATUSES.len()];

#[derive(Clone, Debug, Default)]
pub(super) struct App {
    records: Vec<Arc<Record>>,
    /// Where each id is among them.
    places: Arc<HashMap<Arc<str>, usize, RandomState>>,
    counts: Counts,
}

impl App {
    /// Of two records with one id the later counts.
    pub(super) fn of(records: Vec<Arc<Record>>) -> Self {
        let mut places: HashMap<Arc<str>, usize, RandomState> =
            HashMap::with_capacity_and_hasher(records.len(), RandomState::default());
        let (mut distinct, mut counts) = (Vec::with_capacity(records.len()), Counts::default());
        for record in records {
            counts[place_of(&record)] += 1;
            match places.entry(Arc::clone(&record.id)) {
                Entry::Vacant(place) => {
                    place.insert(distinct.len());
                    distinct.push(record);
                }
                Entry::Occupied(place) => {
                    let old: Arc<Record> = std::mem::replace(&mut distinct[*place.get()], record);
                    counts[place_of(&old)] -= 1;
                }
            }
        }
        Self { records: distinct, places: Arc::new(places), counts }
    }

    /// What a list has of it after `self`; the same allocation if that is the same records.
    pub(super) fn next(self: &Arc<Self>, records: Vec<Arc<Record>>) -> Arc<Self> {
        if records.len() != self.records.len() {
            return Arc::new(Self::of(records));
        }
        let (mut counts, mut is_same) = (self.counts, true);
        for (new, old) in records.iter().zip(&self.records) {
            if Arc::ptr_eq(new, old) {
                continue;
            }
            if new.id != old.id {
                return Arc::new(Self::of(records));
            }
            counts[place_of(old)] -= 1;
            counts[place_of(new)] += 1;
            is_same = false;
        }
        match is_same {
            true => Arc::clone(self),
            false => Arc::new(Self { records, places: Arc::clone(&self.places), counts }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.iter()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<Record>> {
        self.places.get(id).map(|at| &self.records[*at])
    }

    pub(super) fn put(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        self.counts[place_of(&record)] += 1;
        // Whoever is known keeps its place, so that nothing of the table is copied.
        if let Some(at) = self.places.get(&record.id) {
            let old = std::mem::replace(&mut self.records[*at], record);
            self.counts[place_of(&old)] -= 1;
            return Some(old);
        }
        Arc::make_mut(&mut self.places).insert(Arc::clone(&record.id), self.records.len());
        self.records.push(record);
        None
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Arc<Record>> {
        self.places.get(id)?;
        let places = Arc::make_mut(&mut self.places);
        let at = places.remove(id)?;
        let old = self.records.swap_remove(at);
        if let Some(moved) = self.records.get(at) {
            places.insert(Arc::clone(&moved.id), at);
        }
        self.counts[place_of(&old)] -= 1;
        Some(old)
    }
}

fn place_of(record: &Record) -> usize {
    STATUSES.iter().position(|status| *status == record.status).expect("a record's status is one of them")
}
