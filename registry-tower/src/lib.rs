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
mod discover;
#[cfg(feature = "tower")]
mod drain;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(any(feature = "hyper", feature = "tonic-server"))]
mod listen;
#[cfg(feature = "tower")]
mod outcome;
#[cfg(feature = "tower")]
mod replay;
#[cfg(feature = "reqwest")]
mod reqwest;
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
    body::{BodyFault, End, Guard, Until},
    classify::{Classify, ClassifyGrpc, ClassifyHttp, Idempotent, Verdict},
    connect::{Connect, NotSent},
    discover::Discovered,
    drain::{Answering, Counted, DrainLayer, Draining},
    outcome::{OutcomeLayer, Reporting},
    replay::Replay,
    service::{Balanced, Cause, OpenAnswer, ServiceError},
};

#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use self::hyper::{HttpConnect, HttpPool, HttpProbe, Server};
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub use self::reqwest::{RequestError, ServiceClient, ServiceRequest};

/// Any error of somebody else's.
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
