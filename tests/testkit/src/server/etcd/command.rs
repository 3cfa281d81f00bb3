//! The flags an etcd is started with.

use std::net::SocketAddr;
use std::sync::PoisonError;

use super::member::Etcd;
use super::options::Certificates;
use crate::server::ProcessBuilder;

impl Etcd {
    pub(crate) fn command(&self) -> ProcessBuilder {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let url = |address: SocketAddr| format!("http://{address}");
        let members: Vec<String> =
            group.members.iter().map(|(name, peer)| format!("{name}={}", url(*peer))).collect();
        let own = group.members.iter().find(|(name, _)| *name == self.name);
        let dialled = own.map_or(self.peer.address(), |(_, peer)| *peer);
        let (heartbeat, election) = if self.alone { (10, 100) } else { (20, 200) };
        let mut command = ProcessBuilder::new(format!("etcd {}", self.name), &self.binaries.etcd)
            .hide_env("ETCD_")
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--listen-client-urls={}", self.url()))
            .arg(format!("--advertise-client-urls={}", self.url()))
            .arg(format!("--listen-peer-urls={}", url(self.peer.address())))
            .arg(format!("--initial-advertise-peer-urls={}", url(dialled)))
            .arg(format!("--initial-cluster={}", members.join(",")))
            .arg(format!("--initial-cluster-token={}", group.token))
            // The probe needs neither a certificate nor the way that a test may break.
            .arg(format!("--listen-metrics-urls={}", url(self.metrics.address())))
            .arg(format!("--heartbeat-interval={heartbeat}"))
            .arg(format!("--election-timeout={election}"))
            .args(["--log-level=warn", "--unsafe-no-fsync"]);
        if let Some(ttl) = self.options.token_ttl {
            command =
                command.arg(format!("--auth-token-ttl={}", ttl.as_secs().max(1))).arg("--bcrypt-cost=4");
        }
        if let Some(Certificates { server, client }) = &self.certificates {
            command = command
                .arg(format!("--cert-file={}", server.cert().display()))
                .arg(format!("--key-file={}", server.key().display()));
            if let Some(client) = client {
                command = command
                    .arg("--client-cert-auth")
                    .arg(format!("--trusted-ca-file={}", client.ca().cert().display()));
            }
        }
        command.args(&self.options.args)
    }
}
