//! What cargo says of the workspace and everything it locks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::process::{capture, cargo};

/// One locked package.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Where it comes from; `None` for a path.
    pub(crate) source: Option<String>,
    /// Its licence expression.
    pub(crate) license: Option<String>,
    /// The Rust it declares to need.
    pub(crate) rust_version: Option<String>,
    /// Whether it is one of ours that goes to the registry.
    pub(crate) published: bool,
    /// Whether it is one of ours.
    pub(crate) member: bool,
    /// Its features, without `default` and without private ones.
    pub(crate) features: Vec<String>,
    id: String,
}

/// The workspace with every feature on and every platform's dependencies.
#[derive(Debug)]
pub(crate) struct Metadata {
    packages: BTreeMap<String, Package>,
    /// Package id to the ids of its normal and build dependencies.
    dependencies: BTreeMap<String, Vec<String>>,
}

/// The name of the package in the workspace's root.
pub(crate) const FACADE: &str = "service-registry";

impl Metadata {
    /// Asks cargo; the lock file has to be current.
    ///
    /// # Errors
    ///
    /// If cargo refuses or answers with something else than expected.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let text =
            capture(cargo(root).args(["metadata", "--format-version", "1", "--all-features", "--locked"]))?;
        let value =
            serde_json::from_str(&text).map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
        Self::parse(&value).ok_or_else(|| Failure::new("cargo metadata has another shape than expected"))
    }

    /// Everything that is locked.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// Our package of this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn member(&self, name: &str) -> Result<&Package> {
        self.packages()
            .find(|package| package.member && package.name == name)
            .ok_or_else(|| Failure::new(format!("the workspace has no package {name}")))
    }

    /// The package and everything it compiles or builds with: no development dependencies.
    pub(crate) fn closure_of(&self, package: &Package) -> Vec<&Package> {
        let mut seen = BTreeSet::new();
        let mut open = vec![package.id.as_str()];
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(self.dependencies.get(id).into_iter().flatten().map(String::as_str));
            }
        }
        seen.into_iter().filter_map(|id| self.packages.get(id)).collect()
    }

    fn parse(value: &Value) -> Option<Self> {
        let members: BTreeSet<&str> =
            value["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
        let packages = value["packages"].as_array()?.iter().map(|package| parse_package(package, &members));
        let nodes = value["resolve"]["nodes"].as_array()?.iter().map(parse_node);
        Some(Self {
            packages: packages
                .map(|package| Some((package.as_ref()?.id.clone(), package?)))
                .collect::<Option<_>>()?,
            dependencies: nodes.collect::<Option<_>>()?,
        })
    }
}

fn parse_package(value: &Value, members: &BTreeSet<&str>) -> Option<Package> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let id = text("id")?;
    let member = members.contains(id.as_str());
    // `publish` is null for "anywhere" and an empty list for "nowhere".
    let published = member && value["publish"].as_array().is_none_or(|registries| !registries.is_empty());
    let features = value["features"].as_object()?.keys();
    let features = features.filter(|name| *name != "default" && !name.starts_with('_'));
    Some(Package {
        name: text("name")?,
        version: text("version")?,
        source: text("source"),
        license: text("license"),
        rust_version: text("rust_version"),
        published,
        member,
        features: features.cloned().collect(),
        id,
    })
}

fn parse_node(value: &Value) -> Option<(String, Vec<String>)> {
    let used = value["deps"].as_array()?.iter().filter(|dependency| {
        // A dependency kind of null is a normal one.
        dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] != "dev"))
    });
    let ids = used.map(|dependency| dependency["pkg"].as_str().map(str::to_owned));
    Some((value["id"].as_str()?.to_owned(), ids.collect::<Option<_>>()?))
}

/// The root of the checkout we are called in.
///
/// Asked from cargo, not compiled in: one built binary may serve several checkouts.
///
/// # Errors
///
/// If the current directory is in no workspace.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let text =
        capture(cargo(Path::new(".")).args(["locate-project", "--workspace", "--message-format", "plain"]))?;
    let manifest = PathBuf::from(text.trim());
    manifest
        .parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new(format!("no directory holds {}", manifest.display())))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::Metadata;

    /// A workspace of two (one published), a dependency, its build dependency and a development dependency.
    pub(crate) fn sample() -> Metadata {
        let package = |name: &str, rust: Option<&str>, source: Option<&str>, license: &str| {
            json!({"id": name, "name": name, "version": "1.0.0", "source": source, "license": license,
                   "rust_version": rust, "publish": null, "features": {"default": [], "etcd": [], "_private": []}})
        };
        let mut tool = package("xtask", Some("1.88"), None, "MIT");
        tool["publish"] = json!([]);
        let registry = Some("registry+https://github.com/rust-lang/crates.io-index");
        let edge = |to: &str, kind: Option<&str>| json!({"pkg": to, "dep_kinds": [{"kind": kind}]});
        Metadata::parse(&json!({
            "workspace_members": ["service-registry", "xtask"],
            "packages": [
                package("service-registry", Some("1.88"), None, "MIT OR Apache-2.0"),
                tool,
                package("fine", Some("1.60"), registry, "MIT/Apache-2.0"),
                package("too-new", Some("1.91"), registry, "MIT"),
                package("dev-only", Some("1.95"), Some("git+https://example.test/dev"), "GPL-3.0"),
            ],
            "resolve": {"nodes": [
                {"id": "service-registry", "deps": [edge("fine", None), edge("dev-only", Some("dev"))]},
                {"id": "fine", "deps": [edge("too-new", Some("build"))]},
                {"id": "xtask", "deps": []},
            ]},
        }))
        .expect("the sample has the shape of cargo's answer")
    }

    #[test]
    fn the_closure_has_build_dependencies_and_no_development_ones() {
        let metadata = sample();
        let root = metadata.member("service-registry").expect("it is a member");
        let names: Vec<_> = metadata.closure_of(root).iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["fine", "service-registry", "too-new"]);
    }

    #[test]
    fn private_crates_and_private_features_are_known() {
        let metadata = sample();
        assert!(!metadata.member("xtask").expect("it is a member").published);
        let root = metadata.member("service-registry").expect("it is a member");
        assert!(root.published);
        assert_eq!(root.features, ["etcd"]);
        assert!(metadata.member("fine").is_err());
    }

    #[test]
    fn another_shape_is_refused() {
        assert!(Metadata::parse(&json!({"packages": []})).is_none());
    }
}
