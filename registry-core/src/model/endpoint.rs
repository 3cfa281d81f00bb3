//! Where an instance can be reached.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use super::name::{invalid, is_deceptive};
use crate::Error;

/// One address of an instance: scheme, host and port, such as `http://10.0.0.7:8080` or `grpc://[::1]:9000`.
///
/// The scheme is the application's word for the protocol; this crate gives it no meaning beyond the ports that
/// `http` (80) and `https` (443) imply. Without a scheme, `host:port` reads as `tcp://host:port`.
#[derive(Clone)]
pub struct Endpoint(Repr);

/// 16 bytes either way. Every endpoint has one form only: what fits the first is never in the second.
#[derive(Clone)]
enum Repr {
    /// What nearly all are, without an allocation; the scheme by its place in [`KNOWN`].
    V4 {
        scheme: u8,
        port: u16,
        ip: Ipv4Addr,
    },
    Other(Arc<Parts>),
}

struct Parts {
    scheme: Box<str>,
    host: Host,
    port: u16,
}

enum Host {
    Ip(IpAddr),
    Name(Box<str>),
}

/// A host as it compares: addresses before names.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
enum HostRef<'a> {
    Ip(IpAddr),
    Name(&'a str),
}

/// The schemes that need no text of their own.
const KNOWN: [&str; 16] = [
    "http", "https", "tcp", "tls", "udp", "grpc", "grpcs", "h2c", "ws", "wss", "thrift", "dubbo", "redis",
    "amqp", "mqtt", "quic",
];

impl Endpoint {
    /// Builds an endpoint from its parts; an IPv6 literal may stand with or without brackets.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the scheme is not a URL scheme, the
    /// host is neither an IP address nor a DNS name, or the port is 0.
    pub fn new(scheme: &str, host: &str, port: u16) -> Result<Self, Error> {
        if let Some(plain) = Self::plain(scheme, host, port) {
            return Ok(plain);
        }
        let whole = format!("{scheme}://{host}:{port}");
        refuse_credentials(&whole)?;
        check_scheme(&whole, scheme)?;
        let host = parse_host(&whole, host)?;
        if port == 0 {
            return Err(invalid("endpoint", &whole, "has port 0; ports are 1 to 65535"));
        }
        Ok(Self::of(scheme, host, port))
    }

    /// What nearly all are, told at a glance, as lists of thousands are read: a known scheme, an IPv4 address, a port.
    fn plain(scheme: &str, host: &str, port: u16) -> Option<Self> {
        let scheme = KNOWN.iter().position(|known| *known == scheme)?;
        let ip = host.parse().ok().filter(|_| port > 0)?;
        Some(Self(Repr::V4 { scheme: u8::try_from(scheme).ok()?, port, ip }))
    }

    /// The same of a whole URL.
    fn plain_url(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (host, port) = rest.rsplit_once(':')?;
        Self::plain(scheme, host, port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??)
    }

    /// From parts that were checked.
    fn of(scheme: &str, host: Host, port: u16) -> Self {
        let known = KNOWN.iter().position(|known| known.eq_ignore_ascii_case(scheme));
        if let (Some(known), &Host::Ip(IpAddr::V4(ip))) = (known, &host) {
            let scheme = u8::try_from(known).expect("there are few known schemes");
            return Self(Repr::V4 { scheme, port, ip });
        }
        Self(Repr::Other(Arc::new(Parts { scheme: scheme.to_ascii_lowercase().into(), host, port })))
    }

    /// In the order in which endpoints compare.
    fn parts(&self) -> (&str, HostRef<'_>, u16) {
        let host = match &self.0 {
            Repr::V4 { ip, .. } => HostRef::Ip(IpAddr::V4(*ip)),
            Repr::Other(parts) => match &parts.host {
                Host::Ip(ip) => HostRef::Ip(*ip),
                Host::Name(name) => HostRef::Name(name),
            },
        };
        (self.scheme(), host, self.port())
    }

    /// The scheme, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match &self.0 {
            Repr::V4 { scheme, .. } => KNOWN[usize::from(*scheme)],
            Repr::Other(parts) => &parts.scheme,
        }
    }

    /// The host: an IP address without brackets, or a DNS name.
    #[must_use]
    pub fn host(&self) -> String {
        match self.parts().1 {
            HostRef::Ip(ip) => ip.to_string(),
            HostRef::Name(name) => name.to_owned(),
        }
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.0 {
            Repr::V4 { port, .. } => *port,
            Repr::Other(parts) => parts.port,
        }
    }

    /// The IP address, if the host is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.parts().1 {
            HostRef::Ip(ip) => Some(ip),
            HostRef::Name(_) => None,
        }
    }

    /// The socket address, if the host is an IP address.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.ip().map(|ip| SocketAddr::new(ip, self.port()))
    }

    /// `host:port`, with an IPv6 address in brackets: what a dialler takes.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.parts() {
            (_, HostRef::Ip(ip), port) => SocketAddr::new(ip, port).to_string(),
            (_, HostRef::Name(name), port) => format!("{name}:{port}"),
        }
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Endpoint {}

impl PartialOrd for Endpoint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Endpoint {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(plain) = Self::plain_url(text) {
            return Ok(plain);
        }
        refuse_credentials(text)?;
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(invalid("endpoint", text, "has a path or query; an endpoint is scheme://host:port"));
        }
        check_scheme(text, scheme)?;
        let (host, port) = split_port(text, rest)?;
        let port = match port {
            Some(port) => parse_port(text, port)?,
            None if scheme.eq_ignore_ascii_case("http") => 80,
            None if scheme.eq_ignore_ascii_case("https") => 443,
            None => return Err(invalid("endpoint", text, "has no port")),
        };
        Ok(Self::of(scheme, parse_host(text, host)?, port))
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (scheme, HostRef::Ip(ip), port) => write!(f, "{scheme}://{}", SocketAddr::new(ip, port)),
            (scheme, HostRef::Name(name), port) => write!(f, "{scheme}://{name}:{port}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Comes before all other checks, as their messages repeat the text.
fn refuse_credentials(text: &str) -> Result<(), Error> {
    if text.contains('@') {
        return Err(Error::invalid("an endpoint must not hold credentials: scheme://host:port"));
    }
    Ok(())
}

/// Splits `host:port`, `[v6]:port`, `host` or `[v6]`.
pub(crate) fn split_port<'a>(whole: &str, authority: &'a str) -> Result<(&'a str, Option<&'a str>), Error> {
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return Err(invalid("address", whole, "opens '[' without closing it"));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(invalid("address", whole, "has a malformed IPv6 address"));
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(invalid("address", whole, "has text between ']' and the port")),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err(invalid("address", whole, "holds an IPv6 address without brackets"))
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// Parses a decimal port from 1 to 65535.
pub(crate) fn parse_port(whole: &str, port: &str) -> Result<u16, Error> {
    // `u16::from_str` would take "+80".
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid("address", whole, "has a port that is not a number"));
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err(invalid("address", whole, "has a port outside 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

fn check_scheme(whole: &str, scheme: &str) -> Result<(), Error> {
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.len() <= 32
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !valid {
        return Err(invalid("endpoint", whole, "has no valid scheme"));
    }
    Ok(())
}

fn parse_host(whole: &str, host: &str) -> Result<Host, Error> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    if bare.contains(':') {
        return Err(invalid("endpoint", whole, "has a malformed IPv6 address"));
    }
    check_dns_name(whole, bare)?;
    Ok(Host::Name(bare.to_ascii_lowercase().into()))
}

/// RFC 1123 host names, plus the underscore that container platforms use.
pub(crate) fn check_dns_name(whole: &str, host: &str) -> Result<(), Error> {
    if host.is_empty() {
        return Err(invalid("address", whole, "has no host"));
    }
    if host.len() > 253 || host.chars().any(is_deceptive) {
        return Err(invalid("address", whole, "has a host that is not a DNS name"));
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    // No top-level domain is a number (RFC 3696, section 2), so this is an IPv4 address with a slip in it. A name
    // of one label may be one: containers are named by digits.
    if host.contains('.')
        && labels.clone().all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(invalid("address", whole, "has a malformed IPv4 address"));
    }
    for label in labels {
        let valid = !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !valid {
            return Err(invalid("address", whole, "has a host that is not a DNS name"));
        }
    }
    Ok(())
}
