//! The minimum Rust version: what we promise, what we lock and what the README says agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::failure::{Failure, Result};
use crate::metadata::{FACADE, Metadata};
use crate::version::Version;

/// Checks the declarations; returns the promised version.
///
/// # Errors
///
/// If something that a published crate compiles with needs a newer Rust than that crate declares, or the README names
/// another version.
pub(crate) fn check(root: &Path) -> Result<Version> {
    let metadata = Metadata::load(root)?;
    let floor = declared(metadata.member(FACADE)?.rust_version.as_deref())
        .ok_or_else(|| Failure::new(format!("{FACADE} declares no rust-version")))?;

    let readme = root.join("README.md");
    let text = fs::read_to_string(&readme).map_err(|error| Failure::file("read", &readme, &error))?;
    let findings: Vec<_> = too_new(&metadata).into_iter().chain(contradictions(&text, floor)).collect();
    match Failure::list("the minimum Rust version does not hold", &findings) {
        Some(failure) => Err(failure),
        None => Ok(floor),
    }
}

/// A backend may need a newer Rust than the rest, and says so in its own manifest: each crate is held to its own word.
fn too_new(metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for ours in metadata.packages().filter(|package| package.published) {
        let Some(floor) = declared(ours.rust_version.as_deref()) else {
            findings.push(format!("{} declares no rust-version", ours.name));
            continue;
        };
        for package in metadata.closure_of(ours) {
            if let Some(needed) = declared(package.rust_version.as_deref()).filter(|needed| *needed > floor) {
                let (name, version) = (&package.name, &package.version);
                findings.push(format!("{} promises {floor}, but {name} {version} needs {needed}", ours.name));
            }
        }
    }
    findings
}

/// `rust-version` may be a bare major version or carry no patch.
fn declared(text: Option<&str>) -> Option<Version> {
    let text = text?;
    Version::find(text).or_else(|| text.parse().ok().map(|major| Version::new(major, 0, 0)))
}

/// Each place where the README names a Rust version other than the promised one.
fn contradictions(readme: &str, floor: Version) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in readme.lines().enumerate() {
        let after_msrv = line.split("MSRV").skip(1).filter_map(Version::find);
        let after_rust = line.split("Rust 1.").skip(1).filter_map(|rest| Version::find(&format!("1.{rest}")));
        // One finding a version and line, however often the line says it.
        let others: BTreeSet<_> = after_msrv.chain(after_rust).filter(|said| *said != floor).collect();
        for said in others {
            findings.push(format!("README.md:{} says {said}, Cargo.toml {floor}", number + 1));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{contradictions, declared, too_new};
    use crate::metadata::tests::sample;
    use crate::version::Version;

    #[test]
    fn a_dependency_that_needs_a_newer_rust_is_reported() {
        let findings = too_new(&sample());
        assert_eq!(findings, ["service-registry promises 1.88.0, but too-new 1.0.0 needs 1.91.0"]);
    }

    #[test]
    fn the_readme_has_to_name_the_promised_version() {
        let floor = Version::new(1, 88, 0);
        assert!(contradictions("Works with Rust 1.88 and later (MSRV: 1.88.0).", floor).is_empty());
        assert!(contradictions("No word about it. tokio 1.46", floor).is_empty());
        assert_eq!(
            contradictions("\nNeeds Rust 1.85.", floor),
            ["README.md:2 says 1.85.0, Cargo.toml 1.88.0"]
        );
        assert_eq!(contradictions("![MSRV](https://example.test/MSRV-1.90-blue)", floor).len(), 1);
    }

    #[test]
    fn declarations_may_be_short() {
        assert_eq!(declared(Some("1.88")), Some(Version::new(1, 88, 0)));
        assert_eq!(declared(Some("1.71.1")), Some(Version::new(1, 71, 1)));
        assert_eq!(declared(Some("1")), Some(Version::new(1, 0, 0)));
        assert_eq!(declared(None), None);
    }
}
