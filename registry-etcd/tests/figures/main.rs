//! The faults whose bounds are promised in figures: a peer that falls silent (F1), a stream that breaks (F2), a history
//! that was compacted meanwhile (F3). Each measures, checks and, where the environment variable `FIGURES` names a
//! directory, leaves its lines there for `cargo xtask bench`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod broken_stream;
mod compaction;
mod dead_peer;
mod sampler;
mod sessions;
mod stage;
