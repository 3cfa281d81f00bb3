//! `cargo xtask matrix`: every fault on every registry, held against the list of what there has to be.

mod measured;
mod rows;
mod table;

use std::fs;
use std::path::Path;

pub(crate) use self::measured::{Backend, Measured};
use crate::cli::USAGE;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::process::{cargo, stream};
use crate::servers::{self, Apart, Missing, Server};
use crate::tally::Tally;

/// The document that holds the table.
const DOCUMENT: &str = "docs/faults.md";
/// Where tests leave what they measured, below the workspace: each run in a directory of its own, as two may run at a
/// time.
const FIGURES: &str = "target/faults/figures";

/// What to run, and whether to write it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    backends: Vec<Backend>,
    write: bool,
}

/// Reads the arguments after `matrix`.
///
/// # Errors
///
/// If they mean nothing, or part of the matrix is to be written.
pub(crate) fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options { backends: Backend::ALL.to_vec(), write: false };
    while let Some(argument) = arguments.next() {
        match argument.split_once('=').unwrap_or((&argument, "")) {
            ("--write", "") => options.write = true,
            ("--backend", "") => options.backends = backends(&arguments.next().unwrap_or_default())?,
            ("--backend", names) => options.backends = backends(names)?,
            _ => return Err(Failure::new(format!("`matrix` has no option `{argument}`\n\n{USAGE}"))),
        }
    }
    if options.write && options.backends.len() < Backend::ALL.len() {
        return Err(Failure::new("--write needs all backends: the table would lose the others"));
    }
    Ok(options)
}

fn backends(names: &str) -> Result<Vec<Backend>> {
    let find = |name: &str| {
        Backend::named(name.trim()).ok_or_else(|| {
            let known = Backend::ALL.map(Backend::name).join(", ");
            Failure::new(format!("--backend takes {known}; there is no `{name}`"))
        })
    };
    let mut named = names.split(',').map(find).collect::<Result<Vec<_>>>()?;
    named.sort_unstable();
    named.dedup();
    Ok(named)
}

/// Runs what was asked for, prints the table and writes it if that was asked for.
///
/// # Errors
///
/// If a row failed, has no test, or could not run.
pub(crate) fn perform(root: &Path, options: &Options) -> Result<()> {
    let mut measured = Measured::default();
    let mut findings = Vec::new();
    for &backend in &options.backends {
        let ground = Ground::prepare(root, backend)?;
        let run = run(root, &[backend], &ground, &mut Output::Shown)?;
        measured.add(run.measured);
        findings.extend(run.outcome.err().map(|failure| failure.to_string()));
    }
    println!("\n{}", table::print(&measured));
    if options.write {
        write(root, &measured)?;
    }
    Failure::list("the fault matrix", &findings).map_or(Ok(()), Err)
}

/// What the rows of a backend need: its server, and for some a network of its own.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    server: Option<Server>,
    apart: Option<Apart>,
}

impl Ground {
    /// With this server.
    pub(crate) fn with(server: &Server, apart: Option<&Apart>) -> Self {
        Self { server: Some(server.clone()), apart: apart.cloned() }
    }

    fn prepare(root: &Path, backend: Backend) -> Result<Self> {
        let recipe = match backend {
            Backend::Memory => return Ok(Self::default()),
            Backend::Etcd | Backend::Naive => {
                return Ok(Self { server: Some(servers::newest_or_distribution(root)?), apart: None });
            }
            Backend::Consul => &servers::CONSUL,
            Backend::Eureka => &servers::EUREKA,
            Backend::Nacos => &servers::NACOS_NEWEST,
            Backend::Nacos2 => &servers::NACOS_PREVIOUS,
        };
        let server = servers::ensure(root, recipe).map_err(Missing::into_failure)?;
        let apart =
            if matches!(backend, Backend::Nacos | Backend::Nacos2) { Some(Apart::find(root)?) } else { None };
        Ok(Self { server: Some(server), apart })
    }
}

/// How many rows run at a time, if not as many as there are cores: most of a row is waiting. On servers that are slow to
/// forget, those that need a server of their own take turns besides; on etcd each row has one, with leases of 3 s.
const fn at_a_time(backend: Backend) -> Option<u32> {
    match backend {
        Backend::Etcd => Some(4),
        Backend::Consul | Backend::Eureka | Backend::Nacos | Backend::Nacos2 => Some(8),
        Backend::Memory | Backend::Naive => None,
    }
}

/// What a run of the fault suite came to.
pub(crate) struct Run {
    /// The tests that ran.
    pub(crate) tally: Tally,
    /// What they showed.
    pub(crate) measured: Measured,
    /// Whether that is good.
    pub(crate) outcome: Result<()>,
}

/// Runs the fault suite on some backends.
///
/// # Errors
///
/// If cargo cannot be started, or the figures cannot be read.
pub(crate) fn run(root: &Path, backends: &[Backend], ground: &Ground, output: &mut Output) -> Result<Run> {
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    let figures = root.join(FIGURES).join(names.join("-"));
    if figures.exists() {
        fs::remove_dir_all(&figures).map_err(|error| Failure::file("empty", &figures, &error))?;
    }
    fs::create_dir_all(&figures).map_err(|error| Failure::file("create", &figures, &error))?;

    let mut tally = Tally::default();
    let mut succeeded = true;
    for backend in backends {
        let mut command = cargo(root);
        // As the other runs do, or cargo would compile the dependencies once more.
        command.args(["test", "--workspace", "--all-features"]);
        if let Some(apart) = &ground.apart {
            command.args(["--config", &apart.runner()]);
        }
        command.args(["--test", "faults", "--", "--include-ignored", &format!("{}::", backend.name())]);
        if let Some(threads) = at_a_time(*backend) {
            command.arg(format!("--test-threads={threads}"));
        }
        command.env("FIGURES", &figures);
        if let Some(server) = &ground.server {
            server.announce(&mut command);
        }
        succeeded &= stream(&mut command, output, |line| tally.read(line))?;
    }
    let mut measured = Measured::default();
    measured.add_tests(backends, &tally);
    measured.add_figures(&figures)?;
    let outcome = measured.judge(backends).and_then(|()| {
        // A crash, or a program that doesn't compile, has no failed test.
        if succeeded { Ok(()) } else { Err(Failure::new("cargo test failed outside of any test, see above")) }
    });
    Ok(Run { tally, measured, outcome })
}

/// The whole table of several runs.
pub(crate) fn print(measured: &Measured) {
    println!("\n{}", table::print(measured));
}

/// Puts the whole table into the documentation.
///
/// # Errors
///
/// If the page can't be read or written, or has no place for it.
pub(crate) fn write(root: &Path, measured: &Measured) -> Result<()> {
    table::write(&root.join(DOCUMENT), measured)?;
    println!("written to {DOCUMENT}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Backend, Options, options};

    fn read(line: &str) -> Option<Options> {
        options(line.split_whitespace().map(str::to_owned)).ok()
    }

    #[test]
    fn all_backends_run_unless_limited() {
        assert_eq!(read(""), Some(Options { backends: Backend::ALL.to_vec(), write: false }));
        assert_eq!(read("--write").map(|options| options.write), Some(true));
        assert_eq!(
            read("--backend naive,memory").map(|options| options.backends),
            Some(vec![Backend::Memory, Backend::Naive])
        );
    }

    #[test]
    fn a_part_of_the_matrix_is_never_written() {
        assert_eq!(read("--backend=etcd --write"), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["--backend", "--backend zookeeper", "--fast", "all"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
