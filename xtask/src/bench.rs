//! `cargo xtask bench`: every figure that is promised, measured and judged.
//!
//! Benchmarks and fault tests print one line per bound; this runs them all, collects the lines and says in one table
//! what holds. A promise that nothing measured is a failure too: a benchmark that was renamed or left out must not
//! make the rest look complete.

mod chart;
mod ledger;
mod line;
mod page;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::ledger::Ledger;
use self::line::Line;
use crate::cli::BenchOptions;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::process::{capture, cargo, find_program, run, stream};
use crate::servers::{self, Apart, CONSUL, ETCD_NEWEST, EUREKA, Missing, NACOS_PREVIOUS, Programs, Server};
use crate::tools;

pub(crate) use self::page::replace_section;

/// A file system in memory, so that the disk has no say in the figures.
const MEMORY: &str = "/dev/shm";

/// Runs everything; prints the table, and with `--write` puts it into the documentation.
///
/// # Errors
///
/// If a hard bound misses, a promise was not measured, or a step broke down.
pub(crate) fn perform(root: &Path, options: BenchOptions) -> Result<()> {
    tools::protoc()?;
    Programs::check(root, &[&ETCD_NEWEST, &CONSUL, &EUREKA, &NACOS_PREVIOUS])?;
    let server = etcd(root)?;
    let others = [&CONSUL, &EUREKA, &NACOS_PREVIOUS].map(|recipe| servers::ensure(root, recipe));
    let others: Vec<Server> =
        others.into_iter().collect::<std::result::Result<_, _>>().map_err(Missing::into_failure)?;
    let apart = Apart::find(root)?;
    let mut ledger = Ledger::new(options.peers);

    // Compiling is done before anything is measured.
    for benchmark in [IN_PROCESS, LISTS, ETCD, IDLE] {
        run(bench(root, benchmark).arg("--no-run"))?;
    }
    run(figures_of_faults(root).arg("--no-run"))?;
    let peers = options.peers.then(|| built_peers(root));
    measure(&mut ledger, "the benchmarks in this process", bench(root, IN_PROCESS).arg("--no-fail-fast"))?;
    measure(&mut ledger, "the benchmarks of lists", &mut bench(root, LISTS))?;
    let mut beside_etcd = bench(root, ETCD);
    measure(&mut ledger, "the benchmarks on etcd", with_server(&mut beside_etcd, &server))?;
    // In a network of its own, as Nacos listens on every address.
    let mut idle = bench(root, &["--config", &apart.runner()]);
    idle.args(IDLE);
    others.iter().for_each(|server| server.announce(&mut idle));
    measure(&mut ledger, "the idle watches", &mut idle)?;
    faults(root, &server, &mut ledger)?;
    match peers {
        None => {}
        Some(Ok(mut peers)) => measure(&mut ledger, "the comparison with peers", &mut peers)?,
        Some(Err(why)) => {
            println!("P9 not measured: {why}");
            ledger.take(Ok(Line::skipped("P9", "beside other libraries", &why.to_string())));
        }
    }

    println!("\n{}", ledger.table());
    if options.write {
        page::write(root, &ledger, &machine(root, &server)?)?;
    }
    match Failure::list("not every bound holds", &ledger.findings()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

const IN_PROCESS: &[&str] = &["--package", "service-registry", "--bench", "*"];
const LISTS: &[&str] = &["--package", "registry-http", "--all-features", "--bench", "lists"];
const IDLE: &[&str] = &["--package", "registry-http", "--all-features", "--bench", "idle"];
const ETCD: &[&str] = &["--package", "registry-etcd", "--bench", "etcd"];

fn bench(root: &Path, what: &[&str]) -> Command {
    let mut command = cargo(root);
    command.arg("bench").args(what);
    command
}

fn with_server<'a>(command: &'a mut Command, server: &Server) -> &'a mut Command {
    server.announce(command);
    if Path::new(MEMORY).is_dir() {
        command.env("TMPDIR", MEMORY);
    }
    command
}

/// Runs a command that prints bounds. Its exit code says no more than they do, unless it fails without a reason
/// among them.
fn measure(ledger: &mut Ledger, what: &str, command: &mut Command) -> Result<()> {
    let mut read = Vec::new();
    let succeeded = stream(command, &mut Output::Shown, |line| read.extend(Line::parse(line)))?;
    let explained = read.iter().any(|line| line.as_ref().is_ok_and(Line::fails));
    for line in read {
        ledger.take(line);
    }
    if !succeeded && !explained {
        ledger.broke(what);
    }
    Ok(())
}

/// The faults are tests, which leave their lines in a directory.
fn faults(root: &Path, server: &Server, ledger: &mut Ledger) -> Result<()> {
    let directory = env::temp_dir().join(format!("service-registry-figures-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(|error| Failure::file("create", &directory, &error))?;
    let mut command = figures_of_faults(root);
    // One at a time: a restart beside it would be measured too.
    command.args(["--", "--ignored", "--test-threads", "1"]).env("FIGURES", &directory);
    let succeeded = stream(with_server(&mut command, server), &mut Output::Shown, |_| {})?;
    let read = figures(&directory);
    // Best effort: it is a temporary directory.
    let _ = fs::remove_dir_all(&directory);
    let read = read?;
    let explained = read.iter().any(|line| line.as_ref().is_ok_and(Line::fails));
    for line in read {
        ledger.take(line);
    }
    if !succeeded && !explained {
        ledger.broke("the fault tests");
    }
    Ok(())
}

fn figures_of_faults(root: &Path) -> Command {
    let mut command = cargo(root);
    command.args(["test", "--package", "registry-etcd", "--test", "figures"]);
    command
}

fn figures(directory: &Path) -> Result<Vec<Result<Line>>> {
    let failed = |error| Failure::file("read", directory, &error);
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path: PathBuf = entry.map_err(failed)?.path();
        let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
        lines.extend(text.lines().filter_map(Line::parse));
    }
    Ok(lines)
}

/// The program that measures other libraries, from a workspace of its own. It only reports, so that what can't be built
/// is a line that says so and no failure.
fn built_peers(root: &Path) -> Result<Command> {
    let of = |verb: &str| {
        let manifest = root.join("benches").join("peers").join("Cargo.toml");
        let mut command = cargo(root);
        command.args([verb, "--release", "--locked", "--manifest-path"]).arg(manifest);
        command
    };
    if find_program("cmake").is_none() {
        return Err(Failure::new(
            "cmake is missing, which a dependency of pingora needs (Debian, Ubuntu, Fedora, Homebrew: cmake)",
        ));
    }
    run(&mut of("build"))
        .map_err(|failure| Failure::new(format!("the peers can't be built here: {failure}")))?;
    Ok(of("run"))
}

fn etcd(root: &Path) -> Result<Server> {
    match servers::ensure(root, &ETCD_NEWEST) {
        Ok(server) => Ok(server),
        Err(Missing::Builder(why)) => {
            println!("{why}: the distribution's etcd instead");
            servers::distribution()
        }
        Err(missing) => Err(missing.into_failure()),
    }
}

/// Where it was measured, in words.
fn machine(root: &Path, server: &Server) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unnamed processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = capture(Command::new("rustc").current_dir(root).arg("--version"))?;
    let data = if Path::new(MEMORY).is_dir() { "tmpfs" } else { "the temporary directory" };
    Ok(format!(
        "{cores} cores of {model}, {} {}, {}, etcd {} on loopback with its data on {data} and without fsync",
        env::consts::OS,
        kernel.trim(),
        rustc.trim(),
        server.version
    ))
}
