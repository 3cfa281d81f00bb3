//! The fault rows on the memory backend, the oracle: on the paused clock, without a server.

mod scripted;
mod support;
mod world;

mod balance;
mod clocks;
mod disk;
mod drains;
mod endings;
pub(crate) mod executor;
mod flapping;
mod garbage;
mod herd;
mod interleavings;
mod lists;
mod network;
mod observers;
mod outages;
mod places;
mod refusals;
mod rivals;
