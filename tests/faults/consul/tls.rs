//! Row 34: Consul speaks TLS itself, and reads its certificate again when it is told to.

use std::{fs, io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use registry_testkit::{Consul, Port, Scratch, ServerError, TestCert};
use serde_json::json;

use crate::live::{
    Server,
    tls::{Door, Guarded, unusable},
};

/// The files that the agent was told of.
struct Files {
    folder: Scratch,
    port: Port,
    consul: Arc<Consul>,
}

impl Files {
    fn place(folder: &Scratch, cert: &TestCert) -> Result<(), ServerError> {
        let copy = |from, name| fs::copy(from, folder.path().join(name)).map(drop);
        let placed: io::Result<()> =
            copy(cert.cert(), "server.pem").and_then(|()| copy(cert.key(), "server.key"));
        placed.map_err(unusable)
    }
}

#[async_trait(?Send)]
impl Door for Files {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    async fn show(&self, cert: &TestCert) -> Result<(), ServerError> {
        Self::place(&self.folder, cert)?;
        self.consul.api().put("/v1/agent/reload", "").await?.success().map(drop)
    }
}

/// An agent of its own: the others share one without TLS.
pub(super) async fn guarded(cert: &TestCert) -> Result<Guarded, ServerError> {
    let folder = Scratch::new("consul-tls").map_err(unusable)?;
    Files::place(&folder, cert)?;
    let port = Port::reserve().map_err(unusable)?;
    let file = |name: &str| folder.path().join(name);
    let https =
        json!({ "cert_file": file("server.pem"), "key_file": file("server.key"), "verify_incoming": false });
    port.release();
    let config = json!({ "ports": { "https": port.address().port() }, "tls": { "https": https } });
    let consul = Arc::new(Consul::builder().data().config(config).start().await?);
    let server: Arc<dyn Server> = Arc::clone(&consul) as _;
    Ok(Guarded { server, door: Box::new(Files { folder, port, consul }) })
}
