//! The vocabulary: what is published, asked for and found.
//!
//! Values are parsed once, at the edge, and are cheap to clone afterwards. Two rules apply to every name
//! (see [`name`](self) types): what *we* create is strict, what is *read* from a registry that others fill is
//! tolerant but bounded.

mod builder;
mod endpoint;
mod id;
mod instance;
mod metadata;
mod name;
mod record;
mod selector;
mod shape;
mod sketch;
mod status;
mod target;
mod weight;

pub use builder::InstanceBuilder;
pub use endpoint::Endpoint;
pub(crate) use endpoint::{check_dns_name, parse_port, split_port};
pub(crate) use id::KeyMap;
pub use id::{Incarnation, InstanceId, InstanceKey};
pub use instance::Instance;
pub use metadata::Metadata;
pub(crate) use name::is_deceptive;
pub use name::{Namespace, ServiceName};
pub(crate) use record::MAX_RECORD;
pub use record::{
    RecordVersion, decode_quoted_record, decode_quoted_record_among, decode_record, decode_record_among,
    decode_record_beside, encode_record,
};
pub use selector::Selector;
pub use sketch::Sketch;
pub use status::Status;
pub use target::Target;
pub use weight::Weight;

#[cfg(test)]
mod tests;
