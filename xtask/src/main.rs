//! Project tasks: `cargo xtask test` and its parts.
//!
//! Everything the project promises is checked by a command of this program, so that a contributor and a build server
//! run the same thing. It depends on none of our crates and compiles in seconds.

mod apart;
mod bench;
mod chaos;
mod cli;
mod deps;
mod failure;
mod footprint;
mod licence;
mod matrix;
mod metadata;
mod msrv;
mod output;
mod package;
mod policy;
mod process;
mod report;
mod servers;
mod stopwatch;
mod suite;
mod tally;
mod testing;
mod tools;
mod version;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{Request, USAGE};
use crate::failure::{Failure, Result};

fn main() -> ExitCode {
    match perform() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform() -> Result<()> {
    let request = cli::parse(env::args().skip(1))?;
    if request == Request::Help {
        println!("{USAGE}");
        return Ok(());
    }
    let root = metadata::workspace_root()?;
    match request {
        Request::Test(selection) => {
            let report = suite::run_all(root, selection);
            println!("\n{report}");
            if report.succeeded() { Ok(()) } else { Err(Failure::new("not everything holds, see the table")) }
        }
        Request::Matrix(options) => matrix::perform(&root, &options),
        Request::Chaos(options) => chaos::perform(&root, &options),
        Request::Servers(names) => print_servers(&root, &names),
        Request::Deps => deps::check(&root).map(|checked| println!("ok: {checked}")),
        Request::Msrv => msrv::check(&root).map(|floor| println!("ok: Rust {floor}")),
        Request::Bench(options) => bench::perform(&root, options),
        Request::Footprint { write } => footprint::perform(&root, write),
        Request::Package => package::verify(&root),
        Request::Help => Ok(()),
    }
}

/// The servers as assignments, ready for the shell one runs single tests from.
fn print_servers(root: &Path, names: &[String]) -> Result<()> {
    let wanted = servers::named(names)?;
    servers::Programs::check(root, &wanted)?;
    for recipe in wanted {
        let server = match servers::ensure(root, recipe) {
            Ok(server) => server,
            Err(servers::Missing::Builder(why)) if recipe.registry == Some(cli::Registry::Etcd) => {
                println!("# etcd {}: {why}; the distribution's instead", recipe.line);
                servers::distribution()?
            }
            Err(missing) => return Err(missing.into_failure()),
        };
        println!("# {} {}", recipe.title(), server.version);
        for (variable, path) in &server.programs {
            println!("{variable}={}", path.display());
        }
    }
    Ok(())
}
