//! What can be configured: by the options of a URL.

use std::{fmt, str::FromStr, time::Duration};

use registry_core::{Credential, Error, RegistryUrl};

use crate::http::{Common, invalid};

/// The HTTP port of Consul's agents.
const DEFAULT_PORT: u16 = 8500;
/// The longest hold of a blocking query that Consul grants.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The options of a Consul URL, beside the core's own.
pub(crate) const OPTIONS: &[&str] = &[
    "ca",
    "cert",
    "check",
    "check_header",
    "check_interval",
    "check_method",
    "check_path",
    "check_timeout",
    "check_tls_server_name",
    "check_tls_skip_verify",
    "connect_timeout",
    "dc",
    "deregister_after",
    "domain",
    "key",
    "ns",
    "partition",
    "poll",
    "read",
    "request_timeout",
    "wait",
    "weights",
];

/// Where Consul's agents are and how to talk to them.
///
/// ```text
/// consul+tls://:token@127.0.0.1:8501?ca=/etc/consul/ca.pem&check=http&check_path=/health
/// ```
///
/// The password of the user info is the ACL token. The port is 8500 where the URL names none. Several hosts are several
/// agents: one of them is chosen to register at, and another one when it stays away, or without servers, for a time to
/// live, or for 40 s where Consul checks. [`OnDuplicate::Reject`](registry_core::OnDuplicate::Reject) sees that one only.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `read` | [`ConsulRead`]: `stale`, `default`, `consistent` or `cached` | `stale` |
/// | `wait` | how long an idle watch is held; Consul adds up to a sixteenth. A dead agent is noticed after that, and a view counts as fresh as long; 1s to 10m. A client has 128 watches held at a time, as agents allow it 200 connections; what more there are is read every 10 s, or every `wait` if that is shorter | `60s` |
/// | `poll` | how often a prepared query is executed, as it can't be watched, and how often a preferred data centre is looked at while another serves; 1s to 10m | `10s` |
/// | `dc` | data centres to read from, by comma: the first that has a healthy instance is taken | the agent's |
/// | `check` | [`ConsulCheck`]: who says that an instance lives: `ttl`, `http`, `tcp` or `grpc` | `ttl` |
/// | `check_interval`, `check_timeout` | of the checks that Consul makes; refused with `check=ttl` | `10s`, `5s` |
/// | `check_path` | of HTTP checks: the path; of gRPC checks: the service; refused with others | `/`, none |
/// | `check_method` | of HTTP checks: the method in capitals, such as `HEAD` | `GET` |
/// | `check_header` | of HTTP checks: one header, as `Host: orders.internal`. Whoever may read the agent's checks reads it, so that it is no place for a secret | none |
/// | `check_tls_server_name` | of HTTP and gRPC checks: the name in the instance's certificate, for an endpoint that is an IP address | the host |
/// | `check_tls_skip_verify` | of HTTP and gRPC checks: `true`: the instance's certificate isn't checked | `false` |
/// | `deregister_after` | when Consul removes an instance that stays critical; at least 1m | ten times the time to live, at least 1m |
/// | `weights` | `true`: tell Consul our weights, for its DNS; only if all instances of a service do, as its own neutral weight is 1 and ours 100 | `false` |
/// | `ns`, `partition` | Consul Enterprise's namespace and admin partition | the token's |
/// | `connect_timeout` | limit of one TCP and TLS connect, 50ms to 60s | `1s` |
/// | `request_timeout` | limit of one call, failover to other agents included, 50ms to 60s | `2500ms`, below the 3 s after which the core gives up, so that the agent at fault is known |
/// | `ca` | PEM file of the authorities that sign the server's certificate | the system's |
/// | `cert`, `key` | PEM files of the client certificate (both or none) | none |
/// | `domain` | the name in the server's certificate | the host |
///
/// `Debug` and `Display` never show a token.
#[derive(Clone)]
pub struct ConsulConfig {
    pub(crate) common: Common,
    pub(crate) credential: Option<Credential>,
    pub(crate) read: ConsulRead,
    pub(crate) wait: Duration,
    pub(crate) poll: Duration,
    pub(crate) datacenters: Vec<String>,
    pub(crate) check: ConsulCheck,
    pub(crate) check_interval: Duration,
    pub(crate) check_timeout: Duration,
    pub(crate) check_path: Option<String>,
    pub(crate) check_method: Option<String>,
    /// Name and value.
    pub(crate) check_header: Option<(String, String)>,
    pub(crate) check_tls_server_name: Option<String>,
    pub(crate) check_tls_skip_verify: bool,
    pub(crate) deregister_after: Option<Duration>,
    pub(crate) weights: bool,
    pub(crate) ns: Option<String>,
    pub(crate) partition: Option<String>,
}

/// How fresh reads are by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsulRead {
    /// Any server answers, maybe a little behind, and also without a leader: reads survive what writes don't. How far
    /// behind is told and counts against the view's freshness.
    #[default]
    Stale,
    /// The leader answers from what it has: up to date but for rare moments of a change of leaders.
    Default,
    /// The leader answers after asking a majority.
    Consistent,
    /// The agent answers from what it keeps up to date in the background.
    Cached,
}

/// Who says that an instance lives.
///
/// An instance that Consul checks is looked at about every 20 s. If its check fails then, nobody sees it, and the
/// registration is lost ([`LossCause::Failing`](registry_core::LossCause::Failing)) until the check passes again. If its agent
/// doesn't answer, or reaches none of its servers, it is `Suspect`, and lost
/// ([`LossCause::Expired`](registry_core::LossCause::Expired)) when the last answer is 40 s old: by then Consul has hidden the
/// node of an agent that is dead. Where the URL names other agents, a look that fails from 39 s on gives the agent up for one
/// of them, so that the loss may come that second earlier, and as
/// [`LossCause::Revoked`](registry_core::LossCause::Revoked).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsulCheck {
    /// This client, by a heartbeat.
    #[default]
    Ttl,
    /// Consul, by a GET on the first `http` or `https` endpoint.
    Http,
    /// Consul, by connecting to the first endpoint.
    Tcp,
    /// Consul, by gRPC's health protocol on the first `grpc` or `grpcs` endpoint.
    Grpc,
}

impl ConsulConfig {
    /// The configuration that a URL describes. Options it doesn't know are left alone: they are the core's, which
    /// checks that each option belongs to somebody.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) naming the part that is wrong.
    pub fn from_url(url: &RegistryUrl) -> Result<Self, Error> {
        let common = Common::from_url(url, super::NAME, DEFAULT_PORT)?;
        let credential = url.credential();
        if url.user().is_some() {
            return Err(invalid(
                "the consul URL has a user name; a token stands alone, as in consul://:token@host",
            ));
        }
        let minute = Duration::from_secs(60);
        let datacenters = match text(url, "dc")? {
            None => Vec::new(),
            Some(list) => list.split(',').map(|dc| datacenter(dc.trim())).collect::<Result<_, _>>()?,
        };
        let check = choice(url, "check", CHECKS)?;
        refuse_idle_options(url, check)?;
        let check_path = text(url, "check_path")?;
        if let Some(path) = &check_path
            && url.option("check") == Some("http")
            && !path.starts_with('/')
        {
            return Err(invalid("option \"check_path\" of the registry URL must begin with /"));
        }
        Ok(Self {
            common,
            credential,
            read: choice(url, "read", READS)?,
            wait: duration(url, "wait", minute, Duration::from_secs(1), LONGEST_WAIT)?,
            poll: duration(url, "poll", Duration::from_secs(10), Duration::from_secs(1), LONGEST_WAIT)?,
            datacenters,
            check,
            check_interval: duration(
                url,
                "check_interval",
                Duration::from_secs(10),
                Duration::from_secs(1),
                LONGEST_WAIT,
            )?,
            check_timeout: duration(
                url,
                "check_timeout",
                Duration::from_secs(5),
                Duration::from_millis(100),
                minute,
            )?,
            check_path,
            check_method: method(url)?,
            check_header: header(url)?,
            check_tls_server_name: text(url, "check_tls_server_name")?,
            check_tls_skip_verify: url.bool_option("check_tls_skip_verify")?.unwrap_or(false),
            deregister_after: match url.duration_option("deregister_after")? {
                Some(after) if after < minute => {
                    return Err(invalid(
                        "option \"deregister_after\" of the registry URL must be at least 1m",
                    ));
                }
                after => after,
            },
            weights: url.bool_option("weights")?.unwrap_or(false),
            ns: text(url, "ns")?,
            partition: text(url, "partition")?,
        })
    }

    /// The `host:port` pairs of the agents.
    pub fn agents(&self) -> impl ExactSizeIterator<Item = &str> {
        self.common.servers.iter().map(String::as_str)
    }

    /// Who says that an instance lives.
    #[must_use]
    pub fn check(&self) -> ConsulCheck {
        self.check
    }

    /// How fresh reads are by default.
    #[must_use]
    pub fn read(&self) -> ConsulRead {
        self.read
    }
}

const READS: &[(&str, ConsulRead)] = &[
    ("stale", ConsulRead::Stale),
    ("default", ConsulRead::Default),
    ("consistent", ConsulRead::Consistent),
    ("cached", ConsulRead::Cached),
];
const CHECKS: &[(&str, ConsulCheck)] = &[
    ("ttl", ConsulCheck::Ttl),
    ("http", ConsulCheck::Http),
    ("tcp", ConsulCheck::Tcp),
    ("grpc", ConsulCheck::Grpc),
];

/// Which checks an option is of. One that would do nothing is a mistake.
const OF_CHECKS: &[(&str, &[ConsulCheck])] = &[
    ("check_header", &[ConsulCheck::Http]),
    ("check_interval", &[ConsulCheck::Http, ConsulCheck::Tcp, ConsulCheck::Grpc]),
    ("check_method", &[ConsulCheck::Http]),
    ("check_path", &[ConsulCheck::Http, ConsulCheck::Grpc]),
    ("check_timeout", &[ConsulCheck::Http, ConsulCheck::Tcp, ConsulCheck::Grpc]),
    ("check_tls_server_name", &[ConsulCheck::Http, ConsulCheck::Grpc]),
    ("check_tls_skip_verify", &[ConsulCheck::Http, ConsulCheck::Grpc]),
];

fn refuse_idle_options(url: &RegistryUrl, check: ConsulCheck) -> Result<(), Error> {
    let idle = OF_CHECKS.iter().find(|(key, of)| url.option(key).is_some() && !of.contains(&check));
    let Some((key, of)) = idle else { return Ok(()) };
    let name =
        |check: &ConsulCheck| CHECKS.iter().find(|(_, one)| one == check).map_or("", |(name, _)| *name);
    let of: Vec<String> = of.iter().map(|check| format!("check={}", name(check))).collect();
    let (of, check) = (of.join(" or "), name(&check));
    Err(invalid(format!("option {key:?} of the registry URL needs {of}; it does nothing with check={check}")))
}

/// A method of HTTP.
fn method(url: &RegistryUrl) -> Result<Option<String>, Error> {
    let method = text(url, "check_method")?;
    // `head` would be another method than `HEAD`, and one that no server knows.
    let is_method = |method: &str| {
        http::Method::from_bytes(method.as_bytes()).is_ok()
            && !method.contains(|c: char| c.is_ascii_lowercase())
    };
    match method.as_deref() {
        Some(method) if !is_method(method) => Err(invalid(
            "option \"check_method\" of the registry URL is no method of HTTP, which are written in capitals",
        )),
        _ => Ok(method),
    }
}

/// A header, as HTTP writes one.
fn header(url: &RegistryUrl) -> Result<Option<(String, String)>, Error> {
    let Some(header) = text(url, "check_header")? else { return Ok(None) };
    let wrong = || {
        invalid("option \"check_header\" of the registry URL must be a header, as in Host: orders.internal")
    };
    let (name, value) = header.split_once(':').ok_or_else(wrong)?;
    let (name, value) = (name.trim(), value.trim());
    let is_header =
        http::HeaderName::from_bytes(name.as_bytes()).is_ok() && http::HeaderValue::from_str(value).is_ok();
    if is_header { Ok(Some((name.to_owned(), value.to_owned()))) } else { Err(wrong()) }
}

fn choice<T: Copy + Default>(url: &RegistryUrl, key: &str, choices: &[(&str, T)]) -> Result<T, Error> {
    let Some(value) = url.option(key) else { return Ok(T::default()) };
    choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        invalid(format!("option {key:?} of the registry URL must be one of {}", names.join(", ")))
    })
}

fn duration(
    url: &RegistryUrl,
    key: &str,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Error> {
    let value = url.duration_option(key)?.unwrap_or(default);
    if value < least || value > most {
        return Err(invalid(format!("option {key:?} of the registry URL must be {least:?} to {most:?}")));
    }
    Ok(value)
}

fn text(url: &RegistryUrl, key: &str) -> Result<Option<String>, Error> {
    match url.option(key) {
        Some("") => Err(invalid(format!("option {key:?} of the registry URL is empty"))),
        value => Ok(value.map(str::to_owned)),
    }
}

/// The name of a data centre, as Consul allows it.
pub(super) fn datacenter(name: &str) -> Result<String, Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(invalid("a data centre has letters, digits, '-' and '_', at most 64"));
    }
    Ok(name.to_owned())
}

impl FromStr for ConsulConfig {
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

/// As a URL, without the token, the namespace and the options.
impl fmt::Display for ConsulConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.common.url(super::NAME))
    }
}

impl fmt::Debug for ConsulConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulConfig")
            .field("common", &self.common)
            .field("read", &self.read)
            .field("wait", &self.wait)
            .field("datacenters", &self.datacenters)
            .field("check", &self.check)
            .field("ns", &self.ns)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use registry_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_gives_everything() {
        let config: ConsulConfig = "consul+tls://:secret@a,b:1?read=cached&wait=5s&dc=dc1,dc2&check=http\
            &check_path=/up&check_interval=2s&deregister_after=5m&weights=true&ns=team&partition=p&poll=3s"
            .parse()
            .unwrap();
        assert_eq!(config.agents().collect::<Vec<_>>(), ["a:8500", "b:1"]);
        assert_eq!((config.read, config.check), (ConsulRead::Cached, ConsulCheck::Http));
        assert_eq!(config.datacenters, ["dc1", "dc2"]);
        assert_eq!(config.credential.as_ref().unwrap().secret.expose(), "secret");
        assert_eq!((config.ns.as_deref(), config.partition.as_deref()), (Some("team"), Some("p")));
        assert_eq!((config.wait.as_secs(), config.poll.as_secs()), (5, 3));
        let shown = format!("{config} {config:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn every_malformed_part_is_refused_and_named() {
        for (url, named) in [
            ("consul://u:p@h", "user name"),
            ("consul://h?read=fast", "\"read\""),
            ("consul://h?wait=11m", "\"wait\""),
            ("consul://h?check=script", "ttl, http, tcp, grpc"),
            ("consul://h?check=http&check_path=up", "\"check_path\""),
            ("consul://h?check_path=/up", "check=http or check=grpc"),
            ("consul://h?check=tcp&check_path=/up", "\"check_path\""),
            ("consul://h?check_interval=2s", "\"check_interval\""),
            ("consul://h?check=ttl&check_timeout=2s", "\"check_timeout\""),
            ("consul://h?check=grpc&check_method=HEAD", "\"check_method\""),
            ("consul://h?check=http&check_method=A%20B", "\"check_method\""),
            ("consul://h?check=http&check_method=head", "capitals"),
            ("consul://h?check=tcp&check_header=A:b", "\"check_header\""),
            ("consul://h?check=http&check_header=Host", "\"check_header\""),
            ("consul://h?check=http&check_header=A%20B:c", "\"check_header\""),
            ("consul://h?check=tcp&check_tls_skip_verify=true", "\"check_tls_skip_verify\""),
            ("consul://h?check_tls_server_name=a", "\"check_tls_server_name\""),
            ("consul://h?deregister_after=30s", "\"deregister_after\""),
            ("consul://h?dc=a%2Fb", "data centre"),
            ("consul://h?weights=1", "\"weights\""),
            ("consul://h?ns=", "\"ns\""),
            ("consul://h?tll=15s", "\"tll\""),
        ] {
            let error = url.parse::<ConsulConfig>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }
}
