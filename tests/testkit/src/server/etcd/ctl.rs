//! `etcdctl` as a child process with a bound.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::options::Certificates;
use crate::server::ServerError;

/// What etcd itself may take for one command.
const COMMAND: Duration = Duration::from_secs(3);
/// The bound on the whole call, beyond etcdctl's own.
const CALL: Duration = Duration::from_secs(6);

/// Looks at an etcd and changes it, beside the client under test.
///
/// Calls fail after 6 s at the latest.
#[derive(Clone)]
pub struct Etcdctl {
    binary: PathBuf,
    endpoints: Vec<SocketAddr>,
    certificates: Option<Certificates>,
    user: Option<(String, String)>,
}

impl Etcdctl {
    /// User and password of the administrator when authentication is on.
    pub const ROOT: (&'static str, &'static str) = ("root", "root-password");

    pub(crate) fn new(
        binary: PathBuf,
        endpoints: Vec<SocketAddr>,
        certificates: Option<Certificates>,
    ) -> Self {
        Self { binary, endpoints, certificates, user: None }
    }

    /// The same through another address, such as a [`Proxy`](crate::Proxy)'s. (A second `--endpoints` among the
    /// arguments of [`run`](Self::run) would add to the first.)
    #[must_use]
    pub fn via(mut self, address: SocketAddr) -> Self {
        self.endpoints = vec![address];
        self
    }

    /// The same as another user.
    #[must_use]
    pub fn with_user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// The same without a user.
    #[must_use]
    pub fn without_user(mut self) -> Self {
        self.user = None;
        self
    }

    /// Runs `etcdctl` with `args` and gives its stdout.
    ///
    /// # Errors
    ///
    /// When it fails or takes too long; [`ServerError::output`] has what it said.
    ///
    /// # Cancel safety
    ///
    /// The process is killed; what it asked for may have happened.
    pub async fn run(&self, args: &[&str]) -> Result<String, ServerError> {
        self.run_with_input(args, b"").await
    }

    pub(crate) async fn run_with_input(&self, args: &[&str], input: &[u8]) -> Result<String, ServerError> {
        let attempted = || format!("etcdctl {}", args.join(" "));
        let failed = |error| ServerError::new(attempted()).with_source(error);
        let call = async {
            let mut child = self.command(args).spawn().map_err(failed)?;
            if let Some(mut stdin) = child.stdin.take() {
                // It may end without reading; its status says what happened.
                let _ = stdin.write_all(input).await;
            }
            child.wait_with_output().await.map_err(failed)
        };
        let Ok(output) = timeout(CALL, call).await else {
            return Err(ServerError::new(format!("{}: no end after {CALL:?}", attempted())));
        };
        let output = output?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(ServerError::new(format!("{}: {}", attempted(), output.status))
                .with_output(String::from_utf8_lossy(&output.stderr)))
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let endpoints: Vec<String> = self.endpoints.iter().map(|endpoint| self.url(*endpoint)).collect();
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            // Some are fatal beside the flag of the same meaning.
            if name.as_encoded_bytes().starts_with(b"ETCDCTL_") {
                command.env_remove(name);
            }
        }
        command.arg(format!("--endpoints={}", endpoints.join(",")));
        command.arg(format!("--command-timeout={}s", COMMAND.as_secs()));
        if let Some(certificates) = &self.certificates {
            command.arg("--cacert").arg(certificates.server.ca().cert());
            if let Some(client) = &certificates.client {
                command.arg("--cert").arg(client.cert()).arg("--key").arg(client.key());
            }
        }
        if let Some((name, password)) = &self.user {
            // By the environment: arguments are for everybody on the machine to read.
            command.env("ETCDCTL_USER", name).env("ETCDCTL_PASSWORD", password);
        }
        command.args(args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn url(&self, endpoint: SocketAddr) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{endpoint}")
    }
}

impl fmt::Debug for Etcdctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(name, _)| name);
        f.debug_struct("Etcdctl")
            .field("endpoints", &self.endpoints)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}
