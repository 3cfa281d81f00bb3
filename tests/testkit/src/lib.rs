#![doc = include_str!("../README.md")]

#[cfg(unix)]
mod proxy;

#[cfg(unix)]
pub use self::proxy::Proxy;
