//! Which of our own addresses others should dial.
//!
//! An explicit address always wins. Otherwise it is the local address of the route to the registry: whoever finds
//! us through that registry most likely shares that network. `0.0.0.0` and `::` are never advertised; loopback only
//! when the registry itself is on loopback or in the process.

use std::net::{IpAddr, Ipv4Addr};

use tokio::net::UdpSocket;

use crate::{Error, ErrorKind, model::Instance};

/// Replaces wildcard hosts of `instance` by an address that others can dial.
pub(crate) async fn advertise(
    instance: Instance,
    explicit: Option<IpAddr>,
    registry: &[String],
) -> Result<Instance, Error> {
    if !instance.has_wildcard_endpoint() {
        return Ok(instance);
    }
    let ip = match explicit {
        Some(ip) => ip,
        None => routed(registry).await?,
    };
    if ip.is_unspecified() {
        return Err(Error::invalid("the advertised address must not be a wildcard such as 0.0.0.0"));
    }
    Ok(instance.with_advertised_ip(ip))
}

/// The local address of the route to the first registry address that has one.
async fn routed(registry: &[String]) -> Result<IpAddr, Error> {
    if registry.is_empty() {
        // In-process: nobody outside this process can find the record.
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let mut cause = None;
    for authority in registry {
        match route_to(authority).await {
            Ok(ip) => return Ok(ip),
            Err(error) => cause = Some(error),
        }
    }
    let error = Error::new(
        ErrorKind::InvalidArgument,
        "the instance listens on a wildcard address and no route to the registry tells which to advertise; \
         give an explicit endpoint or advertised address",
    );
    Err(match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    })
}

/// Connecting a UDP socket sends nothing; it only asks the kernel for the route.
async fn route_to(authority: &str) -> std::io::Result<IpAddr> {
    let mut cause = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host(authority).await? {
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = match UdpSocket::bind(local).await {
            Ok(socket) => socket,
            // An address family that is switched off; the other may do.
            Err(error) => {
                cause = error;
                continue;
            }
        };
        match socket.connect(address).await.and_then(|()| socket.local_addr()) {
            Ok(local) if !local.ip().is_unspecified() => return Ok(local.ip()),
            Ok(_) => {}
            Err(error) => cause = error,
        }
    }
    Err(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wildcard() -> Instance {
        Instance::builder("orders").socket_addr("http", "0.0.0.0:8080".parse().unwrap()).build().unwrap()
    }

    #[tokio::test]
    async fn an_explicit_endpoint_is_left_alone() {
        let instance = Instance::new("orders", "http://10.0.0.7:8080").unwrap();
        let advertised = advertise(instance.clone(), Some([10, 9, 9, 9].into()), &[]).await.unwrap();
        assert_eq!(advertised, instance);
    }

    #[tokio::test]
    async fn an_explicit_address_replaces_the_wildcard() {
        let advertised =
            advertise(wildcard(), Some([10, 9, 9, 9].into()), &["127.0.0.1:1".to_owned()]).await.unwrap();
        assert_eq!(advertised.endpoint().to_string(), "http://10.9.9.9:8080");
    }

    #[tokio::test]
    async fn a_wildcard_is_never_advertised_even_when_asked() {
        let error = advertise(wildcard(), Some(Ipv4Addr::UNSPECIFIED.into()), &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[tokio::test]
    async fn a_registry_on_loopback_is_reached_from_loopback() {
        let advertised = advertise(wildcard(), None, &["127.0.0.1:2379".to_owned()]).await.unwrap();
        assert_eq!(advertised.endpoint().to_string(), "http://127.0.0.1:8080");
    }

    #[tokio::test]
    async fn an_ipv6_wildcard_takes_the_address_of_the_route() {
        let instance =
            Instance::builder("orders").socket_addr("http", "[::]:8080".parse().unwrap()).build().unwrap();
        let advertised = advertise(instance, None, &["127.0.0.1:2379".to_owned()]).await.unwrap();
        assert_eq!(advertised.endpoint().to_string(), "http://127.0.0.1:8080");
    }

    #[tokio::test]
    async fn without_a_route_the_error_says_what_to_do() {
        let error = advertise(wildcard(), None, &["no-such-host.invalid:2379".to_owned()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("explicit endpoint"), "{error}");
    }
}
