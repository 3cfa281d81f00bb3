//! What can be configured: by the options of a URL.

use std::{fmt, str::FromStr, time::Duration};

use registry_core::{Credential, Error, RegistryUrl};

use crate::http::{Common, invalid};

/// The port of Spring Cloud's servers.
const DEFAULT_PORT: u16 = 8761;
/// How often the reference client fetches.
const DEFAULT_POLL: Duration = Duration::from_secs(30);

/// The options of a Eureka URL, beside the core's own.
pub(crate) const OPTIONS: &[&str] =
    &["address", "ca", "cert", "connect_timeout", "context", "domain", "key", "poll", "request_timeout"];

/// Where Eureka's servers are and how to talk to them.
///
/// ```text
/// eureka://user:password@10.0.0.1:8761,10.0.0.2:8761/namespace?context=/eureka/v2&poll=10s
/// ```
///
/// | option | meaning | default |
/// |---|---|---|
/// | `context` | the path under which the servers have their API: `/eureka` of Spring Cloud, `/eureka/v2` of Netflix | `/eureka` |
/// | `poll` | how often changes are fetched, 100ms to 10min; the servers' own cache is 30 s old, unless configured otherwise | `30s`, as the reference client |
/// | `address` | which address of foreign instances to use: `host` or `ip` | `host`, as Spring's clients |
/// | `connect_timeout` | limit of one TCP and TLS connect, 50ms to 60s | `1s` |
/// | `request_timeout` | limit of one call, failover to other servers included, 50ms to 60s | `2500ms`, below the 3 s after which the core gives up, so that the server at fault is known |
/// | `ca` | PEM file of the authorities that sign the server's certificate | the system's |
/// | `cert`, `key` | PEM files of the client certificate (both or none) | none |
/// | `domain` | the name in the server's certificate | the host |
///
/// The port is 8761 where the URL names none. `user:password@` is sent as basic authentication, `:token@` as a bearer
/// token. `Debug` and `Display` never show either.
#[derive(Clone)]
pub struct EurekaConfig {
    pub(crate) common: Common,
    pub(crate) credential: Option<Credential>,
    /// With a leading slash and none behind.
    pub(crate) context: String,
    pub(crate) poll: Duration,
    pub(crate) address: Address,
}

/// Which address of a foreign instance is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// Its `hostName`, or its `ipAddr` where that is none.
    #[default]
    Host,
    /// Its `ipAddr`, or its `hostName` where that is none.
    Ip,
}

impl EurekaConfig {
    /// The configuration that a URL describes. Options it doesn't know are left alone: they are the core's, which
    /// checks that each option belongs to somebody.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) naming the part that is wrong.
    pub fn from_url(url: &RegistryUrl) -> Result<Self, Error> {
        let mut common = Common::from_url(url, super::NAME, DEFAULT_PORT)?;
        common.gzip = true;
        let credential = url.credential();
        if credential.is_none() && url.user().is_some() {
            return Err(invalid("the eureka URL has a user name without a password"));
        }
        let address = match url.option("address") {
            None | Some("host") => Address::Host,
            Some("ip") => Address::Ip,
            Some(_) => return Err(invalid("option \"address\" of the registry URL must be host or ip")),
        };
        let poll = url.duration_option("poll")?.unwrap_or(DEFAULT_POLL);
        if poll < Duration::from_millis(100) || poll > Duration::from_secs(600) {
            return Err(invalid("option \"poll\" of the registry URL must be 100ms to 10min"));
        }
        let context = context(url.option("context").unwrap_or("/eureka"))?;
        Ok(Self { common, credential, context, poll, address })
    }

    /// The `host:port` pairs.
    pub fn servers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.common.servers.iter().map(String::as_str)
    }

    /// How often changes are fetched.
    #[must_use]
    pub fn poll(&self) -> Duration {
        self.poll
    }
}

fn context(text: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    let mut context = String::new();
    for segment in text.split('/').filter(|segment| !segment.is_empty()) {
        if !segment.chars().all(plain) || segment.chars().all(|c| c == '.') {
            return Err(invalid("option \"context\" of the registry URL must be a path such as /eureka"));
        }
        context.push('/');
        context.push_str(segment);
    }
    Ok(context)
}

impl FromStr for EurekaConfig {
    type Err = Error;

    /// Parses a URL that holds nothing but this backend's options; any other is refused with the list of them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) naming the part that is wrong.
    fn from_str(url: &str) -> Result<Self, Error> {
        let url: RegistryUrl = url.parse()?;
        url.check_options(OPTIONS)?;
        Self::from_url(&url)
    }
}

/// As a URL, without the credential and the namespace.
impl fmt::Display for EurekaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?context={}", self.common.url(super::NAME), self.context)
    }
}

impl fmt::Debug for EurekaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EurekaConfig")
            .field("url", &self.to_string())
            .field("tls", &self.common.tls)
            .field("poll", &self.poll)
            .field("address", &self.address)
            .field("connect_timeout", &self.common.connect_timeout)
            .field("request_timeout", &self.common.request_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use registry_core::ErrorKind;

    use super::*;
    use crate::http::SHARED_OPTIONS;

    #[test]
    fn a_url_gives_servers_the_context_and_limits() {
        let url = "eureka://u:p@h1,h2:99/prod?context=eureka/v2/&poll=10s&address=ip&request_timeout=1s";
        let config: EurekaConfig = url.parse().unwrap();
        assert_eq!(config.servers().collect::<Vec<_>>(), ["h1:8761", "h2:99"]);
        assert_eq!(
            (&*config.context, config.poll, config.address),
            ("/eureka/v2", Duration::from_secs(10), Address::Ip)
        );
        assert_eq!(config.common.request_timeout, Duration::from_secs(1));
        assert!(config.common.gzip);
        assert_eq!(config.credential.unwrap().user.as_deref(), Some("u"));
        assert_eq!("eureka://h".parse::<EurekaConfig>().unwrap().context, "/eureka");
        assert_eq!("eureka://h?context=/".parse::<EurekaConfig>().unwrap().context, "");
    }

    #[test]
    fn every_malformed_part_is_refused_and_named() {
        for (url, named) in [
            ("consul://h", "scheme"),
            ("eureka:///prod", "no host"),
            ("eureka://u@h", "without a password"),
            ("eureka://h?address=both", "\"address\""),
            ("eureka://h?poll=10ms", "\"poll\""),
            ("eureka://h?poll=1h", "\"poll\""),
            ("eureka://h?context=/a%20b", "\"context\""),
            ("eureka://h?context=/../b", "\"context\""),
            ("eureka://h?ca=/x", "\"ca\""),
            ("eureka://h?tll=15s", "\"tll\""),
        ] {
            let error = url.parse::<EurekaConfig>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn every_shared_option_is_an_option() {
        assert!(SHARED_OPTIONS.iter().all(|shared| OPTIONS.contains(shared)));
    }

    #[test]
    fn no_output_shows_the_password() {
        let config: EurekaConfig = "eureka://user:hunter2@h".parse().unwrap();
        for shown in [format!("{config}"), format!("{config:?}"), format!("{config:#?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
