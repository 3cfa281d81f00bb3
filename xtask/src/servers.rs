//! The real servers: built once from what stands in `tests/servers` into a cache outside `target`.
//!
//! What is built and how is a value, a [`Recipe`]; Go and Maven know how to follow one.

mod cache;
mod distribution;
mod go;
mod maven;
mod network;
mod programs;
mod recipe;

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use self::distribution::{distribution, newest_or_distribution};
pub(crate) use self::network::Apart;
pub(crate) use self::programs::Programs;
use self::recipe::{Build, RECIPES};
pub(crate) use self::recipe::{
    CONSUL, ETCD_NEWEST, ETCD_PREVIOUS, EUREKA, NACOS_NEWEST, NACOS_PREVIOUS, Recipe, SPRING,
};
use crate::failure::{Failure, Result};
use crate::version::Version;

/// A server that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// What the binary says it is.
    pub(crate) version: Version,
    /// Its programs, each with the variable by which tests find it.
    pub(crate) programs: Vec<(&'static str, PathBuf)>,
}

impl Server {
    /// Tells a test program where the server is.
    pub(crate) fn announce(&self, command: &mut Command) {
        command.envs(self.programs.iter().map(|(variable, path)| (variable, path)));
    }

    /// The same with those programs of `other` that this one has not: etcd's client serves every line.
    pub(crate) fn completed_by(mut self, other: &Self) -> Self {
        for program in &other.programs {
            if self.programs.iter().all(|(variable, _)| *variable != program.0) {
                self.programs.push(program.clone());
            }
        }
        self
    }
}

/// Why there is no server.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Nothing here could build it: for etcd, the distribution's may stand in.
    Builder(Failure),
    /// The build failed: nothing stands in for that.
    Build(Failure),
}

impl Missing {
    /// The reason, whichever it is.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Builder(failure) | Self::Build(failure) => failure,
        }
    }
}

/// The recipes with these names, or all: a name is a recipe's or its registry's.
///
/// # Errors
///
/// If there is none with a name.
pub(crate) fn named(names: &[String]) -> Result<Vec<&'static Recipe>> {
    if names.is_empty() {
        return Ok(RECIPES.to_vec());
    }
    let fits = |recipe: &Recipe, name: &str| {
        recipe.name == name || recipe.registry.is_some_and(|registry| registry.name() == name)
    };
    if let Some(unknown) = names.iter().find(|name| !RECIPES.iter().any(|recipe| fits(recipe, name))) {
        let known = RECIPES.map(|recipe| recipe.name).join(", ");
        return Err(Failure::new(format!("there is no server `{unknown}`; there are {known}")));
    }
    Ok(RECIPES.into_iter().filter(|recipe| names.iter().any(|name| fits(recipe, name))).collect())
}

/// The server from the cache, built first if it is not there.
///
/// # Errors
///
/// If it has to be built and cannot be.
pub(crate) fn ensure(root: &Path, recipe: &'static Recipe) -> std::result::Result<Server, Missing> {
    let source = recipe.source(root);
    let home = home(root, recipe).map_err(Missing::Build)?;
    if !home.is_dir() {
        let build = |into: &Path| match &recipe.build {
            Build::Go(binaries) => go::build(binaries, &source, into),
            Build::Maven(application) => maven::build(root, application, &source, into),
        };
        // Before anything is printed or made: without a builder something else may do.
        match &recipe.build {
            Build::Go(_) => programs::go().map(drop).map_err(Missing::Builder)?,
            Build::Maven(_) => programs::java().map(drop).map_err(Missing::Builder)?,
        }
        cache::fill(&home, recipe, build).map_err(Missing::Build)?;
    }
    installed(recipe, &source, &home).map_err(Missing::Build)
}

/// Whether it has been built.
pub(crate) fn is_built(root: &Path, recipe: &Recipe) -> Result<bool> {
    Ok(home(root, recipe)?.is_dir())
}

fn home(root: &Path, recipe: &Recipe) -> Result<PathBuf> {
    let source = recipe.source(root);
    let key = match &recipe.build {
        Build::Go(_) => go::key(&source)?,
        Build::Maven(_) => maven::key(&source)?,
    };
    Ok(cache::directory()?.join(format!("{}-{key:016x}", recipe.name)))
}

/// What lies in the cache, asked for its version: it has to be what the lock file says.
fn installed(recipe: &Recipe, source: &Path, home: &Path) -> Result<Server> {
    let (built, locked, programs) = match &recipe.build {
        Build::Go(binaries) => {
            let programs: Vec<_> =
                binaries.iter().map(|binary| (binary.variable, binary.path(home))).collect();
            let first = &binaries[0];
            (go::version_of(&first.path(home), first.version)?, go::locked(source, first.package)?, programs)
        }
        Build::Maven(application) => {
            let programs = vec![(application.variable, home.join(application.jar))];
            (
                maven::version_in(home, application.artifact)?,
                maven::locked(source, application.property)?,
                programs,
            )
        }
    };
    if built != locked {
        return Err(Failure::new(format!(
            "what is in {} is {built}, {} asks for {locked}; remove it",
            home.display(),
            source.display()
        )));
    }
    Ok(Server { version: built, programs })
}

#[cfg(test)]
mod tests {
    use super::named;

    fn names(words: &[&str]) -> Option<Vec<&'static str>> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        named(&words).ok().map(|recipes| recipes.iter().map(|recipe| recipe.name).collect())
    }

    #[test]
    fn servers_are_named_by_recipe_or_registry() {
        assert_eq!(names(&[]).map(|all| all.len()), Some(7));
        assert_eq!(names(&["nacos2", "consul"]), Some(vec!["consul", "nacos2"]));
        assert_eq!(names(&["nacos"]), Some(vec!["nacos3", "nacos2"]));
        assert_eq!(names(&["memory"]), None);
    }
}
