//! The pieces of JSON that backends read, borrowed from the body as far as they can be, as lists have thousands of each.

#[cfg(any(feature = "consul", feature = "nacos"))]
mod elements;
#[cfg(feature = "eureka")]
mod object;
mod pairs;
#[cfg(any(feature = "eureka", feature = "nacos"))]
mod scalar;
#[cfg(any(feature = "consul", feature = "nacos"))]
mod text;

#[cfg(any(feature = "consul", feature = "nacos"))]
pub(crate) use self::elements::{Element, Elements};
#[cfg(feature = "eureka")]
pub(crate) use self::object::Object;
pub(crate) use self::pairs::Pairs;
#[cfg(any(feature = "eureka", feature = "nacos"))]
pub(crate) use self::scalar::Scalar;
#[cfg(any(feature = "consul", feature = "nacos"))]
pub(crate) use self::text::Text;
