//! The fault rows on the memory backend, the oracle: on the paused clock, without a server.

mod scripted;
mod support;
mod world;

mod herd;
mod interleavings;
mod lists;
mod observers;
mod outages;
