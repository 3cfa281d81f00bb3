#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "_http")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "consul")]
#[cfg_attr(docsrs, doc(cfg(feature = "consul")))]
pub mod consul;
#[cfg(feature = "eureka")]
#[cfg_attr(docsrs, doc(cfg(feature = "eureka")))]
pub mod eureka;
#[cfg(feature = "_http")]
mod http;
#[cfg(feature = "_http")]
mod json;
#[cfg(feature = "nacos")]
#[cfg_attr(docsrs, doc(cfg(feature = "nacos")))]
pub mod nacos;
