//! `cargo xtask chaos`: random faults on a cluster of three, reproducible by a seed.

use std::path::Path;

use crate::cli::USAGE;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::process::{cargo, stream};
use crate::servers::{self, Server};
use crate::tally::Tally;

/// Enough for a dozen faults.
const MINUTES: u32 = 2;

/// How long, and with which random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    minutes: u32,
    /// None: another one each time, which the run prints.
    seed: Option<u64>,
    /// Print what would happen and end.
    plan: bool,
}

impl Options {
    /// What belongs to every run of all checks: short, and the same each time, so that a failure is news.
    pub(crate) const USUAL: Self = Self { minutes: MINUTES, seed: Some(1), plan: false };
}

/// Reads the arguments after `chaos`.
///
/// # Errors
///
/// If they mean nothing.
pub(crate) fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options { minutes: MINUTES, seed: None, plan: false };
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None if argument == "--plan" => ("--plan", String::new()),
            None => (argument.as_str(), arguments.next().unwrap_or_default()),
        };
        let refused = || Failure::new(format!("`chaos` does not take {name} `{value}`\n\n{USAGE}"));
        match name {
            "--plan" if value.is_empty() => options.plan = true,
            "--minutes" => {
                options.minutes = value.parse().ok().filter(|minutes| *minutes > 0).ok_or_else(refused)?;
            }
            "--seed" => options.seed = Some(value.parse().map_err(|_| refused())?),
            "--backend" if value == "etcd" => {}
            _ => return Err(refused()),
        }
    }
    Ok(options)
}

/// Runs it on the newest server there is.
///
/// # Errors
///
/// If there is no server or something does not hold.
pub(crate) fn perform(root: &Path, options: &Options) -> Result<()> {
    let server = if options.plan { None } else { Some(servers::newest_or_distribution(root)?) };
    run(root, options, server.as_ref()).map(drop)
}

/// Runs it; returns the line that sums it up.
///
/// # Errors
///
/// If something does not hold.
pub(crate) fn run(root: &Path, options: &Options, server: Option<&Server>) -> Result<String> {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--all-features", "--test", "chaos", "--"]);
    command.args(["--ignored", "--exact", "--nocapture", "random_faults_are_survived"]);
    command.env("CHAOS_MINUTES", options.minutes.to_string());
    match options.seed {
        Some(seed) => command.env("CHAOS_SEED", seed.to_string()),
        None => command.env_remove("CHAOS_SEED"),
    };
    if options.plan {
        command.env("CHAOS_PLAN", "1");
    }
    if let Some(server) = server {
        server.announce(&mut command);
    }
    let mut tally = Tally::default();
    let mut summary = None;
    let succeeded = stream(&mut command, &mut Output::Shown, |line| {
        tally.read(line);
        if let Some(text) = line.strip_prefix("CHAOS ") {
            summary = Some(text.to_owned());
        }
    })?;
    if !succeeded {
        return Err(Failure::new(summary.unwrap_or("the chaos run failed, see above".to_owned())));
    }
    if tally.passed == 0 {
        return Err(Failure::new("no chaos test ran"));
    }
    Ok(summary.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{MINUTES, Options, options};

    fn read(line: &str) -> Option<Options> {
        options(line.split_whitespace().map(str::to_owned)).ok()
    }

    #[test]
    fn length_and_seed_can_be_said() {
        assert_eq!(read(""), Some(Options { minutes: MINUTES, seed: None, plan: false }));
        let long = Some(Options { minutes: 30, seed: Some(7), plan: false });
        assert_eq!(read("--backend etcd --minutes 30 --seed 7"), long);
        assert_eq!(read("--minutes=30 --seed=7"), long);
        assert_eq!(read("--plan").map(|options| options.plan), Some(true));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in
            ["--minutes", "--minutes 0", "--minutes long", "--seed -1", "--backend memory", "--plan=no", "30"]
        {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
