//! A copy of what one server knows, kept up to date by deltas: the protocol asks for it, as a delta is only good for
//! somebody who can prove to have the rest.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use registry_core::backend::SourceId;

use self::app::App;
pub(crate) use self::record::{Action, AppNames, Item, Record, item, leading_item};
use super::{
    envelope::{Application, Applications},
    scan,
};

/// The status that Eureka reads all others as.
const UNKNOWN: &str = "UNKNOWN";
/// By name, as the hash has them.
const STATUSES: [&str; 5] = ["DOWN", "OUT_OF_SERVICE", "STARTING", UNKNOWN, "UP"];
/// Registrations by which a server's memory is recognised.
const MARKS: usize = 256;

/// A list or a delta, read as far as the protocol needs it.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) hash: Option<String>,
    pub(crate) items: Vec<Item>,
    /// How many of them had to be decoded.
    pub(crate) decoded: usize,
}

/// What became of an instance.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put { new: Arc<Record>, old: Option<Arc<Record>> },
    Gone(Arc<Record>),
}

/// All instances by application. A clone shares the applications.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    apps: HashMap<Arc<str>, Arc<App>>,
}

impl Fetched {
    /// # Errors
    /// What is malformed, if the whole is; an entry that isn't an instance is left out.
    pub(crate) fn parse(body: &str) -> Result<Self, serde_json::Error> {
        let (mut apps, mut items) = (AppNames::default(), Vec::new());
        let read = scan::list(body, |app, rest| {
            let (item, length) = leading_item(&mut apps, app, rest)?;
            items.extend(item);
            Some(length)
        });
        let hash = match read {
            Some(hash) => Some(hash),
            None => {
                let all = Applications::parse(body)?;
                items = all.instances().filter_map(|(app, raw)| item(&mut apps, app, raw)).collect();
                all.hash
            }
        };
        Ok(Self { decoded: items.len(), hash, items })
    }

    /// The answer to a look at one application.
    ///
    /// # Errors
    /// What is malformed, if the whole is.
    pub(crate) fn parse_one(body: &str) -> Result<Self, serde_json::Error> {
        let app = Application::parse(body)?;
        let mut apps = AppNames::default();
        let item = |raw: &&str| item(&mut apps, app.name.as_deref(), raw);
        let items: Vec<_> = app.instances.iter().filter_map(item).collect();
        Ok(Self { decoded: items.len(), hash: None, items })
    }
}

impl Replica {
    /// A complete list.
    pub(crate) fn of(list: Vec<Item>) -> Self {
        Self::default().next(list)
    }

    /// A complete list after this one, which shares with it what is as it was. What was deleted is in it only as a slip
    /// of the server.
    pub(crate) fn next(&self, list: Vec<Item>) -> Self {
        let mut next = Self::default();
        let listed = list.into_iter().filter(|(action, _)| *action == Action::Put).map(|(_, record)| record);
        let mut listed = listed.peekable();
        while let Some(first) = listed.peek() {
            let name = Arc::clone(&first.app);
            let is_of_it = |record: &Arc<Record>| Arc::ptr_eq(&record.app, &name) || record.app == name;
            let mut records = Vec::with_capacity(self.apps.get(&name).map_or(0, |app| app.len()));
            records.extend(std::iter::from_fn(|| listed.next_if(is_of_it)));
            match (next.apps.get_mut(&name), self.apps.get(&name)) {
                // Servers don't write an application in pieces.
                (Some(app), _) => records.into_iter().for_each(|record| drop(Arc::make_mut(app).put(record))),
                (None, Some(before)) => drop(next.apps.insert(name, App::next(before, records))),
                (None, None) => drop(next.apps.insert(name, Arc::new(App::of(records)))),
            }
        }
        next
    }

    /// Applies a delta, which may repeat what is known.
    pub(crate) fn apply(&mut self, delta: Vec<Item>) -> Vec<Change> {
        let apply = |(action, new): Item| match action {
            Action::Put => {
                let old = self.put(Arc::clone(&new));
                Change::Put { new, old }
            }
            Action::Delete => Change::Gone(self.delete(&new).unwrap_or(new)),
        };
        delta.into_iter().map(apply).collect()
    }

    /// `STATUS_count_` for each status that occurs, by name: by which a server says what a reader should have.
    pub(crate) fn hash(&self) -> String {
        let count = |at: usize| self.apps.values().map(|app| app.counts()[at]).sum::<usize>();
        let counts = STATUSES.iter().enumerate().map(|(at, status)| (status, count(at)));
        let counts = counts.filter(|(_, count)| *count > 0);
        counts.map(|(status, count)| format!("{status}_{count}_")).collect()
    }

    pub(crate) fn app(&self, app: &str) -> impl Iterator<Item = &Arc<Record>> {
        self.apps.get(app).into_iter().flat_map(|app| app.records())
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.apps.values().flat_map(|app| app.records())
    }

    pub(crate) fn has(&self, app: &str, id: &str) -> bool {
        self.apps.get(app).is_some_and(|app| app.get(id).is_some())
    }

    /// Whether this may be a part of the same memory as `earlier`: unless all that both have came anew.
    pub(crate) fn continues(&self, earlier: &Self) -> bool {
        let known = |record: &&Arc<Record>| earlier.apps.get(&record.app)?.get(&record.id).map(Arc::clone);
        let mut both = self.records().filter_map(|now| Some((now, known(&now)?))).peekable();
        both.peek().is_none() || both.any(|(now, then)| now.registered == then.registered)
    }

    fn put(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        let app = self.apps.entry(Arc::clone(&record.app)).or_default();
        Arc::make_mut(app).put(record)
    }

    fn delete(&mut self, record: &Record) -> Option<Arc<Record>> {
        let app = self.apps.get_mut(&record.app)?;
        let old = Arc::make_mut(app).remove(&record.id);
        if app.len() == 0 {
            self.apps.remove(&record.app);
        }
        old
    }
}

/// Tells one life of a server's memory from the next.
///
/// Eureka has no name for it. But it notes when it took each registration in, and keeps that time as long as it keeps
/// the registration: a list in which not a single one has the time that it had before comes from a memory that started
/// anew, maybe empty, while others are still registering again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Continuity {
    life: Option<Life>,
}

#[derive(Clone, Debug)]
struct Life {
    server: Arc<str>,
    source: SourceId,
    /// Those registrations whose hashes are smallest: the same ones in each list that has them.
    marks: BTreeSet<u64>,
}

impl Continuity {
    /// Judges a complete list of a server; whether it continues what was there before.
    pub(crate) fn judge(&mut self, server: &Arc<str>, list: &Replica) -> SourceId {
        let mut marks = BTreeSet::new();
        for record in list.records().filter(|record| record.registered > 0) {
            if marks.len() < MARKS || marks.last().is_some_and(|largest| record.mark < *largest) {
                marks.insert(record.mark);
            }
            if marks.len() > MARKS {
                marks.pop_last();
            }
        }
        if let Some(life) = &mut self.life
            && life.server == *server
            && (life.marks.is_empty() || !life.marks.is_disjoint(&marks))
        {
            life.marks = marks;
            return life.source.clone();
        }
        let oldest = list.records().map(|record| record.registered).filter(|at| *at > 0).min().unwrap_or(0);
        let source = SourceId::new(format!("{server}@{oldest}"));
        // An empty memory looks like any other empty one.
        let source = match &self.life {
            Some(life) if life.source == source => SourceId::new(format!("{source}'")),
            _ => source,
        };
        self.life = Some(Life { server: Arc::clone(server), source: source.clone(), marks });
        source
    }

    /// The source of an answer of `server` that is not a complete list: another than any known if it is another server.
    pub(crate) fn source_of(&self, server: &str) -> Option<SourceId> {
        let life = self.life.as_ref()?;
        Some(if *life.server == *server { life.source.clone() } else { SourceId::new(server) })
    }
}

mod app;
mod record;
#[cfg(test)]
mod tests;
