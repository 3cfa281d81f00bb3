//! Which licences, crates and sources may be locked: `deny.toml`, read by the check that always runs.
//!
//! `cargo deny` reads the same file and looks closer (at licence texts, for instance), where it is installed. This
//! reading is narrower on purpose: what it does not understand it refuses, rather than passing over it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::failure::{Failure, Result};
use crate::licence::is_satisfied;
use crate::metadata::{Metadata, Package};

/// How cargo writes crates.io in a lock file; the only source that is accepted besides our own directories.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `deny.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

impl Policy {
    /// Reads `deny.toml` in the workspace's root.
    ///
    /// # Errors
    ///
    /// If it cannot be read or says something this reading does not understand.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let path = root.join("deny.toml");
        let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        for unknown in ["exceptions", "clarify", "allow-git", "allow-org", "allow-registry"] {
            let used = text.lines().map(str::trim_start).any(|line| line.starts_with(unknown));
            if used {
                return Err(Failure::new(format!(
                    "deny.toml uses `{unknown}`, which `cargo xtask deps` cannot read"
                )));
            }
        }
        let entries = |section: &str, key: &str| {
            array(text, section, key)
                .filter(|entries| !entries.is_empty())
                .ok_or_else(|| Failure::new(format!("deny.toml has no entries under [{section}] {key}")))
        };
        let licences = entries("licenses", "allow")?.iter().filter_map(|entry| quoted(entry)).collect();
        let banned = entries("bans", "deny")?;
        let banned = banned.iter().filter_map(|entry| quoted(entry.split_once("crate =")?.1)).collect();
        Ok(Self { licences, banned })
    }

    /// Whether licence and source of everything that is locked are accepted; returns how many packages that is.
    ///
    /// # Errors
    ///
    /// If something does not, with a line for each.
    pub(crate) fn check(&self, metadata: &Metadata) -> Result<usize> {
        let findings: Vec<_> = metadata.packages().flat_map(|package| self.objections(package)).collect();
        match Failure::list("against deny.toml", &findings) {
            Some(failure) => Err(failure),
            None => Ok(metadata.packages().count()),
        }
    }

    /// Whether none of the crates that are really compiled is banned.
    ///
    /// Not asked of the lock file: it also lists what optional features of others could bring and ours never switch on.
    ///
    /// # Errors
    ///
    /// If one is.
    pub(crate) fn check_bans(&self, compiled: &BTreeSet<String>) -> Result<()> {
        let banned: Vec<_> = compiled.intersection(&self.banned).cloned().collect();
        Failure::list("banned by deny.toml", &banned).map_or(Ok(()), Err)
    }

    fn objections(&self, package: &Package) -> Vec<String> {
        let licence =
            match package.license.as_deref().map(|expression| is_satisfied(expression, &self.licences)) {
                Some(Ok(true)) => None,
                Some(Ok(false)) => {
                    Some(format!("is under {}", package.license.as_deref().unwrap_or_default()))
                }
                Some(Err(why)) => Some(format!("has a malformed licence expression: {why}")),
                None => Some("declares no licence".to_owned()),
            };
        let source = match package.source.as_deref() {
            Some(CRATES_IO) => None,
            None if package.member => None,
            None => Some("is a path outside the workspace".to_owned()),
            Some(other) => Some(format!("comes from {other}")),
        };
        let objections = [licence, source].into_iter().flatten();
        objections.map(|objection| format!("{} {} {objection}", package.name, package.version)).collect()
    }
}

/// The entries of `key = [ … ]` in a section, one a line, without comments.
fn array(text: &str, section: &str, key: &str) -> Option<Vec<String>> {
    let header = format!("[{section}]");
    let opening = format!("{key} = [");
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| *line == header)?;
    let mut lines = lines.take_while(|line| !(line.starts_with('[') && line.ends_with(']')));
    lines.find(|line| *line == opening)?;
    let entries = lines.take_while(|line| !line.starts_with(']'));
    Some(entries.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

fn quoted(text: &str) -> Option<String> {
    text.split('"').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::Policy;
    use crate::metadata::tests::sample;

    const POLICY: &str = "\
[licenses]
allow = [
    # ours
    \"MIT\",
    \"Apache-2.0\", # theirs
]
confidence-threshold = 0.9

[bans]
deny = [
    { crate = \"openssl\", reason = \"rustls\" },
]
";

    #[test]
    fn licences_and_bans_are_read_with_their_comments_left_out() {
        let policy = Policy::parse(POLICY).expect("the policy is well-formed");
        assert!(policy.licences.iter().eq(["Apache-2.0", "MIT"]));
        assert!(policy.banned.iter().eq(["openssl"]));
    }

    #[test]
    fn an_empty_or_unknown_policy_is_refused() {
        assert!(Policy::parse("").is_err());
        assert!(Policy::parse("[licenses]\nallow = [\n]\n").is_err());
        assert!(Policy::parse(&format!("{POLICY}\n[sources]\nallow-git = [\"x\"]")).is_err());
    }

    #[test]
    fn a_foreign_licence_and_a_foreign_source_are_reported() {
        let failure =
            Policy::parse(POLICY).expect("well-formed").check(&sample()).expect_err("one crate is foreign");
        let message = failure.to_string();
        assert!(message.contains("dev-only 1.0.0 is under GPL-3.0"), "{message}");
        assert!(message.contains("dev-only 1.0.0 comes from git+"), "{message}");
        assert!(!message.contains("fine 1.0.0"), "{message}");
    }

    #[test]
    fn a_banned_crate_is_reported_if_it_is_compiled() {
        let policy = Policy::parse(POLICY).expect("well-formed");
        let compiled = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert!(policy.check_bans(&compiled(&["tokio", "openssl-probe"])).is_ok());
        assert!(policy.check_bans(&compiled(&["tokio", "openssl"])).is_err());
    }
}
