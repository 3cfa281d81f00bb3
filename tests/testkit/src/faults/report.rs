//! Figures and histories as files.

use std::{
    fmt::{self, Write as _},
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use registry_core::{RegistrationEvent, backend::Change};

use super::{
    History,
    history::Entry,
    observation::{Observation, Records},
    verdict::{Figure, Value, Violation},
};

/// The environment variable that names the directory of figures.
const DIRECTORY: &str = "FIGURES";
/// The environment variable that has the histories of what passed saved too.
const HISTORIES: &str = "HISTORIES";
/// How many names a line of a report lists.
const NAMES: usize = 5;

/// Writes down what a test that passed has measured: one file with one line
/// `ROW⇥<number>⇥<backend>⇥<test>⇥<what> <value>` in the directory that the environment variable `FIGURES` names.
/// Nothing happens if it is not set. The test is known by its thread, so call it from the test itself.
///
/// # Panics
///
/// When the file can't be written.
pub fn figure(row: u8, backend: &str, what: &str, value: impl Into<Value>) {
    let thread = std::thread::current();
    let fallback = format!("row_{row:02}");
    // With one test thread the tests run on the main one, which has their name no more.
    let test = thread.name().filter(|name| *name != "main").unwrap_or(&fallback);
    write_figure(row, backend, test, &Figure::new(what, value));
}

fn write_figure(row: u8, backend: &str, test: &str, figure: &Figure) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some(directory) = std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty()) else {
        return;
    };
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{row:02}-{backend}-{}-{number}.tsv", std::process::id());
    let line = format!("ROW\t{row:02}\t{backend}\t{test}\t{figure}\n");
    let write = || {
        fs::create_dir_all(&directory)?;
        fs::write(Path::new(&directory).join(name), line)
    };
    write().unwrap_or_else(|error: io::Error| panic!("figures can't be written to {directory:?}: {error}"));
}

/// Ends a row: writes its figure, or saves its history and panics with what was violated. The environment variable
/// `HISTORIES` has it saved in any case.
///
/// `test` is the full name of the test, such as `etcd::kill::row_01_…`.
///
/// # Panics
///
/// If something was violated.
pub fn settle(row: u8, backend: &str, test: &str, history: &History, verdict: &Result<Figure, Violation>) {
    match verdict {
        Ok(figure) => {
            println!("row {row:02} on {backend}: {figure}");
            if std::env::var_os(HISTORIES).is_some() {
                println!("{}", history.saved_as(test));
            }
            write_figure(row, backend, test, figure);
        }
        Err(violation) => {
            history.mark(violation.to_string());
            panic!("{violation}\n{}", history.saved_as(test));
        }
    }
}

impl History {
    /// Saves it as text under `target/faults/` and says where; for messages.
    pub fn saved_as(&self, test: &str) -> String {
        let path = folder().join(format!("{}.txt", test.replace("::", "-")));
        match self.save(&path) {
            Ok(()) => format!("the history is in {}", path.display()),
            Err(error) => format!("the history could not be saved to {}: {error}", path.display()),
        }
    }

    /// Saves it as text, one line per entry; makes the directory.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, self.to_string())
    }
}

/// `target/faults` beside the workspace's `Cargo.lock`, else below the current directory.
fn folder() -> PathBuf {
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        return Path::new(&target).join("faults");
    }
    let here = std::env::current_dir().unwrap_or_default();
    let root = here.ancestors().find(|folder| folder.join("Cargo.lock").exists()).unwrap_or(&here);
    root.join("target/faults")
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.entries() {
            writeln!(f, "{entry}")?;
        }
        match self.dropped() {
            0 => Ok(()),
            dropped => writeln!(f, "full: {dropped} observations were dropped"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} ", self.at.as_secs_f64())?;
        match self.count {
            1 => write!(f, "{:18}", "")?,
            count => write!(f, "..{:<9.3} {count:>5}x", self.until.as_secs_f64())?,
        }
        write!(f, " {}", self.what)
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(text) => write!(f, "--- {text}"),
            Self::Outage(text) => write!(f, "=== outage: {text}"),
            Self::Ending(text) => write!(f, "=== ending: {text}"),
            Self::Usable(text) => write!(f, "=== usable: {text}"),
            Self::Wanted { client, instance } => write!(f, "wanted by {client}: {instance:?}"),
            Self::Unwanted { client, key, confirmed } => {
                write!(f, "no longer wanted by {client}: {key}, confirmed: {confirmed}")
            }
            Self::Gone { key, why } => write!(f, "gone: {key}, {why}"),
            Self::Event { client, key, event: RegistrationEvent::Blocked { cause } } => {
                write!(f, "event of {client}: {key} blocked: {cause:#}")
            }
            Self::Event { client, key, event } => write!(f, "event of {client}: {key} {event:?}"),
            Self::Status { client, key, phase } => write!(f, "status by {client}: {key} {phase}"),
            Self::Truth(records) => write!(f, "truth: {}", names(records)),
            Self::View(view) => write!(
                f,
                "view of {}: version {} revision {:?} source {:?} {} held {} rejected {}: {}",
                view.reader,
                view.version,
                view.revision,
                view.source,
                view.state,
                view.held,
                view.rejected,
                names(&view.records)
            ),
            Self::Change { reader, diff, records } => write!(
                f,
                "change of {reader}: {} to {}, {} added, {} removed, {} changed: {}",
                diff.from,
                diff.to,
                diff.added.len(),
                diff.removed.len(),
                diff.changed.len(),
                names(records)
            ),
            Self::Pick { reader, ok, took } => {
                write!(f, "pick of {reader}: {}, at most {took:?}", if *ok { "ok" } else { "none" })
            }
            Self::Request { caller, instance, ok } => {
                write!(f, "request of {caller} to {instance}: {}", if *ok { "ok" } else { "failed" })
            }
            Self::Ejected { caller, instance } => write!(f, "{caller} ejects {instance}"),
            Self::Ejections { caller, ejected, serving } => {
                write!(f, "{caller} keeps requests from {ejected} of {serving}")
            }
            Self::Panic { caller, on } => {
                write!(f, "panic of {caller}: {}", if *on { "begins" } else { "ends" })
            }
            Self::Watched { watcher, session, revision, source, changes } => write!(
                f,
                "watch {session} of {watcher}: revision {revision:?} of {source:?}: {}",
                changes_of(changes)
            ),
            Self::Renewal { client, sent, ok } => {
                write!(f, "renewal by {client}, sent at {:.3}: ok {ok}", sent.as_secs_f64())
            }
            Self::Attempt { client } => write!(f, "attempt by {client}"),
            Self::Call { what, took, outcome: Ok(()) } => write!(f, "{what}: ok after {took:?}"),
            Self::Call { what, took, outcome: Err(error) } => {
                write!(f, "{what}: {:?} after {took:?}: {error:#}", error.kind())
            }
            Self::Resources(resources) => write!(f, "{resources:?}"),
        }
    }
}

fn names(records: &Records) -> String {
    let mut text = format!("{} instances", records.len());
    for (key, instance) in records.iter().take(NAMES) {
        let version = instance.record_version().map(|v| format!("@{}.{}", v.epoch, v.sequence));
        let _ = write!(text, " {key}{}", version.unwrap_or_default());
    }
    if records.len() > NAMES {
        text.push_str(" …");
    }
    text
}

fn changes_of(changes: &[Change]) -> String {
    let texts: Vec<String> = changes
        .iter()
        .take(NAMES)
        .map(|change| match change {
            Change::Reset(instances) => format!("reset to {}", instances.len()),
            Change::Upsert(instance) => format!("+{}", instance.key()),
            Change::Remove(key) => format!("-{key}"),
            other => format!("{other:?}"),
        })
        .collect();
    format!("{} changes: {}", changes.len(), texts.join(" "))
}
