//! What the URLs of all networked backends have in common: several servers, TLS, limits.

use std::{path::PathBuf, time::Duration};

use super::RegistryUrl;
use crate::Error;

/// The options that need TLS.
const FILES: [&str; 4] = ["ca", "cert", "key", "domain"];
/// What a limit may be. It has to let a healthy answer through and must not exceed what a caller would wait.
const LIMITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// Files and names of a TLS connection, as a URL gives them by the options `ca`, `cert`, `key` and `domain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// A PEM file of the authorities that sign the server's certificate; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// The PEM files of the client certificate and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the server's certificate; the host if there is none.
    pub domain: Option<String>,
}

impl RegistryUrl {
    /// The servers of a URL whose scheme is `backend` or `backend+tls`: `host:port` each, in the order given, none
    /// twice, at least one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the part that is wrong.
    pub fn servers(&self, backend: &str, default_port: u16) -> Result<Vec<String>, Error> {
        let scheme = self.scheme();
        if scheme.strip_suffix("+tls").unwrap_or(scheme) != backend {
            return Err(Error::invalid(format!("scheme {scheme:?} is not {backend} or {backend}+tls")));
        }
        if self.hosts().is_empty() {
            return Err(Error::invalid(format!(
                "the {backend} URL names no host; expected for example {backend}://10.0.0.1:{default_port}"
            )));
        }
        let mut servers: Vec<String> = Vec::with_capacity(self.hosts().len());
        for host in self.hosts() {
            let authority = host.authority(default_port);
            if servers.contains(&authority) {
                return Err(Error::invalid(format!("the {backend} URL names {authority} twice")));
            }
            servers.push(authority);
        }
        Ok(servers)
    }

    /// The options `ca`, `cert`, `key` and `domain`; `None` if the scheme asks for no TLS.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if one is given without TLS, is empty, or lacks
    /// its other half.
    pub fn tls_files(&self) -> Result<Option<TlsFiles>, Error> {
        if !self.is_tls() {
            return match FILES.into_iter().find(|key| self.option(key).is_some()) {
                Some(key) => Err(Error::invalid(format!(
                    "option {key:?} of the registry URL needs the scheme {}+tls",
                    self.scheme()
                ))),
                None => Ok(None),
            };
        }
        let given = |key: &str| match self.option(key) {
            Some("") => Err(Error::invalid(format!("option {key:?} of the registry URL is empty"))),
            value => Ok(value),
        };
        let half = |one: &str, other: &str| {
            Err(Error::invalid(format!("option {one:?} of the registry URL needs {other:?} too")))
        };
        let identity = match (given("cert")?, given("key")?) {
            (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
            (None, None) => None,
            (Some(_), None) => return half("cert", "key"),
            (None, Some(_)) => return half("key", "cert"),
        };
        let domain = given("domain")?.map(str::to_owned);
        Ok(Some(TlsFiles { ca: given("ca")?.map(PathBuf::from), identity, domain }))
    }

    /// An option that limits a connect or a call: 50 ms to 60 s, or `default`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is no duration, or outside of that.
    pub fn limit_option(&self, key: &str, default: Duration) -> Result<Duration, Error> {
        let value = self.duration_option(key)?.unwrap_or(default);
        if value < LIMITS.0 || value > LIMITS.1 {
            return Err(Error::invalid(format!("option {key:?} of the registry URL must be 50ms to 60s")));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn url(text: &str) -> RegistryUrl {
        text.parse().unwrap()
    }

    #[test]
    fn servers_files_and_limits_are_read() {
        let url = url("x+tls://h1,h2:99,[::1]?ca=/ca&cert=/c&key=/k&domain=d&limit=2s");
        assert_eq!(url.servers("x", 7).unwrap(), ["h1:7", "h2:99", "[::1]:7"]);
        let files = url.tls_files().unwrap().unwrap();
        assert_eq!((files.ca, files.domain.as_deref()), (Some("/ca".into()), Some("d")));
        assert_eq!(files.identity, Some(("/c".into(), "/k".into())));
        let default = Duration::from_secs(1);
        assert_eq!(url.limit_option("limit", default).unwrap(), Duration::from_secs(2));
        assert_eq!(url.limit_option("other", default).unwrap(), default);
    }

    #[test]
    fn what_is_wrong_is_refused_and_named() {
        let servers = |text: &str| url(text).servers("x", 7).map(|_| ());
        let files = |text: &str| url(text).tls_files().map(|_| ());
        let limit = |text: &str| url(text).limit_option("limit", Duration::from_secs(1)).map(|_| ());
        for (result, named) in [
            (servers("y://h"), "scheme"),
            (servers("x:///prod"), "no host"),
            (servers("x://h,h:7"), "twice"),
            (files("x://h?ca=/x"), "\"ca\""),
            (files("x://h?domain=x"), "\"domain\" of the registry URL needs the scheme x+tls"),
            (files("x+tls://h?ca="), "\"ca\""),
            (files("x+tls://h?cert=/x"), "\"key\""),
            (files("x+tls://h?key=/x"), "\"cert\""),
            (limit("x://h?limit=0s"), "\"limit\""),
            (limit("x://h?limit=2m"), "\"limit\""),
            (limit("x://h?limit=soon"), "\"limit\""),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(named), "{named}: {error}");
        }
    }
}
