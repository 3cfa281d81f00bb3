//! What servers are built and run with: Go, Java and Maven.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::is_built;
use super::network::Apart;
use super::recipe::{Build, Recipe};
use crate::cli::Registry;
use crate::failure::{Failure, Result};
use crate::process::{capture, find_program};
use crate::tools::apt_install;
pub(super) use crate::tools::go;
use crate::version::Version;

/// The oldest Java the servers run on.
const JAVA_FLOOR: Version = Version::new(17, 0, 0);
const JAVA_PACKAGES: &str = "install a JDK of 17 or later and Maven (Debian, Ubuntu: openjdk-17-jdk-headless maven; \
                             Fedora: java-21-openjdk-devel maven; Alpine: openjdk17 maven; Homebrew: openjdk@17 \
                             maven), or point JAVA_HOME at the JDK";
const GO_PACKAGES: &str = "install it (Debian, Ubuntu: golang-1.26-go, from backports where the release is older; \
                           Fedora: golang; Alpine, Homebrew: go; else from go.dev/dl)";

/// A JDK, and Maven.
#[derive(Debug, Clone)]
pub(super) struct Java {
    pub(super) home: PathBuf,
    pub(super) maven: PathBuf,
}

impl Java {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.home.join("bin").join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    pub(super) fn tool(&self, name: &str) -> Command {
        Command::new(self.program(name))
    }
}

/// A JDK and Maven, installed first if they are not there and we may.
///
/// # Errors
///
/// If there are none; the message names the packages.
pub(super) fn java() -> Result<Java> {
    find_java().or_else(|why| {
        let missing = || Failure::new(format!("{why}; {JAVA_PACKAGES}"));
        apt_install(&["openjdk-17-jdk-headless", "maven"]).map_err(|_| missing())?;
        find_java().map_err(|_| missing())
    })
}

fn find_java() -> Result<Java> {
    let home = env::var_os("JAVA_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.map_or_else(home_of_the_compiler, Ok)?;
    let maven = find_program("mvn").ok_or_else(|| Failure::new("there is no Maven"))?;
    let java = Java { home, maven };
    let text = capture(java.tool("javac").arg("-version"))
        .map_err(|failure| Failure::new(format!("there is no Java compiler ({failure})")))?;
    judge(&text)?;
    Ok(java)
}

/// From the compiler on the `PATH`: a runtime alone can't build.
fn home_of_the_compiler() -> Result<PathBuf> {
    let compiler = find_program("javac").ok_or_else(|| Failure::new("there is no Java compiler"))?;
    let compiler = compiler.canonicalize().map_err(|error| Failure::file("find", &compiler, &error))?;
    let home = compiler.parent().and_then(Path::parent);
    home.map(Path::to_owned).ok_or_else(|| Failure::new("the Java compiler is in no JDK"))
}

fn judge(text: &str) -> Result<()> {
    // `javac 17.0.15`, but also `javac 21`.
    let version = Version::find(text).or_else(|| Version::find(&format!("{}.0", text.trim())));
    match version {
        Some(version) if version >= JAVA_FLOOR => Ok(()),
        _ => Err(Failure::new(format!("Java is {:?} (17 or later is needed)", text.trim()))),
    }
}

/// What a whole command needs, looked at before any of it takes time.
#[derive(Debug)]
pub(crate) struct Programs;

impl Programs {
    /// Looks for everything that is needed to have and run `wanted`.
    ///
    /// # Errors
    ///
    /// If something is missing and cannot be installed from here; the message says all that is.
    pub(crate) fn check(root: &Path, wanted: &[&'static Recipe]) -> Result<()> {
        let mut missing = Vec::new();
        // The distribution's etcd stands in where there is no Go.
        let needs_go = |recipe: &&'static Recipe| {
            matches!(recipe.build, Build::Go(_))
                && recipe.registry != Some(Registry::Etcd)
                && is_built(root, recipe).is_ok_and(|built| !built)
        };
        if wanted.iter().any(needs_go) {
            missing.extend(go().err().map(|why| format!("{why}; {GO_PACKAGES}")));
        }
        if wanted.iter().any(|recipe| matches!(recipe.build, Build::Maven(_))) {
            missing.extend(java().err().map(|why| why.to_string()));
        }
        if wanted.iter().any(|recipe| recipe.registry == Some(Registry::Nacos)) {
            missing.extend(Apart::find(root).err().map(|why| why.to_string()));
        }
        Failure::list("to build and run the servers, something is missing", &missing).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_java_that_is_too_old_is_refused() {
        assert!(judge("javac 17.0.15\n").is_ok());
        assert!(judge("javac 21\n").is_ok());
        assert!(judge("javac 11.0.2\n").is_err());
        assert!(judge("javac 1.8.0_292\n").is_err());
        assert!(judge("").is_err());
    }
}
