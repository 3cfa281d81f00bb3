//! Nacos: one server of either line.

mod network;
mod options;
mod standalone;

pub use self::options::{NacosBuilder, NacosLine};
pub use self::standalone::Nacos;
