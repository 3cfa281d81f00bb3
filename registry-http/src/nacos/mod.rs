//! The Nacos backend, over Nacos' HTTP API.
//!
//! | | 1.x | 2.x | 3.x |
//! |---|---|---|---|
//! | register, beat, deregister | v1 | v2, else v1 | v3 |
//! | list | v1 | v1 | v1 while the server has it (it pushes, and tells of protection), else v3 |
//! | services | v1 names | v1 catalog | v3 admin |
//! | one instance that no list has | v1 | v2, else v1 | v3 admin |
//!
//! Which of these a server has is asked once, and again when an answer says that it has changed.
//!
//! What is special about Nacos:
//!
//! - An instance *is* its address: two ids at one address of a service are one record. The second is refused with
//!   [`Conflict`](registry_core::ErrorKind::Conflict) while this client holds the first.
//! - Its address is the first endpoint whose host is an IP address. Where there is none, the first host name is
//!   registered as it is: servers take any text there, and consumers resolve it.
//! - Our status, further endpoints, tags and so on ride in its metadata under `sr.`; `version` and `zone` under those
//!   names. Whoever isn't serving has weight 0, which other fleets' consumers leave alone.
//! - Metadata is limited to 1,024 characters, which includes ours; see [`NacosConfig`].
//! - The server looks for silent instances every 5 s. One that isn't renewed is unhealthy, and so gone for consumers,
//!   from 0 to 5 s after its time to live, and deleted after twice that time. Nothing below 5 s is honoured.
//! - Beats are light: a server that doesn't know the instance says so, and it is lost. Servers of 1.0, and 1.x and 2.x
//!   with `lightBeatEnabled` off, get full ones, by which they register whom they don't know: there a loss isn't noticed
//!   but mended. A removal waits for those on their way. One whose answer never came may still be carried out after the
//!   removal; nobody beats for what comes of it, so it is gone after the time above.
//! - Lists show a change up to about a second later, also to the client that made it.
//! - Below a service's protection threshold a list calls everybody healthy, and everybody is used: a look, a watch and
//!   every other client see the same, and the balancer leaves out who doesn't answer. Lists of v1 tell, which is logged.
//! - An operator who disables an instance wins: it vanishes from lists, whatever is registered. It isn't
//!   told as lost, as it is asked for by itself. 3.x answers that to operators only; for whoever isn't one, an instance
//!   whose beats that server takes is there, which the log says once. Of a persistent one, which nobody beats for, only an
//!   operator's login tells: without it, a disabled one is lost and recovered with each audit.

mod answer;
mod api;
mod auth;
#[doc(hidden)]
pub mod bench;
mod catalogue;
mod codec;
mod config;
mod connect;
mod discovery;
mod eras;
mod error;
mod host;
mod journal;
mod lease;
mod lists;
mod login;
mod mark;
mod names;
mod push;
mod registry;
mod session;
mod standing;
mod watch;

pub use config::{ApiChoice, NacosConfig};
pub use connect::NacosConnector;

/// The name of this backend in errors, logs and labels.
pub(crate) const NAME: &str = "nacos";
