//! Two Eureka servers that replicate to each other.

use std::io;

use futures_util::future::try_join_all;

use super::options::EurekaBuilder;
use super::single::Eureka;
use crate::proxy::Proxy;
use crate::server::ServerError;

/// Two Eureka servers: what one is told, it tells the other. Dropping it ends both.
#[derive(Debug)]
pub struct EurekaPeers {
    nodes: [Eureka; 2],
    /// What stands between them, the way to the first one first.
    links: Option<[Proxy; 2]>,
}

impl EurekaPeers {
    /// Starts two with the default options.
    ///
    /// # Errors
    ///
    /// When there is no server or no Java, or one is not ready after 60 s.
    pub async fn start() -> Result<Self, ServerError> {
        Eureka::builder().start_peers().await
    }

    pub(crate) async fn begin(options: &EurekaBuilder) -> Result<Self, ServerError> {
        let nodes = [Eureka::prepare("a", options)?, Eureka::prepare("b", options)?];
        let mut dialled = [nodes[0].address(), nodes[1].address()];
        let mut links = None;
        if options.proxied {
            let failed = |error: io::Error| ServerError::new("start of peer proxies").with_source(error);
            let between = [
                Proxy::start(dialled[0]).await.map_err(failed)?,
                Proxy::start(dialled[1]).await.map_err(failed)?,
            ];
            dialled = [between[0].address(), between[1].address()];
            links = Some(between);
        }
        nodes[0].replicate_to(dialled[1]);
        nodes[1].replicate_to(dialled[0]);
        try_join_all(nodes.iter().map(Eureka::begin)).await?;
        Ok(Self { nodes, links })
    }

    /// Both.
    pub fn nodes(&self) -> &[Eureka] {
        &self.nodes
    }

    /// One of them, 0 or 1.
    ///
    /// # Panics
    ///
    /// With any other number.
    pub fn node(&self, index: usize) -> &Eureka {
        &self.nodes[index]
    }

    /// The URL a client is given: both in one.
    pub fn url(&self) -> String {
        format!("eureka://{},{}", self.nodes[0].address(), self.nodes[1].address())
    }

    /// Cuts the two off from each other; clients still reach both.
    ///
    /// # Errors
    ///
    /// When they were started without [`EurekaBuilder::peer_proxies`].
    pub async fn part(&self) -> Result<(), ServerError> {
        for link in self.links()? {
            link.cut().await;
        }
        Ok(())
    }

    /// Ends the parting.
    ///
    /// # Errors
    ///
    /// When they were started without [`EurekaBuilder::peer_proxies`].
    pub async fn heal(&self) -> Result<(), ServerError> {
        for link in self.links()? {
            link.restore().await;
        }
        Ok(())
    }

    fn links(&self) -> Result<&[Proxy; 2], ServerError> {
        self.links.as_ref().ok_or_else(|| ServerError::new("parting of eureka peers without `peer_proxies`"))
    }
}
