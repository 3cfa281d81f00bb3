//! The registry that an example runs on: one that is there already, or one of its own.

use registry_testkit::{Consul, Etcd, Eureka, Nacos, NacosLine};

use crate::Result;

/// Which registry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Etcd,
    Consul,
    Eureka,
    Nacos,
}

/// Where it runs.
pub(crate) enum Place {
    /// Somewhere, at this host and port.
    Outside(String),
    Etcd(Box<Etcd>),
    Consul(Box<Consul>),
    Eureka(Box<Eureka>),
    Nacos(Box<Nacos>),
}

/// A registry that serves.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Etcd, Self::Consul, Self::Eureka, Self::Nacos];

    /// What its URLs begin with.
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Consul => "consul",
            Self::Eureka => "eureka",
            Self::Nacos => "nacos",
        }
    }

    /// What an example sets beside the time to live, as nobody wants to watch for half a minute how nothing happens:
    /// lists are read often, and records of ours too.
    const fn haste(self) -> &'static str {
        match self {
            Self::Etcd => "audit=2s",
            Self::Consul => "audit=2s&wait=2s&poll=1s",
            Self::Eureka => "audit=2s&poll=300ms",
            Self::Nacos => "audit=2s&poll=1s",
        }
    }

    /// The shortest time to live that it honours, in seconds.
    const fn least_ttl(self) -> u32 {
        match self {
            Self::Etcd | Self::Consul | Self::Eureka => 3,
            Self::Nacos => 5,
        }
    }
}

impl Server {
    /// Reads `consul://HOST:PORT`; `consul://` alone starts one that ends with the example, as `cargo xtask servers`
    /// has built it for the tests.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let scheme = |kind: &Kind| url.split_once("://").is_some_and(|(scheme, _)| scheme == kind.scheme());
        let kind = Kind::ALL.into_iter().find(scheme);
        let kind = kind.ok_or_else(|| format!("the example knows no such registry: {url:?}"))?;
        let address = url[kind.scheme().len() + "://".len()..].trim_end_matches('/');
        if address.contains(['/', ',', '@', '?']) {
            return Err(format!("the example needs a plain {0}://HOST:PORT or {0}://", kind.scheme()).into());
        }
        let place = match kind {
            _ if !address.is_empty() => Place::Outside(address.to_owned()),
            Kind::Etcd => Place::Etcd(Box::new(Etcd::start().await?)),
            Kind::Consul => Place::Consul(Box::new(Consul::start().await?)),
            Kind::Eureka => Place::Eureka(Box::new(Eureka::start().await?)),
            Kind::Nacos => Place::Nacos(Box::new(Nacos::start(NacosLine::V3).await?)),
        };
        Ok(Self { kind, place })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        match &self.place {
            Place::Outside(address) => address.clone(),
            Place::Etcd(etcd) => etcd.address().to_string(),
            Place::Consul(consul) => consul.address().to_string(),
            Place::Eureka(eureka) => eureka.address().to_string(),
            Place::Nacos(nacos) => nacos.address().to_string(),
        }
    }

    /// The URL of a namespace at `address`, which need not be the server's own: something may stand in between.
    pub(crate) fn url(&self, address: &str, namespace: &str, ttl_seconds: u32) -> String {
        let ttl = ttl_seconds.max(self.kind.least_ttl());
        format!("{}://{address}/{namespace}?ttl={ttl}s&{}", self.kind.scheme(), self.kind.haste())
    }
}
