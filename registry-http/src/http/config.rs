//! The part of a URL that all backends over HTTP read alike.

use std::time::Duration;

use registry_core::{Error, ErrorKind, RegistryUrl, TlsFiles};

/// The options that [`Common::from_url`] understands.
#[cfg(all(test, feature = "eureka"))]
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
    #[cfg(feature = "eureka")]
    pub(crate) gzip: bool,
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
        Ok(Self {
            servers: url.servers(backend, default_port)?,
            tls: url.tls_files()?,
            connect_timeout: url.limit_option("connect_timeout", Duration::from_secs(1))?,
            request_timeout: url.limit_option("request_timeout", Duration::from_millis(2500))?,
            #[cfg(feature = "eureka")]
            gzip: false,
        })
    }

    /// As a URL without user info, path and options.
    pub(crate) fn url(&self, backend: &str) -> String {
        let tls = if self.tls.is_some() { "+tls" } else { "" };
        format!("{backend}{tls}://{}", self.servers.join(","))
    }
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
