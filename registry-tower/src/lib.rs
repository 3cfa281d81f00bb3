#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tower")]
mod body;
#[cfg(feature = "tower")]
mod cache;
#[cfg(feature = "tower")]
mod classify;
#[cfg(feature = "tower")]
mod connect;
#[cfg(feature = "tower")]
mod replay;
#[cfg(feature = "tower")]
mod service;
#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
pub mod tonic;

#[cfg(feature = "tower")]
#[cfg(test)]
mod world;

#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use self::{
    body::{End, Guard, Until},
    classify::{Classify, ClassifyGrpc, ClassifyHttp, Idempotent, Verdict},
    connect::{Connect, NotSent},
    replay::Replay,
    service::{Balanced, Cause, OpenAnswer, ServiceError},
};

/// Any error of somebody else's.
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
