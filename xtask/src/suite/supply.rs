//! Which servers there are for the tests.

use std::path::Path;

use super::{Done, QUICK, Suite};
use crate::cli::Registry;
use crate::failure::{Failure, Result};
use crate::servers::{
    self, Apart, CONSUL, ETCD_NEWEST, ETCD_PREVIOUS, EUREKA, Missing, NACOS_NEWEST, NACOS_PREVIOUS, Programs,
    Recipe, SPRING, Server,
};

/// What follows the list of programs that are missing, as the table is an hour away.
const GOING_ON: &str = "the checks that need none of it go on, and the table at the end says which did not run; `cargo \
                        xtask test --only memory,etcd` takes no Java, and no Go where the distribution has an etcd, \
                        `--only memory` no server at all";

/// A server, or why there is none.
#[derive(Debug)]
pub(super) enum Supply {
    There(Server),
    /// Not asked for, or replaced by something that ran; the reason goes into the table.
    LeftOut(String),
    /// Asked for and not to be had.
    Absent,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Supplies {
    pub(super) etcd: Supply,
    pub(super) etcd_previous: Supply,
    pub(super) consul: Supply,
    pub(super) eureka: Supply,
    pub(super) nacos: Supply,
    pub(super) nacos_previous: Supply,
    /// The peer that tests on Consul, Eureka and Nacos meet.
    pub(super) spring: Supply,
    /// Where Nacos may listen.
    pub(super) apart: Option<Apart>,
}

impl Suite {
    /// Builds what is needed, before anything that takes long.
    pub(super) fn supplies(&mut self) -> Supplies {
        let root = self.root.clone();
        let recipes = servers::named(&[]).unwrap_or_default();
        let wanted: Vec<_> = recipes.into_iter().filter(|recipe| self.needs(recipe)).collect();
        if !wanted.is_empty() {
            self.step("programs for the servers", None, || {
                Programs::check(&root, &wanted).map_err(|why| Failure::new(format!("{why}\n{GOING_ON}")))
            });
        }
        let (etcd, etcd_previous) = self.etcds();
        let [consul, eureka, nacos, nacos_previous, spring] =
            [&CONSUL, &EUREKA, &NACOS_NEWEST, &NACOS_PREVIOUS, &SPRING]
                .map(|recipe| self.supply(recipe, build));
        let any = nacos.server().or_else(|_| nacos_previous.server());
        let apart = any.ok().and_then(|_| Apart::find(&root).ok());
        Supplies { etcd, etcd_previous, consul, eureka, nacos, nacos_previous, spring, apart }
    }

    fn needs(&self, recipe: &Recipe) -> bool {
        Registry::SERVED.iter().any(|registry| recipe.serves(*registry) && self.selection.includes(*registry))
    }

    fn etcds(&mut self) -> (Supply, Supply) {
        let mut stands_in = None;
        let newest = self.supply(&ETCD_NEWEST, |root, recipe| match servers::ensure(root, recipe) {
            Err(Missing::Builder(why)) => {
                let server = servers::distribution()?;
                let note = format!("{why}: the distribution's etcd {} instead", server.version);
                stands_in = Some(note.clone());
                Ok((server, Some(note)))
            }
            ensured => ensured.map(|server| (server, None)).map_err(Missing::into_failure),
        });
        let left_out = if self.selection.quick { Some(QUICK.to_owned()) } else { stands_in };
        let previous = match left_out {
            Some(reason) if self.selection.includes(Registry::Etcd) => {
                self.not_run(&check(&ETCD_PREVIOUS), Some(Registry::Etcd), &reason);
                Supply::LeftOut(reason)
            }
            _ => match self.supply(&ETCD_PREVIOUS, build) {
                Supply::There(server) => Supply::There(match &newest {
                    Supply::There(newest) => server.completed_by(newest),
                    Supply::LeftOut(_) | Supply::Absent => server,
                }),
                without => without,
            },
        };
        (newest, previous)
    }

    /// One server, with its line in the table.
    fn supply(
        &mut self,
        recipe: &'static Recipe,
        ensure: impl FnOnce(&Path, &'static Recipe) -> Result<(Server, Option<String>)>,
    ) -> Supply {
        let registry = recipe.registry;
        if !self.needs(recipe) {
            let reason = self.selection.reason_against();
            self.not_run(&check(recipe), registry, reason);
            return Supply::LeftOut(reason.to_owned());
        }
        let root = self.root.clone();
        let mut supply = Supply::Absent;
        self.step(&check(recipe), registry, || {
            let (server, note) = ensure(&root, recipe)?;
            let version = Some(server.version.to_string());
            supply = Supply::There(server);
            Ok(Done { version, tally: None, note })
        });
        supply
    }
}

fn check(recipe: &Recipe) -> String {
    match recipe.registry {
        Some(_) => format!("server, line {} asked for", recipe.line),
        None => format!("{} {}", recipe.title(), recipe.line),
    }
}

fn build(root: &Path, recipe: &'static Recipe) -> Result<(Server, Option<String>)> {
    servers::ensure(root, recipe).map(|server| (server, None)).map_err(Missing::into_failure)
}

impl Supply {
    /// Why something that takes long doesn't run with it.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::There(_) => QUICK,
            Self::LeftOut(reason) => reason,
            Self::Absent => "there is no server for it",
        }
    }

    /// The server, or a failure that says that there is none.
    pub(super) fn server(&self) -> Result<&Server> {
        match self {
            Self::There(server) => Ok(server),
            Self::LeftOut(reason) => Err(Failure::new(reason)),
            Self::Absent => Err(Failure::new("there is no server for it")),
        }
    }
}
