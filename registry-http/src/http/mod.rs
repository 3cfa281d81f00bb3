//! What the backends over HTTP share: one client, bounded in time and size, over several servers.

mod abreast;
mod answer;
mod body;
mod call;
mod config;
mod credentials;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod lane;
mod path;
mod pool;
mod servers;

pub(crate) use self::abreast::abreast;
#[cfg(all(test, feature = "eureka"))]
pub(crate) use self::config::SHARED_OPTIONS;
#[cfg(feature = "nacos")]
pub(crate) use self::credentials::LONGEST_LIFE;
#[cfg(feature = "eureka")]
pub(crate) use self::error::Cause;
pub(crate) use self::{
    answer::Answer,
    call::Call,
    config::{Common, invalid},
    credentials::Credentials,
    error::{said, status_error},
    path::Path,
    servers::Servers,
};
