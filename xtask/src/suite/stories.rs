//! The examples that tell a story and judge it themselves: in one process, and as processes on each registry.

use super::supply::{Supplies, Supply};
use super::{Done, QUICK, Suite};
use crate::cli::Registry;
use crate::process::{cargo, run};
use crate::servers::{Apart, Server};

/// A fleet through everything that happens to fleets.
const QUICKSTART: &str = "example quickstart";
/// All instances replaced under load.
const RESTART: &str = "example rolling_restart";

impl Suite {
    /// Tells them; a call that failed fails the step.
    pub(super) fn stories(&mut self, supplies: &Supplies) {
        let root = self.root.clone();
        // With the default features, as somebody would who has just found the crate.
        self.step(QUICKSTART, None, || run(cargo(&root).args(["run", "--example", "quickstart"])));
        if self.selection.quick {
            self.not_run(RESTART, Some(Registry::Memory), QUICK);
        } else {
            self.step(RESTART, Some(Registry::Memory), || {
                // The features of the step that has compiled the examples.
                run(cargo(&root).args(["run", "--all-features", "--example", "rolling_restart"]))
            });
        }
        let Supplies { etcd, consul, eureka, nacos, apart, .. } = supplies;
        for (registry, supply, apart) in [
            (Registry::Etcd, etcd, None),
            (Registry::Consul, consul, None),
            (Registry::Eureka, eureka, None),
            (Registry::Nacos, nacos, apart.as_ref()),
        ] {
            for check in [QUICKSTART, RESTART] {
                self.story(check, registry, supply, apart);
            }
        }
    }

    fn story(&mut self, check: &str, registry: Registry, supply: &Supply, apart: Option<&Apart>) {
        let server: &Server = match supply {
            Supply::There(_) if self.selection.quick => return self.not_run(check, Some(registry), QUICK),
            Supply::There(server) => server,
            Supply::LeftOut(reason) => return self.not_run(check, Some(registry), reason),
            Supply::Absent => return self.not_run(check, Some(registry), "there is no server for it"),
        };
        let root = self.root.clone();
        self.step(check, Some(registry), || {
            let mut command = cargo(&root);
            command.arg("run");
            if let Some(apart) = apart {
                command.args(["--config", &apart.runner()]);
            }
            let example = check.trim_start_matches("example ");
            command.args(["--all-features", "--example", example, "--", "--registry"]);
            // No host: it starts a server of its own, as it is going to kill it.
            command.arg(format!("{}://", registry.name()));
            server.announce(&mut command);
            run(&mut command)?;
            Ok(Done { version: Some(server.version.to_string()), ..Done::default() })
        });
    }
}
