//! `consul` as a command, for what an operator does.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::agent::Consul;
use crate::server::ServerError;

/// The bound on a call.
const CALL: Duration = Duration::from_secs(6);

impl Consul {
    /// Runs `consul ARGS…` for this server, with [`MANAGEMENT`](Self::MANAGEMENT) when access control is on; what it
    /// prints. An `-http-addr` among the arguments is stronger than the server's own.
    ///
    /// # Errors
    ///
    /// When it fails or takes longer than 6 s, with what it printed.
    pub async fn run(&self, args: &[&str]) -> Result<String, ServerError> {
        let failed = || ServerError::new(format!("consul {}", args.join(" ")));
        let mut command = Command::new(self.binary());
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"CONSUL_") {
                command.env_remove(name);
            }
        }
        command.args(args).env("CONSUL_HTTP_ADDR", self.address().to_string());
        if self.has_acl() {
            command.env("CONSUL_HTTP_TOKEN", Self::MANAGEMENT);
        }
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(CALL, output)
            .await
            .map_err(|_| failed().with_source(format!("no end within {CALL:?}")))?
            .map_err(|error| failed().with_source(error))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(printed)
        } else {
            Err(failed().with_output(format!("{printed}{}", String::from_utf8_lossy(&output.stderr))))
        }
    }
}
