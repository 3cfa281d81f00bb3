//! What the Nacos backend does on real servers of both lines, beside the conformance suite.
#![cfg(all(feature = "nacos", unix))]
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod auth;
mod faults;
mod operators;
mod pushes;
mod records;
mod support;
