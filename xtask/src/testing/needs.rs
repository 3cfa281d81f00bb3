//! Which test needs which server: it says so in the reason for which it is ignored.

use std::collections::BTreeMap;
use std::path::Path;

use super::{STEPS_OF_THEIR_OWN, all};
use crate::cli::Registry;
use crate::failure::{Failure, Result};
use crate::process::{capture, run};
use crate::tally::Tally;

/// The names of ignored tests by the registry that their reason names: `needs etcd: …`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    tests: Vec<(&'static str, String)>,
}

impl Needs {
    /// Asks the test programs.
    ///
    /// # Errors
    ///
    /// If they do not compile, or a reason names no registry.
    pub(crate) fn ask(root: &Path) -> Result<Self> {
        // First, so that one sees it compile.
        run(all(root).args(["--tests", "--no-run"]))?;
        let listed = capture(all(root).args(["--tests", "--quiet", "--", "--list", "--ignored"]))?;
        let names: Vec<_> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        // The list has no reasons. They are printed by a run that passes the tests over.
        let passed_over = capture(all(root).args(["--tests", "--", "--exact"]).args(&names))?;
        let mut tally = Tally::default();
        passed_over.lines().for_each(|line| tally.read(line));
        let reasons = tally.reasons.iter().map(|(test, reason)| (test.name(), reason.as_str()));
        Self::read(reasons)
    }

    /// The tests that need a server of `registry`.
    pub(crate) fn of(&self, registry: Registry) -> Vec<String> {
        let of = |(name, test): &(&str, String)| (*name == registry.name()).then(|| test.clone());
        self.tests.iter().filter_map(of).collect()
    }

    fn read<'a>(reasons: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut needed: BTreeMap<&str, &'static str> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (test, reason) in reasons {
            if STEPS_OF_THEIR_OWN.iter().any(|part| test.contains(part)) {
                continue;
            }
            match named(reason) {
                None => wrong.push(format!("{test}: `{reason}` names no registry (`needs etcd: …`)")),
                Some(registry) => {
                    // Tests are run by their names alone.
                    let before = needed.insert(test, registry.name());
                    if before.is_some_and(|before| before != registry.name()) {
                        wrong.push(format!("{test}: two tests have this name and need different servers"));
                    }
                }
            }
        }
        let tests = needed.into_iter().map(|(test, registry)| (registry, test.to_owned())).collect();
        Failure::list("ignored tests", &wrong).map_or(Ok(Self { tests }), Err)
    }
}

fn named(reason: &str) -> Option<Registry> {
    let name = reason.strip_prefix("needs ")?.split(':').next()?.trim();
    Registry::SERVED.into_iter().find(|registry| registry.name() == name)
}

#[cfg(test)]
mod tests {
    use super::Needs;
    use crate::cli::Registry;

    #[test]
    fn a_test_is_run_with_the_server_its_reason_names() {
        let needs = Needs::read([
            ("a::one", "needs etcd: cargo xtask servers"),
            ("b::two", "needs consul: cargo xtask servers"),
            ("consul::row_3", "needs whatever the matrix says"),
        ]);
        let needs = needs.expect("both are known");
        assert_eq!(needs.of(Registry::Etcd), ["a::one"]);
        assert_eq!(needs.of(Registry::Consul), ["b::two"]);
        assert!(needs.of(Registry::Nacos).is_empty());
    }

    #[test]
    fn a_reason_without_a_registry_is_refused_and_so_are_twins() {
        assert!(Needs::read([("a", "too slow")]).is_err());
        assert!(Needs::read([("a", "needs zookeeper: …")]).is_err());
        assert!(Needs::read([("a", "needs etcd: x"), ("a", "needs etcd: y")]).is_ok());
        assert!(Needs::read([("a", "needs etcd: x"), ("a", "needs consul: x")]).is_err());
    }
}
