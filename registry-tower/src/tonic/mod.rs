//! gRPC with tonic: a balanced channel for clients, and a server that leaves cleanly.

mod channel;
#[cfg(feature = "tonic-server")]
mod counted;
mod deadline;
#[cfg(feature = "tonic-server")]
mod health;
#[cfg(feature = "tonic-server")]
mod incoming;
mod link;
mod probe;
mod rules;
mod sent;
#[cfg(feature = "tonic-server")]
mod server;
mod status;
mod transport;

pub use self::{
    channel::{GrpcChannel, GrpcChannelBuilder},
    probe::GrpcProbe,
    rules::ClassifyTonic,
    transport::GrpcTransport,
};
#[cfg(feature = "tonic-server")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic-server")))]
pub use self::{
    counted::{CountLayer, Counted},
    server::GrpcServer,
};
