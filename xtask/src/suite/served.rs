//! The tests that need a server, per registry.

use super::Suite;
use super::lanes::Tests;
use super::supply::{Supplies, Supply};
use crate::cli::Registry;
use crate::failure::Failure;
use crate::output::Output;
use crate::servers::{Apart, Server};
use crate::tally::Tally;
use crate::testing::{self, Needs, Scope, Served};

const ALL: &str = "all tests with a server";
const PREVIOUS: &str = "conformance with the previous line";
const COMPLETE: &str = "every ignored test ran";

/// Starts in Java take turns, and what has started takes memory: two tests at a time.
const JAVA_THREADS: Option<u32> = Some(2);
/// Most tests on Nacos share a server of each line and wait until it gives somebody up, which takes up to ten seconds.
/// Those with a server of their own are few, and live about as long as the next start takes: seldom do more than three
/// of these run besides.
const NACOS_THREADS: Option<u32> = Some(6);

impl Suite {
    /// Each registry runs the tests that name it; etcd's line before runs the conformance suite.
    pub(super) fn tests_with_servers(&mut self, supplies: &Supplies, offline: Option<&Tally>) {
        let mut needs = Needs::default();
        if Registry::SERVED.iter().any(|registry| self.selection.includes(*registry)) {
            let root = self.root.clone();
            self.step("servers that tests need", None, || {
                needs = Needs::ask(&root)?;
                Ok(())
            });
        }

        let Supplies { etcd, etcd_previous, consul, eureka, nacos, nacos_previous, spring, apart } = supplies;
        let steps = [
            Step { servers: &[etcd], ..Step::PLAIN },
            Step { check: PREVIOUS, servers: &[etcd_previous], ..Step::PLAIN },
            Step { registry: Registry::Consul, servers: &[consul], peers: &[spring], ..Step::PLAIN },
            Step { registry: Registry::Eureka, servers: &[eureka], peers: &[spring], ..Step::JAVA },
            Step {
                registry: Registry::Nacos,
                servers: &[nacos, nacos_previous],
                peers: &[spring],
                apart: apart.as_ref(),
                threads: NACOS_THREADS,
                ..Step::PLAIN
            },
        ];
        let mut ran: [Tally; 5] = Default::default();
        let mut steps = steps.iter().zip(&mut ran).map(|(step, ran)| {
            self.tests_with(step, needs.of(step.registry), ran).into_iter().collect::<Vec<_>>()
        });
        let [newest, previous, consul, eureka, nacos] =
            std::array::from_fn(|_| steps.next().unwrap_or_default());
        drop(steps);
        for alone in [newest, previous, eureka] {
            self.run_lanes(vec![alone]);
        }
        // Those on Nacos take long because they wait, and Consul takes next to nothing of the machine. Eureka's don't fit in:
        // they count seconds, and two servers in Java that start at the same time take these from them.
        self.run_lanes(vec![consul, nacos]);
        let mut all_ran = Tally::default();
        ran.into_iter().for_each(|tally| all_ran.ran.extend(tally.ran));

        let all = Registry::SERVED.iter().all(|registry| self.selection.includes(*registry));
        match offline {
            Some(offline) if all => {
                self.step(COMPLETE, None, || testing::every_ignored_test_ran(offline, &all_ran));
            }
            _ => self.not_run(COMPLETE, None, self.selection.reason_against()),
        }
    }

    /// `tests` with what the step needs, which say what ran; nothing if some of it is missing.
    fn tests_with<'a>(
        &mut self,
        step: &Step<'a>,
        tests: Vec<String>,
        ran: &'a mut Tally,
    ) -> Option<Tests<'a>> {
        let Step { check, registry, servers, peers, apart, threads } = *step;
        for supply in servers.iter().chain(peers) {
            match supply {
                Supply::There(_) => {}
                Supply::LeftOut(reason) => {
                    self.not_run(check, Some(registry), reason);
                    return None;
                }
                Supply::Absent => {
                    self.step(check, Some(registry), || supply.server().map(drop));
                    return None;
                }
            }
        }
        let there = |supplies: &[&'_ Supply]| -> Vec<Server> {
            supplies.iter().filter_map(|supply| supply.server().ok().cloned()).collect()
        };
        let (servers, peers) = (there(servers), there(peers));
        let versions: Vec<_> = servers.iter().map(|server| server.version.to_string()).collect();
        let root = self.root.clone();
        let work = move |output: &mut Output| {
            if tests.is_empty() {
                return Err(Failure::new("no test says that it needs this server"));
            }
            let announced: Vec<&Server> = servers.iter().chain(&peers).collect();
            let served = Served { tests: &tests, servers: &announced, apart, threads };
            let scope = if check == PREVIOUS { Scope::Conformance(&served) } else { Scope::With(&served) };
            let (tally, outcome) = testing::run(&root, scope, output)?;
            *ran = tally.clone();
            Ok((tally, outcome))
        };
        let version = Some(versions.join(", "));
        Some(Tests { check, registry: Some(registry), version, work: Box::new(work) })
    }
}

/// The tests of one registry.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    check: &'static str,
    registry: Registry,
    servers: &'a [&'a Supply],
    peers: &'a [&'a Supply],
    /// Where they run, if not where we do.
    apart: Option<&'a Apart>,
    threads: Option<u32>,
}

impl Step<'_> {
    const PLAIN: Self =
        Self { check: ALL, registry: Registry::Etcd, servers: &[], peers: &[], apart: None, threads: None };
    const JAVA: Self = Self { threads: JAVA_THREADS, ..Self::PLAIN };
}
