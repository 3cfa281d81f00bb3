//! The configuration: as a URL's options, as a builder, and as a serde struct, all the same.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::{Damping, Ejection, Error, Expiry, KeeperThread, RegistryUrl, ShrinkGuard, SlowStart, Subset};

/// Shortest time to live that can be configured.
const MIN_TTL: Duration = Duration::from_secs(3);

/// Everything a client can be told.
///
/// Each field is also a URL option of the same name, which wins over the field. Durations are written as `15s`,
/// `500ms` or `1m 30s`. Unknown fields and options are errors that list the valid ones.
///
/// ```
/// # use registry_core::ClientConfig;
/// let config: ClientConfig = serde_json::from_str(r#"{"registries": ["memory://"], "ttl": "10s"}"#)?;
/// assert_eq!(config.ttl.as_secs(), 10);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The registries, by URL. This release takes exactly one; the list is there so that configurations stay valid.
    #[serde(deserialize_with = "urls")]
    pub registries: Vec<RegistryUrl>,
    /// Time to live of registrations; 15 s by default: three renewals fit, and a crashed instance is gone soon
    /// enough that retries bridge it. At least 3 s.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    /// How long `register` waits for the first publication before it fails; 5 s.
    #[serde(deserialize_with = "duration")]
    pub register_timeout: Duration,
    /// How long `discover` waits for the first view before it falls back to the disk view or fails; 5 s.
    #[serde(deserialize_with = "duration")]
    pub initial_timeout: Duration,
    /// Age at which a view counts as expired; none by default, as an old view serves better than none.
    #[serde(deserialize_with = "optional_duration")]
    pub max_staleness: Option<Duration>,
    /// What an expired view does: `serve` (default) or `refuse`.
    #[serde(deserialize_with = "text")]
    pub expiry: Expiry,
    /// What happens when many instances vanish from a list at once: `off`, `keep-last`, or how long to hold them;
    /// `30s` by default.
    #[serde(deserialize_with = "text")]
    pub shrink_guard: ShrinkGuard,
    /// Mean time between safety re-lists of a watched service, ± 50 %; 10 min.
    #[serde(deserialize_with = "duration")]
    pub relist: Duration,
    /// How long a service is still watched after its last user is gone; 30 s.
    #[serde(deserialize_with = "duration")]
    pub linger: Duration,
    /// Mean time between read-backs of the own records, ± 20 %; 60 s.
    #[serde(deserialize_with = "duration")]
    pub audit: Duration,
    /// After how long a loss counts as lasting: the client then emits `LossLasts` once. None by default.
    #[serde(deserialize_with = "optional_duration")]
    pub lasting_loss: Option<Duration>,
    /// Directory of the disk view; off unless set.
    pub disk: Option<PathBuf>,
    /// The address to advertise where an instance listens on a wildcard; else the one that routes to the registry.
    pub advertise: Option<IpAddr>,
    /// The default balancer of `discover`, by name; `round_robin`.
    pub balancer: String,
    /// The zone this process runs in; none by default. If it is known, and at least 6 instances of a service serve,
    /// requests go to those of the same zone. When less than 71 % of the zone's instances are well (serving, and neither
    /// in doubt nor failing), a part of the requests goes to other zones: with 50 %, it is 30 %; and when none is left,
    /// all do. The percentage is Envoy's. It knows nothing of other clients: a zone with many clients and few instances is
    /// overloaded, so set it only where they are spread alike.
    pub zone: Option<String>,
    /// Whether instances that are new get their share of requests little by little: `off` (default), `on` (30 s) or how
    /// long that takes.
    #[serde(deserialize_with = "text")]
    pub slow_start: SlowStart,
    /// How many instances of a service this client uses: `off` (default), `on` (20), a number, or with the client's
    /// index and the number of clients `20:3/10`.
    #[serde(deserialize_with = "text")]
    pub subset: Subset,
    /// Whether instances that flap are held still: `off` (default), `on` (10 s) or the epoch.
    #[serde(deserialize_with = "text")]
    pub damping: Damping,
    /// Whether `discover` leaves out instances that keep failing: `on` (default) or `off`. The numbers can be changed
    /// in code, here or per [`Discover`](crate::Discover).
    #[serde(deserialize_with = "text")]
    pub ejection: Ejection,
    /// Where renewals run: `shared` (default), on the runtime that built the client, or `dedicated`.
    #[serde(deserialize_with = "text")]
    pub keeper_thread: KeeperThread,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            registries: Vec::new(),
            ttl: Duration::from_secs(15),
            register_timeout: Duration::from_secs(5),
            initial_timeout: Duration::from_secs(5),
            max_staleness: None,
            expiry: Expiry::default(),
            shrink_guard: ShrinkGuard::default(),
            relist: Duration::from_secs(600),
            linger: Duration::from_secs(30),
            audit: Duration::from_secs(60),
            lasting_loss: None,
            disk: None,
            advertise: None,
            balancer: "round_robin".to_owned(),
            zone: None,
            slow_start: SlowStart::default(),
            subset: Subset::default(),
            damping: Damping::default(),
            ejection: Ejection::default(),
            keeper_thread: KeeperThread::Shared,
        }
    }
}

/// The options every registry URL may have.
pub(crate) const OPTIONS: &[&str] = &[
    "advertise",
    "audit",
    "balancer",
    "damping",
    "disk",
    "ejection",
    "expiry",
    "initial_timeout",
    "keeper_thread",
    "lasting_loss",
    "linger",
    "max_staleness",
    "register_timeout",
    "relist",
    "shrink_guard",
    "slow_start",
    "subset",
    "ttl",
    "zone",
];

impl ClientConfig {
    /// A configuration for one registry.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the URL is malformed.
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self { registries: vec![url.parse()?], ..Self::default() })
    }

    /// The one registry of this release.
    pub(crate) fn registry(&self) -> Result<&RegistryUrl, Error> {
        match &*self.registries {
            [url] => Ok(url),
            [] => Err(Error::invalid("no registry is configured; give one URL, for example memory://")),
            _ => Err(Error::invalid("more than one registry is configured; this release takes exactly one")),
        }
    }

    /// Lets the URL's options win over the fields.
    pub(crate) fn apply(&mut self, url: &RegistryUrl) -> Result<(), Error> {
        let durations = [
            ("ttl", &mut self.ttl),
            ("register_timeout", &mut self.register_timeout),
            ("initial_timeout", &mut self.initial_timeout),
            ("relist", &mut self.relist),
            ("linger", &mut self.linger),
            ("audit", &mut self.audit),
        ];
        for (name, field) in durations {
            if let Some(value) = url.duration_option(name)? {
                *field = value;
            }
        }
        if let Some(value) = url.duration_option("max_staleness")? {
            self.max_staleness = Some(value);
        }
        if let Some(value) = url.duration_option("lasting_loss")? {
            self.lasting_loss = Some(value);
        }
        if let Some(value) = url.parsed_option("expiry", "serve or refuse")? {
            self.expiry = value;
        }
        if let Some(value) = url.parsed_option("ejection", "on or off")? {
            self.ejection = value;
        }
        if let Some(value) = url.parsed_option("keeper_thread", "shared or dedicated")? {
            self.keeper_thread = value;
        }
        if let Some(value) = url.parsed_option("shrink_guard", "off, keep-last or a duration such as 30s")? {
            self.shrink_guard = value;
        }
        if let Some(value) = url.option("zone") {
            self.zone = Some(value.to_owned());
        }
        if let Some(value) = url.parsed_option("slow_start", SlowStart::EXPECTS)? {
            self.slow_start = value;
        }
        if let Some(value) = url.parsed_option("subset", Subset::EXPECTS)? {
            self.subset = value;
        }
        if let Some(value) = url.parsed_option("damping", Damping::EXPECTS)? {
            self.damping = value;
        }
        if let Some(value) = url.parsed_option("advertise", "an IP address")? {
            self.advertise = Some(value);
        }
        if let Some(value) = url.option("disk") {
            self.disk = Some(value.into());
        }
        if let Some(value) = url.option("balancer") {
            self.balancer = value.to_owned();
        }
        Ok(())
    }

    /// Checks what no single field can.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.ttl < MIN_TTL {
            return Err(Error::invalid(format!(
                "ttl is {:?}; it must be at least 3s to be renewed in time",
                self.ttl
            )));
        }
        if self.ttl > Duration::from_secs(86_400) {
            return Err(Error::invalid(format!("ttl is {:?}; it must be at most one day", self.ttl)));
        }
        for (name, value) in [("relist", self.relist), ("audit", self.audit)] {
            if value < Duration::from_secs(1) {
                return Err(Error::invalid(format!("{name} is {value:?}; it must be at least 1s")));
            }
        }
        let bounded = [
            ("relist", Some(self.relist)),
            ("audit", Some(self.audit)),
            ("linger", Some(self.linger)),
            ("initial_timeout", Some(self.initial_timeout)),
            ("register_timeout", Some(self.register_timeout)),
            ("max_staleness", self.max_staleness),
            ("lasting_loss", self.lasting_loss),
        ];
        for (name, value) in bounded {
            if let Some(value) = value.filter(|value| *value > super::FAR) {
                return Err(Error::invalid(format!("{name} is {value:?}; it must be at most one year")));
            }
        }
        if matches!(self.shrink_guard, ShrinkGuard::Hold(hold) if hold > super::FAR) {
            return Err(Error::invalid("shrink_guard must be at most one year; keep-last holds for ever"));
        }
        self.subset.check()?;
        self.damping.check()?;
        self.slow_start.check()?;
        if self.zone.as_ref().is_some_and(String::is_empty) {
            return Err(Error::invalid("zone is empty; leave it out where there are no zones"));
        }
        if self.advertise.is_some_and(|ip| ip.is_unspecified()) {
            return Err(Error::invalid("advertise must not be a wildcard address such as 0.0.0.0"));
        }
        Ok(())
    }
}

fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RegistryUrl>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| de::Error::custom("expected a duration such as 15s or 500ms"))
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let parse = |text: String| humantime::parse_duration(&text);
    text.map(parse).transpose().map_err(|_| de::Error::custom("expected a duration such as 15s or 500ms"))
}

fn text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

impl FromStr for ShrinkGuard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "off" => Ok(Self::Off),
            "keep-last" => Ok(Self::KeepLast),
            _ => humantime::parse_duration(text)
                .map(Self::Hold)
                .map_err(|_| Error::invalid("a shrink guard is off, keep-last or a duration such as 30s")),
        }
    }
}

impl FromStr for Expiry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "serve" => Ok(Self::Serve),
            "refuse" => Ok(Self::Refuse),
            _ => Err(Error::invalid("expiry is serve or refuse")),
        }
    }
}
