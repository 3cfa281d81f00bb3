//! `cargo xtask test`: the steps, in order.
//!
//! No step is passed over silently: each leaves a row that says it passed, failed, or did not run and why.

mod lanes;
mod served;
mod stories;
mod supply;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::lanes::{Judged, Tests};
use self::supply::{Supplies, Supply};
use crate::apart;
use crate::chaos;
use crate::cli::{Registry, Selection};
use crate::deps;
use crate::failure::Result;
use crate::matrix::{self, Backend, Ground, Measured};
use crate::metadata::{FACADE, Metadata};
use crate::msrv;
use crate::output::Output;
use crate::package;
use crate::process::{capture, cargo, cargo_of, find_program, run};
use crate::report::{Outcome, Report, Row};
use crate::stopwatch::Stopwatch;
use crate::tally::Tally;
use crate::testing::{self, Scope};
use crate::tools;
use crate::version::Version;

/// What a step has to say when it passed.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Of the registry or tool that ran.
    pub(crate) version: Option<String>,
    /// The tests that ran.
    pub(crate) tally: Option<Tally>,
    /// What a reader of the table has to know besides.
    pub(crate) note: Option<String>,
}

impl From<()> for Done {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// Runs the selected checks and returns what came of them.
pub(crate) fn run_all(root: PathBuf, selection: Selection) -> Report {
    let watch = Stopwatch::start();
    let mut suite = Suite { root, selection, report: Report::default() };
    suite.everything();
    suite.report.ended(watch.elapsed());
    suite.report
}

struct Suite {
    root: PathBuf,
    selection: Selection,
    report: Report,
}

const QUICK: &str = "--quick";

impl Suite {
    fn everything(&mut self) {
        let root = self.root.clone();
        let cargo = |arguments: &[&str]| {
            let mut command = cargo(&root);
            command.args(arguments);
            command
        };

        self.step("protoc", None, || {
            Ok(Done { version: Some(tools::protoc()?.to_string()), ..Done::default() })
        });
        let supplies = self.supplies();

        self.step("formatting", None, || run(&mut cargo(&["fmt", "--all", "--check"])));
        self.step("lints", None, || {
            run(&mut cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
                // A compiler newer than this code may deprecate what the minimum version has no substitute for.
                "--force-warn",
                "deprecated",
            ]))
        });
        self.features_alone();
        let offline = self.tests_without_servers();
        self.thorough("documentation", || {
            let mut command =
                cargo(&["doc", "--workspace", "--no-deps", "--all-features", "--document-private-items"]);
            run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
            // What the README shows must compile for whoever has just added the crate, too.
            run(&mut cargo(&["test", "--doc", "--package", FACADE]))
        });
        self.tests_with_servers(&supplies, offline.as_ref());
        self.faults(&supplies);

        self.step("dependencies, licences, sources", None, || {
            Ok(Done { note: Some(deps::check(&root)?), ..Done::default() })
        });
        self.cargo_deny();
        self.step("minimum Rust version", None, || {
            Ok(Done { version: Some(msrv::check(&root)?.to_string()), ..Done::default() })
        });
        self.minimum_toolchain();
        self.thorough("examples compile", || run(&mut cargo(&["build", "--examples", "--all-features"])));
        self.thorough("example tonic_balanced", || {
            run(&mut cargo(&["run", "--features", "tonic-server", "--example", "tonic_balanced"]))
        });
        self.step("example own_backend", None, || run(&mut cargo(&["run", "--example", "own_backend"])));
        self.stories(&supplies);
        self.thorough("packages", || package::assemble(&root));
        self.crates_apart();
    }

    /// Those that are not in this workspace.
    fn crates_apart(&mut self) {
        const CHECK: &str = "crates with lock files of their own";
        let root = self.root.clone();
        if self.selection.quick {
            return self.not_run(CHECK, None, QUICK);
        }
        self.step_with_tests(CHECK, None, None, |_| {
            apart::prepare()?;
            apart::check(&root)
        });
    }

    /// The facade's library with each feature alone: what a user compiles who asks for only that.
    fn features_alone(&mut self) {
        let root = self.root.clone();
        self.thorough("lints, each feature alone", || {
            let metadata = Metadata::load(&root)?;
            let features = metadata.member(FACADE)?.features.clone();
            for feature in std::iter::once("").chain(features.iter().map(String::as_str)) {
                let mut command = cargo(&root);
                command.args(["clippy", "--package", FACADE, "--no-default-features", "--features", feature]);
                run(command.args(["--", "-D", "warnings", "--force-warn", "deprecated"]))?;
            }
            Ok(Done { note: Some(format!("none, {}", features.join(", "))), ..Done::default() })
        });
    }

    fn tests_without_servers(&mut self) -> Option<Tally> {
        const CHECK: &str = "tests without servers";
        if !self.selection.includes(Registry::Memory) {
            self.not_run(CHECK, Some(Registry::Memory), self.selection.reason_against());
            return None;
        }
        let root = self.root.clone();
        let mut ran = None;
        self.step_with_tests(CHECK, Some(Registry::Memory), Some("in process".to_owned()), |output| {
            let (tally, outcome) = testing::run(&root, Scope::WithoutServers, output)?;
            ran = Some(tally.clone());
            Ok((tally, outcome))
        });
        ran
    }

    /// Every fault in process and, where it can be made, with a real server; then random ones.
    fn faults(&mut self, supplies: &Supplies) {
        const MATRIX: &str = "fault matrix";
        const CHAOS: &str = "random faults";
        const TABLE: &str = "the table of faults";
        let root = self.root.clone();
        let mut in_process = Measured::default();
        if self.selection.includes(Registry::Memory) {
            let (root, shown) = (&root, &mut in_process);
            self.step_with_tests(MATRIX, Some(Registry::Memory), Some("in process".to_owned()), |output| {
                column(root, &[Backend::Memory], &Ground::default(), output, shown)
            });
        } else {
            self.not_run(MATRIX, Some(Registry::Memory), self.selection.reason_against());
        }
        let Supplies { etcd, consul, eureka, nacos, nacos_previous, apart, .. } = supplies;
        let mut left_out = None;
        let columns = [
            (Registry::Etcd, &[Backend::Etcd, Backend::Naive][..], etcd),
            (Registry::Consul, &[Backend::Consul], consul),
            (Registry::Eureka, &[Backend::Eureka], eureka),
            (Registry::Nacos, &[Backend::Nacos], nacos),
            (Registry::Nacos, &[Backend::Nacos2], nacos_previous),
        ];
        let mut shown: [Measured; 5] = Default::default();
        let mut steps = columns.into_iter().zip(&mut shown).map(|((registry, backends, supply), shown)| {
            let server = match supply {
                Supply::There(server) if !self.selection.quick => server,
                without => {
                    self.not_run(MATRIX, Some(registry), without.reason());
                    left_out.get_or_insert(registry);
                    return Vec::new();
                }
            };
            let ground = Ground::with(server, apart.as_ref().filter(|_| registry == Registry::Nacos));
            let version = Some(server.version.to_string());
            let root = &root;
            let work = Box::new(move |output: &mut Output| column(root, backends, &ground, output, shown));
            vec![Tests { check: MATRIX, registry: Some(registry), version, work }]
        });
        let [etcds, consuls, eurekas, newest, previous] =
            std::array::from_fn(|_| steps.next().unwrap_or_default());
        drop(steps);
        // These two leave more than half of two cores idle; servers in Java leave next to nothing.
        self.run_lanes(vec![etcds, consuls]);
        for alone in [eurekas, newest, previous] {
            self.run_lanes(vec![alone]);
        }
        let mut measured = in_process;
        shown.into_iter().for_each(|shown| measured.add(shown));
        matrix::print(&measured);
        match left_out {
            _ if !self.selection.write => {}
            None => self.step(TABLE, None, || matrix::write(&root, &measured)),
            Some(registry) => {
                self.not_run(TABLE, None, &format!("it would lose what it has of {}", registry.name()));
            }
        }
        let server = match etcd {
            Supply::There(server) if !self.selection.quick => server,
            without => return self.not_run(CHAOS, Some(Registry::Etcd), without.reason()),
        };
        let version = server.version.to_string();
        self.step(CHAOS, Some(Registry::Etcd), || {
            let note = chaos::run(&root, &chaos::Options::USUAL, Some(server))?;
            Ok(Done { version: Some(version), note: Some(note), ..Done::default() })
        });
    }

    fn cargo_deny(&mut self) {
        const CHECK: &str = "cargo deny";
        if find_program("cargo-deny").is_none() {
            self.not_run(CHECK, None, "cargo-deny is not installed (cargo install cargo-deny)");
            return;
        }
        let root = self.root.clone();
        self.step(CHECK, None, || {
            let version = capture(Command::new("cargo-deny").arg("--version"))?;
            run(cargo(&root).args(["deny", "check", "bans", "licenses", "sources"]))?;
            Ok(Done { version: Version::find(&version).map(|found| found.to_string()), ..Done::default() })
        });
    }

    /// Compiles with the promised toolchain: what crates declare is only their word.
    fn minimum_toolchain(&mut self) {
        const CHECK: &str = "compiles with the minimum Rust";
        let root = self.root.clone();
        let toolchain = match Metadata::load(&root)
            .and_then(|metadata| Ok(metadata.member(FACADE)?.rust_version.clone()))
        {
            Ok(declared) => declared.unwrap_or_default(),
            Err(failure) => return self.step(CHECK, None, || Err::<(), _>(failure)),
        };
        let version = || capture(cargo_of(&toolchain, &root).arg("--version"));
        let installed = version().or_else(|_| {
            let install = ["toolchain", "install", &toolchain, "--profile", "minimal", "--no-self-update"];
            run(Command::new("rustup").args(install))?;
            version()
        });
        match installed {
            Err(_) => self.not_run(CHECK, None, &format!("it needs rustup and Rust {toolchain}")),
            Ok(version) => self.thorough(CHECK, || {
                run(cargo_of(&toolchain, &root).args(["check", "--workspace", "--all-features"]))?;
                Ok(Done {
                    version: Version::find(&version).map(|found| found.to_string()),
                    ..Done::default()
                })
            }),
        }
    }

    fn thorough<D: Into<Done>>(&mut self, check: &str, work: impl FnOnce() -> Result<D>) {
        if self.selection.quick {
            self.not_run(check, None, QUICK);
        } else {
            self.step(check, None, work);
        }
    }

    fn not_run(&mut self, check: &str, registry: Option<Registry>, reason: &str) {
        self.report.push(Row::new(check, registry.map(Registry::name), Outcome::NotRun(reason.to_owned())));
    }

    fn step<D: Into<Done>>(
        &mut self,
        check: &str,
        registry: Option<Registry>,
        work: impl FnOnce() -> Result<D>,
    ) {
        let of = registry.map_or(String::new(), |registry| format!(", {}", registry.name()));
        println!("\n=== {check}{of}");
        let watch = Stopwatch::start();
        let done = work().map(Into::into);
        self.push(check, registry, done, watch.elapsed());
    }

    /// What came of a step.
    fn push(&mut self, check: &str, registry: Option<Registry>, done: Result<Done>, elapsed: Duration) {
        let (done, outcome) = match done {
            Ok(done) => (done, Outcome::Passed),
            Err(failure) => {
                let of = registry.map_or(String::new(), |registry| format!(", {}", registry.name()));
                println!("FAIL {check}{of}: {failure}");
                (Done::default(), Outcome::Failed(failure))
            }
        };
        let row = Row::new(check, registry.map(Registry::name), outcome);
        let Done { version, tally, note } = done;
        self.report.push(Row { version, tally, note, elapsed, ..row });
    }

    /// A step that runs tests.
    fn step_with_tests(
        &mut self,
        check: &'static str,
        registry: Option<Registry>,
        version: Option<String>,
        work: impl FnOnce(&mut Output) -> Judged + Send,
    ) {
        self.run_lanes(vec![vec![Tests { check, registry, version, work: Box::new(work) }]]);
    }
}

/// The rows of a fault matrix that one step runs.
fn column(
    root: &Path,
    backends: &[Backend],
    ground: &Ground,
    output: &mut Output,
    shown: &mut Measured,
) -> Judged {
    let run = matrix::run(root, backends, ground, output)?;
    *shown = run.measured;
    Ok((run.tally, run.outcome))
}
