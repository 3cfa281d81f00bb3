//! What can be configured, from a URL or in code.

use std::{fmt, time::Duration};

use registry_core::{Credential, Error, ErrorKind, RegistryUrl, TlsFiles};

/// The client port of etcd.
const DEFAULT_PORT: u16 = 2379;

/// The options of an etcd URL, beside the core's own.
pub(crate) const OPTIONS: &[&str] =
    &["ca", "cert", "connect_timeout", "domain", "key", "read", "request_timeout"];

/// Where etcd is and how to talk to it.
///
/// ```text
/// etcd+tls://user:password@10.0.0.1:2379,10.0.0.2:2379/namespace?ca=/etc/etcd/ca.pem
/// ```
///
/// | option | meaning | default |
/// |---|---|---|
/// | `read` | `linearizable`: the newest data, needs a quorum. `serializable`: what the member has, maybe stale, also without quorum | `linearizable` |
/// | `connect_timeout` | limit of one TCP and TLS connect | `3s`; a call that is shorter ends it earlier |
/// | `request_timeout` | limit of one call, failover to other endpoints included | `2500ms`, below the 3 s after which the core gives up, so that the endpoint at fault is known |
/// | `ca` | PEM file of the authorities that sign the server's certificate | the system's |
/// | `cert`, `key` | PEM files of the client certificate (both or none) | none |
/// | `domain` | the name in the server's certificate | the host |
///
/// The port is 2379 where the URL names none. The files are read again whenever an endpoint is connected anew after
/// a failure, so certificates can be replaced without a restart. `ca`, `cert`, `key` and `domain` need `etcd+tls`.
///
/// `Debug` and `Display` never show a password.
#[derive(Clone)]
pub struct EtcdConfig {
    pub(crate) endpoints: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) credential: Option<Credential>,
    pub(crate) read: ReadMode,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
}

/// How fresh reads are by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadMode {
    /// The newest data, confirmed by a quorum.
    #[default]
    Linearizable,
    /// What the asked member has: maybe stale, but also without a quorum.
    Serializable,
}

impl EtcdConfig {
    /// The configuration that a URL describes. Options it doesn't know are left alone: they are the core's, which
    /// checks that each option belongs to somebody.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the part that is wrong.
    pub fn from_url(url: &RegistryUrl) -> Result<Self, Error> {
        let endpoints = url.servers("etcd", DEFAULT_PORT)?;
        let credential = url.credential();
        if credential.is_none() && url.user().is_some() {
            return Err(invalid("the etcd URL has a user name without a password"));
        }
        if credential.as_ref().is_some_and(|c| c.user.as_deref().unwrap_or_default().is_empty()) {
            return Err(invalid("the etcd URL has a password without a user name"));
        }
        let read = match url.option("read") {
            None | Some("linearizable") => ReadMode::Linearizable,
            Some("serializable") => ReadMode::Serializable,
            Some(_) => {
                return Err(invalid(
                    "option \"read\" of the registry URL must be linearizable or serializable",
                ));
            }
        };
        Ok(Self {
            endpoints,
            tls: url.tls_files()?,
            credential,
            read,
            connect_timeout: url.limit_option("connect_timeout", Duration::from_secs(3))?,
            request_timeout: url.limit_option("request_timeout", Duration::from_millis(2500))?,
        })
    }

    /// The `host:port` pairs.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = &str> {
        self.endpoints.iter().map(String::as_str)
    }

    /// How fresh reads are by default.
    #[must_use]
    pub fn read_mode(&self) -> ReadMode {
        self.read
    }
}

impl std::str::FromStr for EtcdConfig {
    type Err = Error;

    /// Parses a URL that holds nothing but this backend's options; any other is refused with the list of them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the part that is wrong.
    fn from_str(url: &str) -> Result<Self, Error> {
        let url: RegistryUrl = url.parse()?;
        url.check_options(OPTIONS)?;
        Self::from_url(&url)
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// As a URL, without the password and the namespace.
impl fmt::Display for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd{}://", if self.tls.is_some() { "+tls" } else { "" })?;
        if let Some(user) = self.credential.as_ref().and_then(|c| c.user.as_ref()) {
            write!(f, "{user}:[redacted]@")?;
        }
        f.write_str(&self.endpoints.join(","))
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("url", &self.to_string())
            .field("tls", &self.tls)
            .field("read", &self.read)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_endpoints_credentials_files_and_limits() {
        let config: EtcdConfig = "etcd+tls://u:p@h1,h2:99,[::1]/prod?ca=/ca&cert=/c&key=/k&domain=d\
            &read=serializable&connect_timeout=1s&request_timeout=900ms"
            .parse()
            .unwrap();
        assert_eq!(config.endpoints, ["h1:2379", "h2:99", "[::1]:2379"]);
        let tls = config.tls.unwrap();
        assert_eq!(tls.ca, Some("/ca".into()));
        assert_eq!(tls.identity, Some(("/c".into(), "/k".into())));
        assert_eq!(tls.domain.as_deref(), Some("d"));
        assert_eq!(config.read, ReadMode::Serializable);
        assert_eq!(config.connect_timeout, Duration::from_secs(1));
        assert_eq!(config.request_timeout, Duration::from_millis(900));
        assert_eq!(config.credential.unwrap().user.as_deref(), Some("u"));
    }

    #[test]
    fn every_malformed_part_is_refused_and_named() {
        for (url, named) in [
            ("consul://h", "scheme"),
            ("etcd:///prod", "no host"),
            ("etcd://h,h:2379", "twice"),
            ("etcd://u@h", "without a password"),
            ("etcd://:p@h", "without a user"),
            ("etcd://h?read=stale", "\"read\""),
            ("etcd://h?read=", "\"read\""),
            ("etcd://h?ca=/x", "\"ca\""),
            ("etcd://h?cert=/x", "\"cert\""),
            ("etcd://h?key=/x", "\"key\""),
            ("etcd://h?domain=x", "\"domain\""),
            ("etcd+tls://h?ca=", "\"ca\""),
            ("etcd+tls://h?domain=", "\"domain\""),
            ("etcd+tls://h?cert=/x", "\"key\""),
            ("etcd+tls://h?key=/x", "\"cert\""),
            ("etcd://h?connect_timeout=soon", "\"connect_timeout\""),
            ("etcd://h?connect_timeout=0s", "\"connect_timeout\""),
            ("etcd://h?request_timeout=5", "\"request_timeout\""),
            ("etcd://h?request_timeout=2m", "\"request_timeout\""),
            ("etcd://h?tll=15s", "\"tll\""),
        ] {
            let error = url.parse::<EtcdConfig>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn an_option_of_the_core_is_left_to_the_core() {
        let url: RegistryUrl = "etcd://h/prod?ttl=15s".parse().unwrap();
        assert!(EtcdConfig::from_url(&url).is_ok());
    }

    #[test]
    fn no_output_shows_the_password() {
        let config: EtcdConfig = "etcd://user:hunter2@h".parse().unwrap();
        for shown in [format!("{config}"), format!("{config:?}"), format!("{config:#?}")] {
            assert!(!shown.contains("hunter2") && shown.contains("user"), "{shown}");
        }
    }
}
