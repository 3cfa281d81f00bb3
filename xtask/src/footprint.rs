//! `cargo xtask footprint`: what a feature costs to compile.
//!
//! Cold: an empty target directory, the dev profile, the sources already downloaded. Once per feature, so the figures
//! are worth one digit; on a busy machine not even that.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bench::replace_section;
use crate::deps::tree_of;
use crate::failure::{Failure, Result};
use crate::metadata::FACADE;
use crate::process::{capture, cargo, run};
use crate::stopwatch::Stopwatch;
use crate::tools;

/// What is asked for, as a user would.
const FEATURES: [(&str, &[&str]); 3] = [
    ("default", &[]),
    ("memory", &["--no-default-features", "--features", "memory"]),
    ("etcd", &["--no-default-features", "--features", "etcd"]),
];

/// One line of the table.
#[derive(Debug)]
struct Row {
    name: &'static str,
    crates: usize,
    took: Duration,
}

/// Measures, prints the table, and puts it into the documentation if asked.
///
/// # Errors
///
/// If something can't be compiled or written.
pub(crate) fn perform(root: &Path, write: bool) -> Result<()> {
    tools::protoc()?;
    run(cargo(root).args(["fetch", "--locked"]))?;
    let mut rows = Vec::new();
    for (name, features) in FEATURES {
        let crates = tree_of(root, FACADE, features)?.len();
        rows.push(Row { name, crates, took: cold(root, features)? });
    }
    let text = table(&rows, &how(root)?);
    println!("\n{text}");
    if write { replace_section(root, "footprint", &text) } else { Ok(()) }
}

fn cold(root: &Path, features: &[&str]) -> Result<Duration> {
    let target = env::temp_dir().join(format!("service-registry-footprint-{}", std::process::id()));
    let mut build = cargo(root);
    build.args(["build", "--locked", "--offline", "--package", FACADE, "--lib"]).args(features);
    let watch = Stopwatch::start();
    let built = run(build.env("CARGO_TARGET_DIR", &target));
    let took = watch.elapsed();
    // Even after a failure: nobody would look for it there.
    let removed = fs::remove_dir_all(&target).map_err(|error| Failure::file("remove", &target, &error));
    built.and(removed).map(|()| took)
}

fn how(root: &Path) -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rustc = capture(Command::new("rustc").current_dir(root).arg("--version"))?;
    Ok(format!("{cores} cores, {}", rustc.trim()))
}

fn table(rows: &[Row], how: &str) -> String {
    let mut text =
        format!("\n{how}.\n\n| feature | crates | cold `cargo build`, dev profile |\n|---|---:|---:|\n");
    for Row { name, crates, took } in rows {
        text += &format!("| `{name}` | {crates} | {:.0} s |\n", took.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Row, table};

    #[test]
    fn the_table_has_a_row_per_feature() {
        let rows = [("default", 40, 11.4), ("etcd", 150, 81.6)].map(|(name, crates, took)| Row {
            name,
            crates,
            took: Duration::from_secs_f64(took),
        });
        let text = table(&rows, "2 cores");
        assert!(text.contains("| `default` | 40 | 11 s |\n| `etcd` | 150 | 82 s |\n"), "{text}");
    }
}
