//! The machine on virtual time against a model of a registry, and its task on tokio's paused clock.
//!
//! [`sim`] carries the machine's actions out on [`model`], a registry with faults on command, and asks the
//! [`rules`] (R1 to R7) after every step; the other files are what must be true of it.

mod duplicates;
mod exhaustive;
mod herd;
mod late;
mod life;
mod looks;
mod loss;
mod missing;
mod model;
mod pacing;
mod prompt;
mod properties;
mod refusals;
mod renewal;
mod rules;
mod sim;
mod sleep;
mod task;
mod verbs;
mod withdraw;
