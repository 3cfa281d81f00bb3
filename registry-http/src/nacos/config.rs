//! What can be configured: by the options of a URL.

use std::{fmt, net::IpAddr, time::Duration};

use registry_core::{Credential, Error, RegistryUrl};

use super::{codec::DEFAULT_CLUSTER, names};
use crate::http::{Common, invalid};

/// The HTTP port of Nacos servers.
const DEFAULT_PORT: u16 = 8848;
const DEFAULT_GROUP: &str = "DEFAULT_GROUP";
/// `ParamCheckRule.maxMetadataLength` of the servers.
const MAX_METADATA: usize = 1024;
const POLL: Duration = Duration::from_secs(5);

/// The options of a Nacos URL, beside the core's own.
pub(crate) const OPTIONS: &[&str] = &[
    "api",
    "ca",
    "cert",
    "client_ip",
    "cluster",
    "connect_timeout",
    "context_path",
    "domain",
    "ephemeral",
    "group",
    "key",
    "max_metadata",
    "poll",
    "push",
    "request_timeout",
];

/// Where the Nacos servers are and how to talk to them.
///
/// ```text
/// nacos+tls://user:password@10.0.0.1:8848,10.0.0.2:8848/namespace-id?group=DEFAULT_GROUP
/// ```
///
/// | option | meaning | default |
/// |---|---|---|
/// | `group` | the group that services stand in; a target's qualifier `group` wins | `DEFAULT_GROUP` |
/// | `cluster` | the cluster that instances are registered in; a target's qualifier `cluster` asks for some only | `DEFAULT` |
/// | `ephemeral` | `true`: instances live by our beats. `false`: they are persistent, the server probes their port, and they stay until they are deregistered | `true` |
/// | `poll` | how often a watched list is fetched, 1s to 60s; a push makes it sooner, and none makes it later: silence may be that of packets which get lost | `5s` |
/// | `push` | whether to ask for pushes over UDP; they get lost behind NAT. They save no list, but the wait for one | `true` |
/// | `client_ip` | the address that servers send pushes to | the one that routes to the server |
/// | `api` | `auto`, or `v1`, `v2`, `v3` for that version and nothing else | `auto` |
/// | `context_path` | the path in front of the API | `/nacos` |
/// | `max_metadata` | most characters of metadata that the server takes, 256 to 65536 | `1024`, as in Nacos |
/// | `connect_timeout` | limit of one TCP and TLS connect, 50ms to 60s | `1s` |
/// | `request_timeout` | limit of one call, failover to other servers included, 50ms to 60s | `2500ms` |
/// | `ca` | PEM file of the authorities that sign the server's certificate | the system's |
/// | `cert`, `key` | PEM files of the client certificate (both or none) | none |
/// | `domain` | the name in the server's certificate | the host |
///
/// The port is 8848 where the URL names none. The path is the id of the namespace; without one it is `public`.
/// `user:password@` logs in; `:token@` is used as an access token as it is.
///
/// `Debug` and `Display` never show a password or a token.
#[derive(Clone)]
pub struct NacosConfig {
    pub(crate) common: Common,
    pub(crate) credential: Option<Credential>,
    pub(crate) names_namespace: bool,
    pub(crate) group: String,
    pub(crate) cluster: String,
    pub(crate) ephemeral: bool,
    pub(crate) poll: Duration,
    pub(crate) push: bool,
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) api: ApiChoice,
    pub(crate) context_path: String,
    pub(crate) max_metadata: usize,
}

/// Which version of Nacos' HTTP API is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiChoice {
    /// What the server turns out to have.
    #[default]
    Auto,
    /// `/v1/ns`, the API of 1.x, which 2.x and 3.1 serve too.
    V1,
    /// `/v2/ns`, from 2.2.
    V2,
    /// `/v3/client/ns`, from 3.0.
    V3,
}

impl NacosConfig {
    /// The configuration that a URL describes. Options it doesn't know are left alone: they are the core's, which
    /// checks that each option belongs to somebody.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) naming the part that is wrong.
    pub fn from_url(url: &RegistryUrl) -> Result<Self, Error> {
        let credential = url.credential();
        if credential.is_none() && url.user().is_some() {
            return Err(invalid("the nacos URL has a user name without a password"));
        }
        let named =
            |key: &str, check: fn(&str) -> Result<String, Error>, default: &str| match url.option(key) {
                Some(value) => check(value)
                    .map_err(|error| invalid(format!("option {key:?} of the registry URL: {error}"))),
                None => Ok(default.to_owned()),
            };
        let api = match url.option("api") {
            None | Some("auto") => ApiChoice::Auto,
            Some("v1") => ApiChoice::V1,
            Some("v2") => ApiChoice::V2,
            Some("v3") => ApiChoice::V3,
            Some(_) => return Err(invalid("option \"api\" of the registry URL must be auto, v1, v2 or v3")),
        };
        let poll = url.duration_option("poll")?.unwrap_or(POLL);
        if poll < Duration::from_secs(1) || poll > Duration::from_secs(60) {
            return Err(invalid("option \"poll\" of the registry URL must be 1s to 60s"));
        }
        let max_metadata =
            url.parsed_option("max_metadata", "a number from 256 to 65536")?.unwrap_or(MAX_METADATA);
        if !(256..=65536).contains(&max_metadata) {
            return Err(invalid("option \"max_metadata\" of the registry URL must be 256 to 65536"));
        }
        Ok(Self {
            common: Common::from_url(url, super::NAME, DEFAULT_PORT)?,
            credential,
            names_namespace: !url.path().is_empty(),
            group: named("group", names::group, DEFAULT_GROUP)?,
            cluster: named("cluster", names::cluster, DEFAULT_CLUSTER)?,
            ephemeral: url.bool_option("ephemeral")?.unwrap_or(true),
            poll,
            push: url.bool_option("push")?.unwrap_or(true),
            client_ip: url.parsed_option("client_ip", "an IP address")?,
            api,
            context_path: context_path(url.option("context_path").unwrap_or("/nacos"))?,
            max_metadata,
        })
    }

    /// The `host:port` pairs.
    pub fn servers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.common.servers.iter().map(String::as_str)
    }
}

/// In the form `/a/b`, or empty.
fn context_path(path: &str) -> Result<String, Error> {
    let path = path.trim_matches('/');
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '/');
    if !path.chars().all(allowed) || path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(invalid("option \"context_path\" of the registry URL must be a path such as /nacos"));
    }
    Ok(if path.is_empty() { String::new() } else { format!("/{path}") })
}

impl std::str::FromStr for NacosConfig {
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

/// As a URL, without the password and the namespace.
impl fmt::Display for NacosConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.common.url(super::NAME))
    }
}

impl fmt::Debug for NacosConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NacosConfig")
            .field("common", &self.common)
            .field("group", &self.group)
            .field("cluster", &self.cluster)
            .field("ephemeral", &self.ephemeral)
            .field("poll", &self.poll)
            .field("push", &self.push)
            .field("api", &self.api)
            .field("context_path", &self.context_path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use registry_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_gives_servers_credentials_and_options() {
        let url = "nacos+tls://u:p@h1,h2:99/dev?group=g&cluster=c1&ephemeral=false&poll=3s&push=false&api=v3\
            &context_path=/a/b/&max_metadata=4096&client_ip=10.0.0.9";
        let config: NacosConfig = url.parse().unwrap();
        assert_eq!(config.common.servers, ["h1:8848", "h2:99"]);
        assert_eq!((config.group.as_str(), config.cluster.as_str()), ("g", "c1"));
        assert_eq!((config.ephemeral, config.push, config.names_namespace), (false, false, true));
        assert_eq!((config.api, config.poll), (ApiChoice::V3, Duration::from_secs(3)));
        assert_eq!((config.context_path.as_str(), config.max_metadata), ("/a/b", 4096));
        assert_eq!(config.client_ip, Some("10.0.0.9".parse().unwrap()));
        let bare: NacosConfig = "nacos://h?context_path=/".parse().unwrap();
        assert_eq!((bare.context_path.as_str(), bare.names_namespace), ("", false));
    }

    #[test]
    fn every_malformed_part_is_refused_and_named() {
        for (url, named) in [
            ("consul://h", "scheme"),
            ("nacos://u@h", "without a password"),
            ("nacos://h?group=a%20b", "\"group\""),
            ("nacos://h?cluster=a_b", "\"cluster\""),
            ("nacos://h?ephemeral=maybe", "\"ephemeral\""),
            ("nacos://h?poll=0s", "\"poll\""),
            ("nacos://h?push=1", "\"push\""),
            ("nacos://h?api=v4", "\"api\""),
            ("nacos://h?context_path=/a/../b", "\"context_path\""),
            ("nacos://h?context_path=a%3Fb", "\"context_path\""),
            ("nacos://h?max_metadata=1", "\"max_metadata\""),
            ("nacos://h?client_ip=host", "\"client_ip\""),
            ("nacos://h?tll=15s", "\"tll\""),
        ] {
            let error = url.parse::<NacosConfig>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn no_output_shows_the_password() {
        let config: NacosConfig = "nacos://user:hunter2@h".parse().unwrap();
        for shown in [format!("{config}"), format!("{config:?}"), format!("{config:#?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
