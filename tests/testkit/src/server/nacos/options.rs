//! How a Nacos is started.

use std::time::Duration;

use super::standalone::Nacos;
use crate::server::host::PORT_ATTEMPTS;
use crate::server::{ServerError, java};

/// A release line of Nacos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NacosLine {
    /// 2.5: the APIs v1 and v2.
    V2,
    /// 3.1: the API v3, and of v1 what clients call to register, renew and list. The rest of v1 and all of v2 are
    /// answered 410 unless `nacos.core.api.compatibility.admin.enabled` is set.
    V3,
}

impl NacosLine {
    /// Its name, as in `cargo xtask servers`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V2 => "nacos2",
            Self::V3 => "nacos3",
        }
    }
}

/// Options for a Nacos server.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct NacosBuilder {
    pub(crate) line: NacosLine,
    pub(crate) token_ttl: Option<Duration>,
    pub(crate) properties: Vec<(String, String)>,
}

impl NacosBuilder {
    pub(crate) const fn new(line: NacosLine) -> Self {
        Self { line, token_ttl: None, properties: Vec::new() }
    }

    /// Demands a token from clients; one lives for `token_ttl`, in whole seconds. The user is [`Nacos::ADMIN`]. Such a
    /// start takes up to 15 s longer: that often Nacos looks for users.
    pub fn auth(mut self, token_ttl: Duration) -> Self {
        self.token_ttl = Some(token_ttl);
        self
    }

    /// Sets a property of the server, such as `nacos.core.api.compatibility.admin.enabled`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    ///
    /// When there is no server or no Java, others could reach this machine (see [`Nacos`]), or it has not begun within
    /// 120 s, or is not ready 120 s later.
    pub async fn start(self) -> Result<Nacos, ServerError> {
        let turn = java::turn().await;
        let mut attempt = 1;
        let nacos = loop {
            let nacos = Nacos::prepare(&self)?;
            match nacos.begin().await {
                Ok(()) => break nacos,
                Err(error) if error.passes() && attempt < PORT_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        // Until it has noticed its users it does nothing that would keep another from starting.
        drop(turn);
        nacos.ready().await?;
        Ok(nacos)
    }
}
