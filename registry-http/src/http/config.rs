//! The part of a URL that all backends over HTTP read alike.

use std::{path::PathBuf, time::Duration};

use registry_core::{Error, ErrorKind, RegistryUrl};

/// The options that [`Common::from_url`] understands.
pub(crate) const SHARED_OPTIONS: &[&str] =
    &["ca", "cert", "connect_timeout", "domain", "key", "request_timeout"];

/// Where the servers are and how to talk to them.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `connect_timeout` | limit of one TCP and TLS connect, 50ms to 60s | `1s` |
/// | `request_timeout` | limit of one call, failover to other servers included, 50ms to 60s | `2500ms`, below the 3 s after which the core gives up, so that the server at fault is known |
/// | `ca` | PEM file of the authorities that sign the server's certificate | the system's |
/// | `cert`, `key` | PEM files of the client certificate (both or none) | none |
/// | `domain` | the name in the server's certificate | the host |
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// `host:port` each, none twice, at least one.
    pub(crate) servers: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// Whether answers may come compressed.
    pub(crate) gzip: bool,
}

/// Files and names of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) domain: Option<String>,
}

impl Common {
    /// Reads the hosts and the shared options of a URL whose scheme is `backend` or `backend+tls`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the part that is wrong.
    pub(crate) fn from_url(
        url: &RegistryUrl,
        backend: &'static str,
        default_port: u16,
    ) -> Result<Self, Error> {
        let scheme = url.scheme();
        if scheme.strip_suffix("+tls").unwrap_or(scheme) != backend {
            return Err(invalid(format!("scheme {scheme:?} is not {backend} or {backend}+tls")));
        }
        if url.hosts().is_empty() {
            return Err(invalid(format!(
                "the {backend} URL names no host; expected for example {backend}://10.0.0.1:{default_port}"
            )));
        }
        let mut servers: Vec<String> = Vec::new();
        for host in url.hosts() {
            let authority = host.authority(default_port);
            if servers.contains(&authority) {
                return Err(invalid(format!("the {backend} URL names {authority} twice")));
            }
            servers.push(authority);
        }
        Ok(Self {
            servers,
            tls: tls_files(url, backend)?,
            connect_timeout: timeout(url, "connect_timeout", Duration::from_secs(1))?,
            request_timeout: timeout(url, "request_timeout", Duration::from_millis(2500))?,
            gzip: false,
        })
    }

    /// As a URL without user info, path and options.
    pub(crate) fn url(&self, backend: &str) -> String {
        let tls = if self.tls.is_some() { "+tls" } else { "" };
        format!("{backend}{tls}://{}", self.servers.join(","))
    }
}

fn tls_files(url: &RegistryUrl, backend: &str) -> Result<Option<TlsFiles>, Error> {
    if !url.is_tls() {
        return match ["ca", "cert", "key", "domain"].into_iter().find(|key| url.option(key).is_some()) {
            Some(key) => {
                Err(invalid(format!("option {key:?} of the registry URL needs the scheme {backend}+tls")))
            }
            None => Ok(None),
        };
    }
    let given = |key: &str| match url.option(key) {
        Some("") => Err(invalid(format!("option {key:?} of the registry URL is empty"))),
        value => Ok(value),
    };
    let identity = match (given("cert")?, given("key")?) {
        (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
        (None, None) => None,
        (Some(_), None) => return Err(invalid("option \"cert\" of the registry URL needs \"key\" too")),
        (None, Some(_)) => return Err(invalid("option \"key\" of the registry URL needs \"cert\" too")),
    };
    let domain = given("domain")?.map(str::to_owned);
    Ok(Some(TlsFiles { ca: given("ca")?.map(PathBuf::from), identity, domain }))
}

/// A limit has to let a healthy answer through and must not exceed what a caller would wait.
fn timeout(url: &RegistryUrl, key: &str, default: Duration) -> Result<Duration, Error> {
    let value = url.duration_option(key)?.unwrap_or(default);
    if value < Duration::from_millis(50) || value > Duration::from_secs(60) {
        return Err(invalid(format!("option {key:?} of the registry URL must be 50ms to 60s")));
    }
    Ok(value)
}

pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(url: &str) -> Result<Common, Error> {
        Common::from_url(&url.parse()?, "consul", 8500)
    }

    #[test]
    fn a_url_gives_servers_files_and_limits() {
        let url = "consul+tls://h1,h2:99,[::1]?ca=/ca&cert=/c&key=/k&domain=d&connect_timeout=2s";
        let common = common(url).unwrap();
        assert_eq!(common.servers, ["h1:8500", "h2:99", "[::1]:8500"]);
        assert_eq!(common.url("consul"), "consul+tls://h1:8500,h2:99,[::1]:8500");
        assert_eq!(common.connect_timeout, Duration::from_secs(2));
        let tls = common.tls.unwrap();
        assert_eq!(tls.ca, Some("/ca".into()));
        assert_eq!(tls.identity, Some(("/c".into(), "/k".into())));
        assert_eq!(tls.domain.as_deref(), Some("d"));
    }

    #[test]
    fn every_malformed_part_is_refused_and_named() {
        for (url, named) in [
            ("etcd://h", "scheme"),
            ("consul:///prod", "no host"),
            ("consul://h,h:8500", "twice"),
            ("consul://h?ca=/x", "\"ca\""),
            ("consul://h?domain=x", "\"domain\""),
            ("consul+tls://h?ca=", "\"ca\""),
            ("consul+tls://h?cert=/x", "\"key\""),
            ("consul+tls://h?key=/x", "\"cert\""),
            ("consul://h?connect_timeout=0s", "\"connect_timeout\""),
            ("consul://h?request_timeout=2m", "\"request_timeout\""),
        ] {
            let error = common(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }
}
