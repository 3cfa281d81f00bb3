//! What the backends over HTTP share: one client, bounded in time and size, over several servers.

mod answer;
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

#[cfg(feature = "nacos")]
pub(crate) use self::credentials::LONGEST_LIFE;
pub(crate) use self::{
    answer::Answer,
    call::Call,
    config::{Common, SHARED_OPTIONS, invalid},
    credentials::Credentials,
    error::{Cause, said, status_error},
    path::Path,
    servers::Servers,
};
