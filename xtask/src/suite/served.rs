//! The tests that need a server, per registry.

use super::Suite;
use super::supply::{Supplies, Supply};
use crate::cli::Registry;
use crate::failure::Failure;
use crate::servers::{Apart, Server};
use crate::tally::Tally;
use crate::testing::{self, Needs, Scope, Served};

const ALL: &str = "all tests with a server";
const PREVIOUS: &str = "conformance with the previous line";
const COMPLETE: &str = "every ignored test ran";

/// Starts in Java take turns, and what has started takes memory: two tests at a time.
const JAVA_THREADS: Option<u32> = Some(2);

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

        let mut ran = Tally::default();
        let Supplies { etcd, etcd_previous, consul, eureka, nacos, nacos_previous, apart } = supplies;
        let mut run = |suite: &mut Self, check, registry, supplies: &[&Supply], apart, threads| {
            let tests = needs.of(registry);
            if let Some(tally) = suite.tests_with(check, registry, supplies, &tests, apart, threads) {
                ran.ran.extend(tally.ran);
            }
        };
        run(self, ALL, Registry::Etcd, &[etcd], None, None);
        run(self, PREVIOUS, Registry::Etcd, &[etcd_previous], None, None);
        run(self, ALL, Registry::Consul, &[consul], None, None);
        run(self, ALL, Registry::Eureka, &[eureka], None, JAVA_THREADS);
        run(self, ALL, Registry::Nacos, &[nacos, nacos_previous], apart.as_ref(), JAVA_THREADS);

        let all = Registry::SERVED.iter().all(|registry| self.selection.includes(*registry));
        match offline {
            Some(offline) if all => {
                self.step(COMPLETE, None, || testing::every_ignored_test_ran(offline, &ran));
            }
            _ => self.not_run(COMPLETE, None, self.selection.reason_against()),
        }
    }

    /// Runs `tests` with all of `supplies`; nothing if one is missing.
    fn tests_with(
        &mut self,
        check: &str,
        registry: Registry,
        supplies: &[&Supply],
        tests: &[String],
        apart: Option<&Apart>,
        threads: Option<u32>,
    ) -> Option<Tally> {
        for supply in supplies {
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
        let servers: Vec<&Server> = supplies.iter().filter_map(|supply| supply.server().ok()).collect();
        let versions: Vec<_> = servers.iter().map(|server| server.version.to_string()).collect();
        let root = self.root.clone();
        let mut ran = None;
        self.step_with_tests(check, Some(registry), Some(versions.join(", ")), || {
            if tests.is_empty() {
                return Err(Failure::new("no test says that it needs this server"));
            }
            let served = Served { tests, servers: &servers, apart, threads };
            let scope = if check == PREVIOUS { Scope::Conformance(&served) } else { Scope::With(&served) };
            let (tally, outcome) = testing::run(&root, scope)?;
            ran = Some(tally.clone());
            Ok((tally, outcome))
        });
        ran
    }
}
