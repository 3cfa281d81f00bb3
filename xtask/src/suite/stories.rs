//! The examples that tell a story and judge it themselves: in one process, and as processes on each registry.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::supply::{Supplies, Supply};
use super::{Done, QUICK, Suite};
use crate::cli::Registry;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::process::{cargo, run_within, stream};
use crate::servers::{Apart, Server};
use crate::stopwatch::Stopwatch;

/// A fleet through everything that happens to fleets.
const QUICKSTART: &str = "example quickstart";
/// All instances replaced under load.
const RESTART: &str = "example rolling_restart";

const ALL_FEATURES: &[&str] = &["--all-features"];
/// What each is given on each registry, from the start of its server to its last word.
const LIMIT: Duration = Duration::from_secs(90);

impl Suite {
    /// Tells them; a call that failed fails the step, and so does a story that has no end.
    pub(super) fn stories(&mut self, supplies: &Supplies) {
        let root = self.root.clone();
        // With the default features, as somebody would who has just found the crate.
        self.step(QUICKSTART, None, || in_process(&root, QUICKSTART, &[]));
        if self.selection.quick {
            self.not_run(RESTART, Some(Registry::Memory), QUICK);
        } else {
            // The features of the step that has compiled the examples.
            self.step(RESTART, Some(Registry::Memory), || in_process(&root, RESTART, ALL_FEATURES));
        }
        let Supplies { etcd, consul, eureka, nacos, apart, .. } = supplies;
        let places = [
            (Registry::Etcd, etcd, None),
            (Registry::Consul, consul, None),
            (Registry::Eureka, eureka, None),
            (Registry::Nacos, nacos, apart.as_ref()),
        ];
        // This one mostly waits, for leases and for servers to start; the other one needs the machine for its load.
        let beside: Vec<Story<'_>> = places
            .iter()
            .filter_map(|(registry, supply, apart)| self.story(QUICKSTART, *registry, supply, *apart))
            .collect();
        let told: Vec<_> = thread::scope(|scope| {
            let stories: Vec<_> = beside
                .iter()
                .map(|story| {
                    scope.spawn(|| {
                        let mut output = Output::held();
                        (story.tell(&root, &mut output), output)
                    })
                })
                .collect();
            stories
                .into_iter()
                .map(|story| story.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        for (story, ((done, elapsed), output)) in beside.iter().zip(told) {
            println!("\n=== {}", story.name());
            output.show();
            self.push(QUICKSTART, Some(story.registry), done, elapsed);
        }
        for (registry, supply, apart) in places {
            if let Some(story) = self.story(RESTART, registry, supply, apart) {
                self.step(RESTART, Some(registry), || story.tell(&root, &mut Output::Shown).0);
            }
        }
    }

    /// One that can be told; else the row says why not.
    fn story<'a>(
        &mut self,
        check: &'static str,
        registry: Registry,
        supply: &'a Supply,
        apart: Option<&'a Apart>,
    ) -> Option<Story<'a>> {
        let reason = match supply {
            Supply::There(_) if self.selection.quick => QUICK,
            Supply::There(server) => return Some(Story { check, registry, server, apart }),
            Supply::LeftOut(reason) => reason,
            Supply::Absent => "there is no server for it",
        };
        self.not_run(check, Some(registry), reason);
        None
    }
}

/// An example on a registry.
struct Story<'a> {
    check: &'static str,
    registry: Registry,
    server: &'a Server,
    apart: Option<&'a Apart>,
}

impl Story<'_> {
    fn name(&self) -> String {
        format!("{}, {}", self.check, self.registry.name())
    }

    /// Tells it, and how long that took.
    fn tell(&self, root: &Path, output: &mut Output) -> (Result<Done>, Duration) {
        let watch = Stopwatch::start();
        let mut command = cargo(root);
        command.arg("run");
        if let Some(apart) = self.apart {
            command.args(["--config", &apart.runner()]);
        }
        command.args(["--all-features", "--example", example(self.check), "--", "--registry"]);
        // No host: it starts a server of its own, as it is going to kill it.
        command.arg(format!("{}://", self.registry.name()));
        self.server.announce(&mut command);
        let version = Some(self.server.version.to_string());
        let told = compile(root, self.check, ALL_FEATURES, output)
            .and_then(|()| run_within(&mut command, &self.name(), LIMIT, output));
        (told.map(|()| Done { version, ..Done::default() }), watch.elapsed())
    }
}

/// A story that needs no server.
fn in_process(root: &Path, check: &str, features: &[&str]) -> Result<()> {
    compile(root, check, features, &mut Output::Shown)?;
    let mut command = cargo(root);
    command.arg("run").args(features).args(["--example", example(check)]);
    run_within(&mut command, &format!("{check}, in process"), LIMIT, &mut Output::Shown)
}

/// What is limited is the story, not the compiler.
fn compile(root: &Path, check: &str, features: &[&str], output: &mut Output) -> Result<()> {
    let mut command = cargo(root);
    command.arg("build").args(features).args(["--example", example(check)]);
    match stream(&mut command, output, |_| {})? {
        true => Ok(()),
        false => Err(Failure::new(format!("{check} does not compile"))),
    }
}

fn example(check: &str) -> &str {
    check.trim_start_matches("example ")
}
