//! The real servers: built once from their lock files into a cache outside `target`.
//!
//! The cache's key is the hash of the lock files, so another version is another directory and `cargo clean` costs no
//! rebuild. A build goes to a temporary name and is renamed when it is complete: an interrupted one leaves nothing
//! that could be taken for a server.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::process::{capture, find_program, run};
use crate::tools::{apt_install, go};
use crate::version::Version;

/// How one server is built: `tests/servers/NAME` and the packages to compile there.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The release line, as the report names it.
    pub(crate) line: &'static str,
    name: &'static str,
    binaries: &'static [(&'static str, &'static str)],
    usual_duration: &'static str,
}

const ETCD: (&str, &str) = ("etcd", "go.etcd.io/etcd/server/v3");
const ETCDCTL: (&str, &str) = ("etcdctl", "go.etcd.io/etcd/etcdctl/v3");

/// The line that runs every test.
pub(crate) const ETCD_NEWEST: Recipe =
    Recipe { line: "3.6", name: "etcd36", binaries: &[ETCD, ETCDCTL], usual_duration: "65 s" };

/// The line before, which runs the conformance suite.
pub(crate) const ETCD_PREVIOUS: Recipe =
    Recipe { line: "3.5", name: "etcd35", binaries: &[ETCD], usual_duration: "65 s" };

/// A server that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// The server itself.
    pub(crate) etcd: PathBuf,
    /// Its command line client; 3.6's serves every line.
    pub(crate) etcdctl: Option<PathBuf>,
    /// What the binary says it is.
    pub(crate) version: Version,
}

impl Server {
    /// Tells a test program where the server is.
    pub(crate) fn announce(&self, command: &mut Command) {
        command.env("SERVICE_REGISTRY_ETCD", &self.etcd);
        if let Some(etcdctl) = &self.etcdctl {
            command.env("SERVICE_REGISTRY_ETCDCTL", etcdctl);
        }
    }
}

/// Why there is no server built from its lock files.
#[derive(Debug)]
pub(crate) enum Missing {
    /// No Go that could build it: the distribution's server may stand in.
    Go(Failure),
    /// The build failed: nothing stands in for that.
    Build(Failure),
}

impl Missing {
    /// The reason, whichever it is.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Go(failure) | Self::Build(failure) => failure,
        }
    }
}

/// The server from the cache, built first if it is not there.
///
/// # Errors
///
/// If it has to be built and cannot be.
pub(crate) fn ensure(root: &Path, recipe: &Recipe) -> std::result::Result<Server, Missing> {
    let module = root.join("tests").join("servers").join(recipe.name);
    let locks = Locks::read(&module).map_err(Missing::Build)?;
    let cache = cache().map_err(Missing::Build)?;
    let home = cache.join(format!("{}-{:016x}", recipe.name, locks.hash()));
    if !home.is_dir() {
        let go = go().map_err(Missing::Go)?;
        build(recipe, &go, &module, &home).map_err(Missing::Build)?;
    }
    installed(recipe, &home, &locks).map_err(Missing::Build)
}

/// The server of the newest line; the distribution's where no Go could build it.
///
/// # Errors
///
/// If there is neither.
pub(crate) fn newest_or_distribution(root: &Path) -> Result<Server> {
    match ensure(root, &ETCD_NEWEST) {
        Ok(server) => Ok(server),
        Err(Missing::Go(why)) => {
            println!("{why}: the distribution's etcd instead");
            distribution()
        }
        Err(Missing::Build(why)) => Err(why),
    }
}

/// The distribution's server, installed first if it is not there and we may.
///
/// # Errors
///
/// If there is none; the message names the packages.
pub(crate) fn distribution() -> Result<Server> {
    if find_program("etcd").is_none() || find_program("etcdctl").is_none() {
        apt_install(&["etcd-server", "etcd-client"]).map_err(|why| {
            Failure::new(format!(
                "there is no etcd and {why}; install Go >= {} to build it, or etcd (Debian, Ubuntu: etcd-server \
                 etcd-client; Fedora, Homebrew: etcd)",
                crate::tools::GO_FLOOR
            ))
        })?;
    }
    let program = |name: &str| {
        find_program(name).ok_or_else(|| Failure::new(format!("there is still no {name} on the PATH")))
    };
    let etcd = program("etcd")?;
    let version = version_of(&etcd)?;
    Ok(Server { etcd, etcdctl: Some(program("etcdctl")?), version })
}

fn build(recipe: &Recipe, go: &Path, module: &Path, home: &Path) -> Result<()> {
    let names: Vec<_> = recipe.binaries.iter().map(|(binary, _)| *binary).collect();
    println!(
        "building {} of etcd {} (once; usually {} on two cores with empty caches) into {}",
        names.join(" and "),
        recipe.line,
        recipe.usual_duration,
        home.display()
    );
    // The process id keeps two builders apart that started at the same time.
    let unfinished = home.with_extension(format!("building-{}", std::process::id()));
    fs::create_dir_all(&unfinished).map_err(|error| Failure::file("create", &unfinished, &error))?;
    let built = recipe.binaries.iter().try_for_each(|(binary, package)| {
        let output = unfinished.join(format!("{binary}{}", env::consts::EXE_SUFFIX));
        run(&mut go_build(go, module, &output, package))
    });
    let finished = built.map_err(|failure| {
        Failure::new(format!(
            "etcd {} cannot be built (is the Go module proxy reachable?): {failure}",
            recipe.line
        ))
    });
    let finished = finished.and_then(|()| {
        match fs::rename(&unfinished, home) {
            // Somebody else was faster with the same lock files: theirs is as good.
            Err(_) if home.is_dir() => fs::remove_dir_all(&unfinished),
            renamed => renamed,
        }
        .map_err(|error| Failure::file("move the finished build to", home, &error))
    });
    if finished.is_err() {
        // Best effort: the failure to report is the build's.
        let _ = fs::remove_dir_all(&unfinished);
    }
    finished
}

fn go_build(go: &Path, module: &Path, output: &Path, package: &str) -> Command {
    let mut command = Command::new(go);
    command
        .current_dir(module)
        // Exactly what the lock files say, with the compiler that is installed, linked to nothing of this system.
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
        .arg(output)
        .arg(package);
    command
}

/// What lies in the cache, asked for its version: the binary has to be what the lock file says.
fn installed(recipe: &Recipe, home: &Path, locks: &Locks) -> Result<Server> {
    let path = |name: &str| home.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    let etcd = path("etcd");
    let version = version_of(&etcd)?;
    let locked = locks.version_of(ETCD.1)?;
    if version != locked {
        return Err(Failure::new(format!(
            "{} says it is {version}, its lock file says {locked}; remove {}",
            etcd.display(),
            home.display()
        )));
    }
    let etcdctl = recipe.binaries.contains(&ETCDCTL).then(|| path("etcdctl"));
    Ok(Server { etcd, etcdctl, version })
}

fn version_of(etcd: &Path) -> Result<Version> {
    let text = capture(Command::new(etcd).arg("--version"))?;
    Version::find(&text)
        .ok_or_else(|| Failure::new(format!("no version in what {} says: {text:?}", etcd.display())))
}

fn cache() -> Result<PathBuf> {
    let directory = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    directory("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| directory("HOME").or_else(|| directory("USERPROFILE")).map(|home| home.join(".cache")))
        .map(|cache| cache.join("service-registry").join("servers"))
        .ok_or_else(|| Failure::new("neither XDG_CACHE_HOME nor HOME says where built servers may be kept"))
}

/// The two files that fix everything that goes into a server.
#[derive(Debug)]
struct Locks {
    module: String,
    sums: String,
}

impl Locks {
    fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))
        };
        Ok(Self { module: read("go.mod")?, sums: read("go.sum")? })
    }

    /// FNV-1a: the key must be the same in every release of the compiler, which the standard hasher does not promise.
    fn hash(&self) -> u64 {
        let separated = self.module.bytes().chain([0]).chain(self.sums.bytes());
        separated
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    /// The version of a required module.
    fn version_of(&self, module: &str) -> Result<Version> {
        let wanted = |line: &&str| line.trim_start().split(' ').next() == Some(module) && line.contains(" v");
        self.module
            .lines()
            .find(wanted)
            .and_then(|line| line.rsplit_once(" v"))
            .and_then(|(_, version)| Version::find(version))
            .ok_or_else(|| Failure::new(format!("go.mod requires no version of {module}")))
    }
}

#[cfg(test)]
mod tests {
    use super::Locks;
    use crate::version::Version;

    fn locks(module: &str, sums: &str) -> Locks {
        Locks { module: module.to_owned(), sums: sums.to_owned() }
    }

    const MODULE: &str = "go 1.26.0\n\ntool go.etcd.io/etcd/server/v3\n\nrequire (\n\tgo.etcd.io/etcd/api/v3 v3.6.1\n\tgo.etcd.io/etcd/server/v3 v3.6.16\n)\n";

    #[test]
    fn the_locked_version_is_read_from_the_requirement() {
        let version = locks(MODULE, "").version_of("go.etcd.io/etcd/server/v3").expect("it is required");
        assert_eq!(version, Version::new(3, 6, 16));
        assert!(locks(MODULE, "").version_of("go.etcd.io/etcd/raft/v3").is_err());
    }

    #[test]
    fn any_change_of_a_lock_file_is_another_cache_entry() {
        let before = locks("a", "b").hash();
        assert_eq!(before, locks("a", "b").hash());
        assert_ne!(before, locks("a", "c").hash());
        assert_ne!(before, locks("x", "b").hash());
        assert_ne!(locks("ab", "").hash(), locks("a", "b").hash());
    }
}
