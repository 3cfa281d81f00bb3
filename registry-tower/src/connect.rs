//! From an instance to the service that talks to it.

use std::{error::Error as StdError, fmt};

use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use registry_core::{Endpoint, Instance};

use crate::BoxError;

/// Makes the service that talks to one instance: a connection, or a pool of them, that is opened when it is needed.
///
/// Called once in the life of an instance, when the first request goes there. What it returns is cloned for each
/// request and dropped when the instance leaves, which should close the connections that are idle then.
///
/// A closure is one:
///
/// ```
/// # use registry_core::{Endpoint, Instance};
/// # use registry_tower::{BoxError, Connect};
/// # #[derive(Clone)] struct Pool(std::net::SocketAddr);
/// fn by_address() -> impl Connect<Service = Pool> {
///     |_: &Instance, endpoint: &Endpoint| -> Result<Pool, BoxError> {
///         endpoint.socket_addr().map(Pool).ok_or_else(|| "names are not resolved here".into())
///     }
/// }
/// ```
pub trait Connect: Send + Sync + 'static {
    /// What talks to one instance.
    type Service: Clone + Send + 'static;

    /// The endpoint to use, of an instance that has several; the preferred one by default.
    fn endpoint<'a>(&self, instance: &'a Instance) -> &'a Endpoint {
        instance.endpoint()
    }

    /// The service of an endpoint. Must not wait: it is called while a request is.
    ///
    /// # Errors
    /// Why there can be none; the request then goes to another instance, and nobody is blamed.
    fn connect(&self, instance: &Instance, endpoint: &Endpoint) -> Result<Self::Service, BoxError>;
}

impl<F, S> Connect for F
where
    F: Fn(&Instance, &Endpoint) -> Result<S, BoxError> + Send + Sync + 'static,
    S: Clone + Send + 'static,
{
    type Service = S;

    fn connect(&self, instance: &Instance, endpoint: &Endpoint) -> Result<S, BoxError> {
        self(instance, endpoint)
    }
}

/// Marks an error of an attempt whose request certainly was not processed: no connection, or refused as a whole.
///
/// A [`Connect`]'s service that can tell wraps its errors into this; they are then retried whatever the request is. Errors
/// that it doesn't wrap count as those of a request that may have been processed.
#[derive(Debug)]
pub struct NotSent(BoxError);

impl NotSent {
    /// Marks an error.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// Whether this error, or what caused it, is a `NotSent`.
    ///
    /// Nothing else counts: even "connection refused" or "no route to host" may be said of a connection that stood, after
    /// the request arrived, when an ICMP message says so.
    #[must_use]
    pub fn is_in(error: &(dyn StdError + 'static)) -> bool {
        has::<Self>(error)
    }
}

/// Marks an error of an attempt that says nothing about the instance, and that another instance can't mend.
#[cfg(feature = "tonic")]
#[derive(Debug)]
pub(crate) struct Blameless(BoxError);

#[cfg(feature = "tonic")]
impl Blameless {
    pub(crate) fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    pub(crate) fn is_in(error: &(dyn StdError + 'static)) -> bool {
        has::<Self>(error)
    }
}

#[cfg(feature = "tonic")]
impl fmt::Display for Blameless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "tonic")]
impl StdError for Blameless {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// Whether this error, or what caused it, is of this type.
fn has<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    // An io error's source is its content's source, and not its content.
    let within = |error: &(dyn StdError + 'static)| {
        error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref).is_some_and(|e| e.is::<E>())
    };
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<E>() || within(error))
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not sent")
    }
}

impl StdError for NotSent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// Where requests to an endpoint go.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    scheme: Scheme,
    authority: Authority,
}

impl Destination {
    pub(crate) fn of(endpoint: &Endpoint) -> Result<Self, BoxError> {
        let scheme = match endpoint.scheme() {
            "https" | "grpcs" | "tls" | "wss" => Scheme::HTTPS,
            _ => Scheme::HTTP,
        };
        Ok(Self { scheme, authority: Authority::from_maybe_shared(endpoint.authority())? })
    }

    /// The same resource there.
    pub(crate) fn resolve(&self, uri: &Uri) -> Uri {
        let mut parts = uri.clone().into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        Uri::from_parts(parts).expect("it has a scheme, an authority and a path")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_keeps_its_path_and_gets_the_endpoints_scheme_and_authority() {
        for (endpoint, uri, expected) in [
            ("http://10.0.0.7:8080", "http://orders/lines?of=7", "http://10.0.0.7:8080/lines?of=7"),
            (
                "grpc://[fd00::7]:9000",
                "/greeter.Greeter/SayHello",
                "http://[fd00::7]:9000/greeter.Greeter/SayHello",
            ),
            ("https://orders.example:443", "http://orders", "https://orders.example:443/"),
            ("tcp://orders:80", "https://user@orders:1/", "http://orders:80/"),
        ] {
            let destination = Destination::of(&endpoint.parse().unwrap()).unwrap();
            assert_eq!(destination.resolve(&uri.parse().unwrap()).to_string(), expected);
            // As in `OPTIONS *`.
            assert_eq!(destination.resolve(&"*".parse().unwrap()).path(), "*");
        }
    }

    #[test]
    fn an_error_that_says_the_request_was_not_sent_is_found_among_its_causes() {
        use std::io;
        let outer = io::Error::other(NotSent::new("no route"));
        assert!(NotSent::is_in(&NotSent::new("refused")));
        assert!(NotSent::is_in(&outer));
        // A connection that stood may say these too, of a request that arrived.
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::HostUnreachable] {
            assert!(!NotSent::is_in(&io::Error::from(kind)), "{kind}");
        }
    }
}
