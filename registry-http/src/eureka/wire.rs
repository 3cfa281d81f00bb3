//! Eureka's `InstanceInfo` as JSON.
//!
//! Written as its own client writes it. Read loosely, as writers differ: a number or a flag may be a string and the
//! other way round, a port a bare number, a list of one the one alone, anything absent or `null`.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize};

use crate::json::{self, Object, Scalar};

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

impl Loose<'_> {
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
        let number = number.number().and_then(|number| u16::try_from(number).ok());
        Ok(Self { number: number.filter(|number| *number > 0), enabled: enabled.flag() })
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

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts<'a> {
            #[serde(borrow, rename = "registrationTimestamp")]
            registered: Loose<'a>,
        }
        let parts: Parts<'_> = Object::deserialize(deserializer)?.or_default();
        Ok(Self { registered: parts.registered.number().unwrap_or(0) })
    }
}

/// A map of strings, without Java's `@class`; whatever else stands in its place is empty.
#[derive(Debug, Default)]
pub(crate) struct Pairs<'a>(Vec<(Cow<'a, str>, Loose<'a>)>);

impl Pairs<'_> {
    /// A value that isn't empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.text())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, value.0.as_deref().unwrap_or_default()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all: json::Pairs<Loose<'de>, Loose<'de>> = Object::deserialize(deserializer)?.or_default();
        let said = all.0.into_iter().filter_map(|(key, value)| Some((key.0?, value)));
        Ok(Self(said.filter(|(key, _)| key != "@class").collect()))
    }
}
