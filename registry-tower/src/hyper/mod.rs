//! Servers and clients over hyper.

mod activity;
mod client;
mod connection;
mod probe;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    client::{HttpConnect, HttpPool},
    probe::HttpProbe,
    server::Server,
};
