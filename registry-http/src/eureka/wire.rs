//! Eureka's `InstanceInfo` as JSON.
//!
//! Written as its own client writes it. Read loosely, as writers differ: a number or a flag may be a string and the
//! other way round, a port a bare number, a list of one the one alone, anything absent or `null`.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::said::Kept;
use crate::json::{Object, Scalar};

/// Room that a map gets at first.
const FEW: usize = 8;

/// The body of a registration.
#[derive(Debug, Serialize)]
pub(crate) struct Registration<'a> {
    pub(crate) instance: Written<'a>,
}

/// An `InstanceInfo` as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written<'a> {
    pub(crate) instance_id: &'a str,
    pub(crate) host_name: &'a str,
    pub(crate) app: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app_group_name: Option<&'a str>,
    pub(crate) ip_addr: &'a str,
    pub(crate) status: &'static str,
    pub(crate) overridden_status: &'static str,
    pub(crate) port: WrittenPort,
    pub(crate) secure_port: WrittenPort,
    pub(crate) country_id: u8,
    pub(crate) data_center_info: WrittenDataCenter,
    pub(crate) lease_info: WrittenLease,
    pub(crate) metadata: BTreeMap<&'a str, Cow<'a, str>>,
    pub(crate) vip_address: &'a str,
    pub(crate) secure_vip_address: &'a str,
    pub(crate) is_coordinating_discovery_server: &'static str,
    pub(crate) last_updated_timestamp: String,
    pub(crate) last_dirty_timestamp: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct WrittenPort {
    #[serde(rename = "$")]
    pub(crate) number: u16,
    #[serde(rename = "@enabled")]
    pub(crate) enabled: &'static str,
}

impl WrittenPort {
    /// The port, or the default of a port that isn't used.
    pub(crate) fn new(number: Option<u16>, unused: u16) -> Self {
        Self { number: number.unwrap_or(unused), enabled: if number.is_some() { "true" } else { "false" } }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct WrittenDataCenter {
    #[serde(rename = "@class")]
    class: &'static str,
    name: &'static str,
}

impl WrittenDataCenter {
    pub(crate) const OWN: Self =
        Self { class: "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", name: "MyOwn" };
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenLease {
    pub(crate) renewal_interval_in_secs: u64,
    pub(crate) duration_in_secs: u64,
}

/// An `InstanceInfo` as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Info<'a> {
    #[serde(borrow)]
    pub(crate) instance_id: Loose<'a>,
    #[serde(borrow)]
    pub(crate) host_name: Loose<'a>,
    #[serde(borrow)]
    pub(crate) app: Loose<'a>,
    #[serde(borrow)]
    pub(crate) app_group_name: Loose<'a>,
    #[serde(borrow)]
    pub(crate) ip_addr: Loose<'a>,
    #[serde(borrow)]
    pub(crate) status: Loose<'a>,
    #[serde(borrow)]
    pub(crate) overridden_status: Loose<'a>,
    /// As older servers spell it.
    #[serde(borrow, rename = "overriddenstatus")]
    pub(crate) overridden_status_of_old: Loose<'a>,
    pub(crate) port: Port,
    pub(crate) secure_port: Port,
    #[serde(borrow)]
    pub(crate) data_center_info: DataCenter<'a>,
    pub(crate) lease_info: Lease,
    #[serde(borrow)]
    pub(crate) metadata: Pairs<'a>,
    #[serde(borrow)]
    pub(crate) vip_address: Loose<'a>,
    #[serde(borrow)]
    pub(crate) secure_vip_address: Loose<'a>,
    #[serde(borrow)]
    pub(crate) last_dirty_timestamp: Loose<'a>,
    #[serde(borrow)]
    pub(crate) action_type: Loose<'a>,
}

impl Info<'_> {
    /// What Eureka itself takes for the id: it is optional, on Amazon the machine's stands in, else the host.
    pub(crate) fn id(&self) -> Option<&str> {
        let machine = || self.data_center_info.metadata.get("instance-id");
        self.instance_id.text().or_else(machine).or_else(|| self.host_name.text())
    }

    pub(crate) fn overridden(&self) -> Option<&str> {
        self.overridden_status.text().or_else(|| self.overridden_status_of_old.text())
    }
}

/// A string, or what stands where one should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loose<'a>(Option<Cow<'a, str>>);

impl<'a> Loose<'a> {
    pub(super) fn borrowed(text: Option<&'a str>) -> Self {
        Self(text.map(Cow::Borrowed))
    }

    /// The text, if there is any.
    pub(crate) fn text(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.is_empty())
    }

    pub(crate) fn number(&self) -> Option<u64> {
        self.text()?.trim().parse().ok()
    }

    fn flag(&self) -> Option<bool> {
        match self.text()?.trim() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Scalar::deserialize(deserializer)?.into_text()))
    }
}

/// `{"$":8080,"@enabled":"true"}`, or a bare number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Port {
    /// Never 0.
    number: Option<u16>,
    enabled: Option<bool>,
}

impl Port {
    pub(super) fn of(number: &Loose<'_>, enabled: &Loose<'_>) -> Self {
        let number = number.number().and_then(|number| u16::try_from(number).ok());
        Self { number: number.filter(|number| *number > 0), enabled: enabled.flag() }
    }

    /// The port, if it is in use; `by_default` is whether one is that doesn't say.
    pub(crate) fn used(self, by_default: bool) -> Option<u16> {
        self.number.filter(|_| self.enabled.unwrap_or(by_default))
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts<'a> {
            #[serde(borrow, rename = "$")]
            number: Loose<'a>,
            #[serde(borrow, rename = "@enabled")]
            enabled: Loose<'a>,
        }
        let Parts { number, enabled } = match Object::deserialize(deserializer)? {
            Object::Is(parts) => parts,
            Object::Not(number) => Parts { number: Loose(number.into_text()), enabled: Loose::default() },
        };
        Ok(Self::of(&number, &enabled))
    }
}

/// The part of `dataCenterInfo` that says something: what Amazon's machines tell of themselves.
#[derive(Debug, Default)]
pub(crate) struct DataCenter<'a> {
    pub(crate) metadata: Pairs<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for DataCenter<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts<'a> {
            #[serde(borrow)]
            metadata: Pairs<'a>,
        }
        let parts: Parts<'de> = Object::deserialize(deserializer)?.or_default();
        Ok(Self { metadata: parts.metadata })
    }
}

/// The part of `leaseInfo` that a reader needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    /// When this server's memory took the registration in, in ms since the Unix epoch by its clock.
    pub(crate) registered: u64,
}

impl Lease {
    pub(super) fn of(registered: &Loose<'_>) -> Self {
        Self { registered: registered.number().unwrap_or(0) }
    }
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts<'a> {
            #[serde(borrow, rename = "registrationTimestamp")]
            registered: Loose<'a>,
        }
        let parts: Parts<'_> = Object::deserialize(deserializer)?.or_default();
        Ok(Self::of(&parts.registered))
    }
}

/// The metadata entry with the native record.
pub(crate) const RECORD: &str = "sdk-record";

/// A map of strings, without Java's `@class`; whatever else stands in its place is empty.
#[derive(Debug)]
pub(crate) struct Pairs<'a> {
    others: Others<'a>,
    quoted: Option<&'a str>,
}

/// All but a native record.
#[derive(Debug)]
enum Others<'a> {
    Read(Vec<(Cow<'a, str>, Loose<'a>)>),
    Kept(Kept<'a>),
}

impl Default for Pairs<'_> {
    fn default() -> Self {
        Self { others: Others::Read(Vec::new()), quoted: None }
    }
}

impl<'a> Pairs<'a> {
    /// For what most have.
    pub(super) fn room() -> Vec<(Cow<'a, str>, Loose<'a>)> {
        Vec::with_capacity(FEW)
    }

    /// Without `@class`, and without the record if that is given by itself.
    pub(super) fn read(read: Vec<(Cow<'a, str>, Loose<'a>)>, quoted: Option<&'a str>) -> Self {
        Self { others: Others::Read(read), quoted }
    }

    pub(super) fn kept(kept: Kept<'a>, quoted: Option<&'a str>) -> Self {
        Self { others: Others::Kept(kept), quoted }
    }

    pub(super) fn borrowed(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let pair = |(key, value)| (Cow::Borrowed(key), Loose::borrowed(Some(value)));
        Self::read(pairs.map(pair).collect(), None)
    }

    /// The native record, as it stands there: in its quotes and with its escapes. `None` if it isn't a string, or empty.
    pub(crate) fn quoted_record(&self) -> Option<&'a str> {
        self.quoted
    }

    /// A value that isn't empty. Of a key that stands there twice the last counts, as to who collects them.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.iter().filter(|(name, _)| *name == key).last();
        found.map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    /// All but a native record.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let (read, kept) = match &self.others {
            Others::Read(read) => (&read[..], None),
            Others::Kept(kept) => (&[][..], Some(*kept)),
        };
        let read = read.iter().map(|(key, value)| (&**key, value.0.as_deref().unwrap_or_default()));
        read.chain(kept.into_iter().flatten())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<'a>(Pairs<'a>);

        impl<'de: 'a, 'a> Deserialize<'de> for Map<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(Entries).map(Map)
            }
        }

        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut read, mut quoted, mut has_record) = (Pairs::room(), None, false);
                while let Some(key) = map.next_key::<Loose<'de>>()? {
                    // To undo the escapes of one costs more than to read all else, and few readers want it.
                    if key.0.as_deref() == Some(RECORD) && !has_record {
                        has_record = true;
                        let raw = map.next_value::<&'de RawValue>()?.get();
                        quoted = Some(raw).filter(|raw| raw.starts_with('"') && raw.len() > 2);
                        if quoted.is_none() {
                            let value = serde_json::from_str(raw).map_err(A::Error::custom)?;
                            read.push((RECORD.into(), value));
                        }
                        continue;
                    }
                    let value = map.next_value()?;
                    read.extend(key.0.filter(|key| key != "@class").map(|key| (key, value)));
                }
                Ok(Pairs::read(read, quoted))
            }
        }

        Object::<Map<'de>>::deserialize(deserializer).map(|map| match map {
            Object::Is(Map(pairs)) => pairs,
            Object::Not(_) => Self::default(),
        })
    }
}
