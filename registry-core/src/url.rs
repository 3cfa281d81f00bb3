//! Registry URLs: several hosts, kept secrets, no unknown options.
//!
//! ```text
//! etcd+tls://user:p%40ss@10.0.0.1:2379,[fd00::1]:2379,etcd.example/prod/eu?ttl=15s
//! └scheme─┘  └─user info┘ └──────────────hosts──────────────────┘ └─path─┘ └options┘
//! ```
//!
//! A parser of our own, as RFC 3986 has one authority and `url::Url` rejects `a:1,b:2`. User info, path segments
//! and options are percent-decoded; `+` is a plus.

mod servers;

use std::{borrow::Cow, fmt, str::FromStr};

use percent_encoding::percent_decode_str;

use crate::{
    Credential, Error, Secret,
    model::{check_dns_name, is_deceptive, parse_port, split_port},
};

pub use servers::TlsFiles;

/// A parsed registry URL; its `Debug` and `Display` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUrl {
    scheme: String,
    user: Option<String>,
    password: Option<Secret>,
    hosts: Vec<HostPort>,
    path: Vec<String>,
    options: Vec<(String, String)>,
}

/// One host of a registry URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: Option<u16>,
}

impl HostPort {
    /// The host: a DNS name or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the URL names one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// `host:port` with IPv6 in brackets, using `default` where the URL names no port.
    #[must_use]
    pub fn authority(&self, default: u16) -> String {
        let port = self.port.unwrap_or(default);
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

impl RegistryUrl {
    /// The scheme in lower case, such as `etcd` or `etcd+tls`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether the scheme asks for TLS (`…+tls`).
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.scheme.ends_with("+tls")
    }

    /// The user name and password, if the URL holds a password; `:token@` is a bare token.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        let secret = self.password.clone()?;
        Some(Credential { user: self.user.clone(), secret, expires_in: None })
    }

    /// The user name, with or without a password.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The hosts in the order given; none for in-process registries.
    #[must_use]
    pub fn hosts(&self) -> &[HostPort] {
        &self.hosts
    }

    /// The decoded, non-empty path segments.
    #[must_use]
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// All options in the order given.
    pub fn options(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.options.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(k, _)| k == key).map(|(_, value)| &**value)
    }

    /// An option parsed by its type.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the option and what it `expects`.
    pub fn parsed_option<T: FromStr>(&self, key: &str, expects: &str) -> Result<Option<T>, Error> {
        self.option(key).map(|value| value.parse().map_err(|_| bad_option(key, expects))).transpose()
    }

    /// An option that is a duration such as `15s`, `500ms` or `1m 30s`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is not a duration.
    pub fn duration_option(&self, key: &str) -> Result<Option<std::time::Duration>, Error> {
        self.option(key)
            .map(|value| {
                humantime::parse_duration(value)
                    .map_err(|_| bad_option(key, "a duration such as 15s or 500ms"))
            })
            .transpose()
    }

    /// An option that is `true` or `false`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is neither.
    pub fn bool_option(&self, key: &str) -> Result<Option<bool>, Error> {
        self.parsed_option(key, "true or false")
    }

    /// Refuses options outside `valid`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the first unknown option and all
    /// valid ones.
    pub fn check_options(&self, valid: &[&str]) -> Result<(), Error> {
        let Some((unknown, _)) = self.options.iter().find(|(key, _)| !valid.contains(&&**key)) else {
            return Ok(());
        };
        let mut valid = valid.to_vec();
        valid.sort_unstable();
        Err(Error::invalid(format!(
            "unknown option {:?} in the {} URL; valid options are {}",
            clip(unknown),
            self.scheme,
            valid.join(", ")
        )))
    }
}

fn bad_option(key: &str, expects: &str) -> Error {
    // Not the value: an option may hold a token.
    Error::invalid(format!("option {key:?} of the registry URL must be {expects}"))
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

impl FromStr for RegistryUrl {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) that says what is malformed, without
    /// repeating the URL: it may hold a password.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::invalid(format!("the registry URL {why}"));
        if text.len() > 8192 {
            return Err(bad("is longer than 8192 bytes"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("has no scheme; expected for example etcd://10.0.0.1:2379/prod"));
        };
        let scheme = scheme.to_ascii_lowercase();
        let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !valid {
            return Err(bad("has a malformed scheme"));
        }
        if rest.contains('#') {
            return Err(bad("has a fragment; write '#' as %23"));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let (authority, path) =
            rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        if path.contains('@') || query.contains('@') {
            // Most likely the tail of a password, which no later message may repeat.
            return Err(bad("has '@' after its hosts; write '@', '/', '?' and '#' as %40, %2F, %3F and %23"));
        }
        let (user_info, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(info, hosts)| (Some(info), hosts));
        let (user, password) = match user_info {
            None => (None, None),
            Some(info) => match info.split_once(':') {
                Some((user, password)) => {
                    (Some(decode("user name", user)?), Some(Secret::new(decode("password", password)?)))
                }
                None => (Some(decode("user name", info)?), None),
            },
        };
        let user = user.filter(|user| !user.is_empty());
        let hosts = match hosts {
            "" => Vec::new(),
            hosts => hosts
                .split(',')
                .map(|host| parse_host(host, user_info.is_some()))
                .collect::<Result<_, _>>()?,
        };
        let path = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| decode("path", segment))
            .collect::<Result<_, _>>()?;
        let mut options: Vec<(String, String)> = Vec::new();
        for (at, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            let Some((key, value)) = pair.split_once('=') else {
                // Not its text: it may be the tail of a value with a bare '&'.
                return Err(bad(&format!("has no value for its option number {}", at + 1)));
            };
            let (key, value) = (decode("option", key)?, decode("option", value)?);
            if options.iter().any(|(k, _)| *k == key) {
                return Err(Error::invalid(format!(
                    "option {:?} of the registry URL is given twice",
                    clip(&key)
                )));
            }
            options.push((key, value));
        }
        Ok(Self { scheme, user, password, hosts, path, options })
    }
}

/// Errors repeat what stands behind a colon only after an `@`: without one it may be a password.
fn parse_host(text: &str, after_user_info: bool) -> Result<HostPort, Error> {
    let hidden = text.split_once(':').filter(|_| !after_user_info && !text.starts_with('['));
    let shown = &*hidden.map_or(Cow::Borrowed(text), |(name, _)| Cow::Owned(format!("{name}:…")));
    let (host, port) = split_port(shown, text)?;
    let host = decode("host", host)?;
    if host.parse::<std::net::IpAddr>().is_err() {
        if host.contains(':') {
            return Err(Error::invalid("the registry URL has a malformed IPv6 address"));
        }
        check_dns_name(shown, &host)?;
    }
    Ok(HostPort { host, port: port.map(|port| parse_port(shown, port)).transpose()? })
}

fn decode(what: &str, text: &str) -> Result<String, Error> {
    let bytes = text.as_bytes();
    let broken = bytes.iter().enumerate().any(|(at, b)| {
        *b == b'%' && !bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    });
    if broken {
        return Err(Error::invalid(format!(
            "the {what} of the registry URL has a '%' without two hexadecimal digits"
        )));
    }
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Error::invalid(format!("the {what} of the registry URL is not UTF-8 once decoded")))?;
    if decoded.chars().any(is_deceptive) {
        return Err(Error::invalid(format!("the {what} of the registry URL holds a control character")));
    }
    Ok(decoded.into_owned())
}

/// Without the password, without a lone user name, as it may be a token, and without the values of options.
impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match (&self.user, &self.password) {
            (Some(user), Some(_)) => write!(f, "{user}:[redacted]@")?,
            (None, Some(_)) => f.write_str(":[redacted]@")?,
            (Some(_), None) => f.write_str("[redacted]@")?,
            (None, None) => {}
        }
        for (at, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if at > 0 { "," } else { "" })?;
        }
        for segment in &self.path {
            write!(f, "/{segment}")?;
        }
        for (at, (key, _)) in self.options.iter().enumerate() {
            write!(f, "{}{key}=…", if at > 0 { "&" } else { "?" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (Some(port), _) => f.write_str(&self.authority(port)),
            (None, true) => write!(f, "[{}]", self.host),
            (None, false) => f.write_str(&self.host),
        }
    }
}

impl fmt::Debug for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests;
