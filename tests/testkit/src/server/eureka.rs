//! Eureka: one server, or two that replicate.

mod options;
mod peers;
mod single;

pub use self::options::EurekaBuilder;
pub use self::peers::EurekaPeers;
pub use self::single::Eureka;
