//! The pieces of JSON that backends read, borrowed from the body as far as they can be, as lists have thousands of each.

#[cfg(any(feature = "consul", feature = "nacos"))]
mod elements;
#[cfg(feature = "eureka")]
mod leading;
#[cfg(feature = "eureka")]
mod object;
#[cfg(feature = "nacos")]
mod pairs;
#[cfg(feature = "nacos")]
mod pieces;
#[cfg(any(feature = "eureka", feature = "nacos"))]
mod plain;
#[cfg(any(feature = "eureka", feature = "nacos"))]
mod scalar;
mod space;
#[cfg(any(feature = "consul", feature = "nacos"))]
mod text;

#[cfg(any(feature = "consul", feature = "nacos"))]
pub(crate) use self::elements::{Element, Elements};
#[cfg(feature = "eureka")]
pub(crate) use self::leading::leading;
#[cfg(feature = "eureka")]
pub(crate) use self::object::Object;
#[cfg(feature = "nacos")]
pub(crate) use self::pairs::Pairs;
#[cfg(feature = "nacos")]
pub(crate) use self::pieces::{Array, Pieces};
#[cfg(any(feature = "eureka", feature = "nacos"))]
pub(crate) use self::plain::Plain;
#[cfg(any(feature = "eureka", feature = "nacos"))]
pub(crate) use self::scalar::Scalar;
#[cfg(any(feature = "consul", feature = "eureka"))]
pub(crate) use self::space::trim;
pub(crate) use self::space::trim_start;
#[cfg(any(feature = "consul", feature = "nacos"))]
pub(crate) use self::text::Text;
