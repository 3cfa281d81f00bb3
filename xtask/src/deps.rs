//! What a user compiles is what a user asked for: dependency trees per feature.

use std::collections::BTreeSet;
use std::path::Path;

use crate::failure::{Failure, Result};
use crate::metadata::{FACADE, Metadata};
use crate::policy::Policy;
use crate::process::{capture, cargo};

/// Crates (and the families `NAME-*` and `NAME_*`) that bring HTTP, gRPC or TLS.
const NETWORK: [&str; 22] = [
    "actix",
    "aws-lc",
    "axum",
    "boring",
    "curl",
    "h2",
    "h3",
    "http",
    "hyper",
    "native-tls",
    "openssl",
    "prost",
    "quinn",
    "reqwest",
    "ring",
    "rustls",
    "schannel",
    "security-framework",
    "tonic",
    "tower",
    "ureq",
    "webpki",
];

/// Crates that stand for a protocol, and the features that bring them: each of these does, and no other.
const PROTOCOLS: [(&str, &[&str]); 5] = [
    ("etcd-client", &["etcd"]),
    ("tonic", &["etcd", "tonic", "tonic-server", "tonic-tls"]),
    ("tonic-health", &["tonic", "tonic-server", "tonic-tls"]),
    // Of the last by tonic's router; etcd-client brings it by way of tonic's defaults.
    ("axum", &["axum", "etcd", "tonic-server"]),
    ("reqwest", &["consul", "eureka", "nacos", "reqwest"]),
];

/// Features that bring an adapter, and all the families of [`NETWORK`] that each may bring, and does.
const ADAPTERS: [(&str, &[&str]); 7] = [
    ("tower", &["http", "tower"]),
    ("hyper", &["h2", "http", "hyper", "tower"]),
    ("axum", &["axum", "h2", "http", "hyper", "tower"]),
    ("reqwest", &["http", "hyper", "reqwest", "tower"]),
    ("tonic", &["h2", "http", "hyper", "prost", "tonic", "tower"]),
    ("tonic-server", &["axum", "h2", "http", "hyper", "prost", "tonic", "tower"]),
    (
        "tonic-tls",
        &[
            "aws-lc",
            "h2",
            "http",
            "hyper",
            // A search for the system's certificates, and no more.
            "openssl",
            "prost",
            "rustls",
            "schannel",
            "security-framework",
            "tonic",
            "tower",
        ],
    ),
];

/// Crates that belong to one backend: the core must not know them.
const BACKENDS: [&str; 5] = ["etcd-client", "hickory", "kube", "k8s-openapi", "zookeeper"];

/// Checks the trees, the licences and the sources; returns what was checked, in words.
///
/// # Errors
///
/// If one does not hold.
pub(crate) fn check(root: &Path) -> Result<String> {
    let metadata = Metadata::load(root)?;
    let policy = Policy::load(root)?;
    let locked = policy.check(&metadata)?;
    let everything = ["--workspace", "--all-features", "--edges", "all"];
    policy.check_bans(&tree(root, FACADE, &everything)?)?;

    let default = user_tree(root, FACADE, &[])?;
    without("the default features", &network(&default))?;

    let features = &metadata.member(FACADE)?.features;
    for (name, owners) in PROTOCOLS {
        let others: Vec<_> =
            features.iter().map(String::as_str).filter(|feature| !owners.contains(feature)).collect();
        let tree = user_tree(root, FACADE, &["--no-default-features", "--features", &others.join(",")])?;
        without(&format!("all features but `{}`", owners.join("`, `")), &members(&tree, &[name]))?;

        // The other way round too, or a renamed dependency would make the check above hold for ever.
        for owner in owners {
            let alone = user_tree(root, FACADE, &["--no-default-features", "--features", owner])?;
            if !alone.contains(name) {
                return Err(Failure::new(format!(
                    "the feature `{owner}` does not bring {name}: is this check stale?"
                )));
            }
        }
    }

    for (feature, allowed) in ADAPTERS {
        let alone = user_tree(root, FACADE, &["--no-default-features", "--features", feature])?;
        only(feature, &alone, allowed)?;
    }

    let core = user_tree(root, "registry-core", &["--all-features"])?;
    without("registry-core", &foreign_to_core(&core))?;
    Ok(format!("{locked} locked packages, {} crates by default", default.len()))
}

/// The crates that a user of the package compiles with these features, on this platform.
///
/// # Errors
///
/// If cargo can't tell.
pub(crate) fn tree_of(root: &Path, package: &str, features: &[&str]) -> Result<BTreeSet<String>> {
    listed(root, package, &[&["--edges", "normal,build", "--package", package], features].concat())
}

/// The crates that a user of the package compiles with these features, on any platform.
fn user_tree(root: &Path, package: &str, features: &[&str]) -> Result<BTreeSet<String>> {
    let what = [&["--edges", "normal,build", "--package", package], features].concat();
    tree(root, package, &what)
}

/// The crates in a tree for any platform that has to hold `expected`.
fn tree(root: &Path, expected: &str, what: &[&str]) -> Result<BTreeSet<String>> {
    listed(root, expected, &[&["--target", "all"], what].concat())
}

fn listed(root: &Path, expected: &str, what: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = cargo(root);
    command.args(["tree", "--locked", "--prefix", "none"]).args(what);
    let crates = crates_in(&capture(&mut command)?);
    // Cargo's format is no promise: an unreadable tree must not pass for an empty one.
    if !crates.contains(expected) {
        return Err(Failure::new(format!("`cargo tree` of {expected} does not even name {expected}")));
    }
    Ok(crates)
}

/// The names in the output of `cargo tree --prefix none`: `NAME vVERSION …` on each line.
fn crates_in(tree: &str) -> BTreeSet<String> {
    let names = tree.lines().filter_map(|line| line.split_once(" v").map(|(name, _)| name.trim().to_owned()));
    names.collect()
}

fn network(crates: &BTreeSet<String>) -> BTreeSet<String> {
    members(crates, &NETWORK)
}

fn foreign_to_core(crates: &BTreeSet<String>) -> BTreeSet<String> {
    let ours =
        crates.iter().filter(|name| name.starts_with("registry-") && *name != "registry-core").cloned();
    network(crates).into_iter().chain(members(crates, &BACKENDS)).chain(ours).collect()
}

fn members(crates: &BTreeSet<String>, families: &[&str]) -> BTreeSet<String> {
    let belongs = |name: &str| {
        families.iter().any(|family| {
            name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
        })
    };
    crates.iter().filter(|name| belongs(name)).cloned().collect()
}

/// Whether the network crates of a feature's tree are those of the allowed families, and each family is there.
fn only(feature: &str, tree: &BTreeSet<String>, allowed: &[&str]) -> Result<()> {
    let (brought, expected) = (network(tree), members(tree, allowed));
    without(&format!("the feature `{feature}`"), &brought.difference(&expected).cloned().collect())?;
    match allowed.iter().find(|family| members(tree, &[family]).is_empty()) {
        None => Ok(()),
        Some(absent) => Err(Failure::new(format!(
            "the feature `{feature}` does not bring {absent}: is this check stale?"
        ))),
    }
}

fn without(what: &str, offenders: &BTreeSet<String>) -> Result<()> {
    if offenders.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = offenders.iter().map(String::as_str).collect();
    Err(Failure::new(format!("{what} must not bring {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::{crates_in, foreign_to_core, members, network, only, without};

    const CLEAN: &str = "\
service-registry v0.1.0 (/somewhere)
registry-core v0.1.0 (/somewhere/registry-core)
async-trait v0.1.89 (proc-macro)
httparse v1.10.1
ringbuffer v0.1.0
tokio v1.46.0
tokio v1.46.0 (*)
";

    #[test]
    fn names_are_read_from_a_tree() {
        let crates = crates_in(CLEAN);
        assert_eq!(crates.len(), 6);
        assert!(crates.contains("async-trait"));
    }

    #[test]
    fn a_tree_without_network_crates_is_clean() {
        assert!(without("it", &network(&crates_in(CLEAN))).is_ok());
    }

    #[test]
    fn every_network_crate_and_its_family_is_caught() {
        for name in
            ["hyper", "hyper-util", "h2", "tonic", "tonic-prost", "rustls", "aws-lc-rs", "aws-lc-sys", "ring"]
        {
            let crates = crates_in(&format!("{CLEAN}{name} v1.0.0\n"));
            let failure = without("it", &network(&crates)).expect_err(name);
            assert_eq!(failure.to_string(), format!("it must not bring {name}"));
        }
    }

    #[test]
    fn etcd_crates_are_caught_outside_their_feature() {
        let crates = crates_in(&format!("{CLEAN}etcd-client v0.21.1\ntonic v0.14.2\n"));
        assert_eq!(members(&crates, &["etcd-client", "tonic"]).len(), 2);
    }

    #[test]
    fn an_adapter_that_brings_more_than_its_own_is_caught() {
        let crates = crates_in(&format!("{CLEAN}http v1.3.0\nhttp-body v1.0.1\nhyper v1.6.0\n"));
        assert!(only("it", &crates, &["http", "hyper"]).is_ok());
        let more = only("it", &crates, &["http"]).unwrap_err();
        assert_eq!(more.to_string(), "the feature `it` must not bring hyper");
        let stale = only("it", &crates, &["http", "hyper", "tower"]).unwrap_err();
        assert!(stale.to_string().contains("does not bring tower"), "{stale}");
    }

    #[test]
    fn a_backend_below_the_core_is_caught() {
        assert!(foreign_to_core(&crates_in(CLEAN)).is_empty());
        for name in ["registry-etcd", "etcd-client", "hickory-resolver", "reqwest"] {
            let crates = crates_in(&format!("{CLEAN}{name} v1.0.0\n"));
            assert!(foreign_to_core(&crates).contains(name), "{name}");
        }
    }
}
