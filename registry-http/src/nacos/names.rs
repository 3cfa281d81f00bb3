//! What services, namespaces, groups and clusters are called in Nacos.
//!
//! Nacos refuses some characters in service names (`ParamCheckRule`: white space, `@@`, the CJK block, `@` in front).
//! Those, and `%` itself, are percent-encoded; every name that Nacos takes is written as it is, so that other fleets
//! find it.

use percent_encoding::percent_decode_str;
use registry_core::{Error, Namespace, ServiceName, Target};

use super::config::NacosConfig;
use crate::http::invalid;

/// The namespace that every server has.
pub(crate) const PUBLIC: &str = "public";

/// Where a service stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) group: String,
    /// As the server writes it.
    pub(crate) service: String,
}

impl Place {
    pub(crate) fn new(config: &NacosConfig, namespace: &str, service: &ServiceName) -> Self {
        Self { namespace: namespace.to_owned(), group: config.group.clone(), service: encode(service) }
    }

    /// `group@@service`.
    pub(crate) fn grouped(&self) -> String {
        format!("{}@@{}", self.group, self.service)
    }
}

/// What a consumer asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) place: Place,
    /// Joined by commas; empty for all.
    pub(crate) clusters: String,
}

impl Wanted {
    /// # Errors
    /// `InvalidArgument` for a qualifier that Nacos doesn't know, or a value that it wouldn't take.
    pub(crate) fn of(config: &NacosConfig, namespace: &str, target: &Target) -> Result<Self, Error> {
        let mut wanted =
            Self { place: Place::new(config, namespace, target.service()), clusters: String::new() };
        for (qualifier, value) in target.qualifiers().iter() {
            match qualifier {
                "namespace" => wanted.place.namespace = namespace_id(value)?,
                "group" => wanted.place.group = group(value)?,
                "cluster" => {
                    for one in value.split(',') {
                        cluster(one)?;
                    }
                    wanted.clusters = value.to_owned();
                }
                other => {
                    let message = format!(
                        "the nacos backend knows no qualifier {other:?}; it knows cluster, group and namespace"
                    );
                    return Err(invalid(message));
                }
            }
        }
        Ok(wanted)
    }
}

/// The id of a namespace: `public` unless one was named.
pub(crate) fn of_namespace(namespace: &Namespace, was_named: bool) -> Result<String, Error> {
    match was_named || *namespace != Namespace::default() {
        true => namespace_id(namespace.as_str()),
        false => Ok(PUBLIC.to_owned()),
    }
}

pub(crate) fn namespace_id(id: &str) -> Result<String, Error> {
    checked(
        "namespace",
        id,
        64,
        |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
        "letters, digits, _ and -",
    )
}

pub(crate) fn group(name: &str) -> Result<String, Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.');
    checked("group", name, 128, allowed, "letters, digits, _ - : and .")
}

pub(crate) fn cluster(name: &str) -> Result<String, Error> {
    checked("cluster", name, 64, |c| c.is_ascii_alphanumeric() || c == '-', "letters, digits and -")
}

fn checked(
    what: &str,
    text: &str,
    most: usize,
    allowed: impl Fn(char) -> bool,
    said: &str,
) -> Result<String, Error> {
    if text.is_empty() || text.len() > most || !text.chars().all(allowed) {
        return Err(invalid(format!(
            "{what} {text:?} is not 1 to {most} of {said}, which is all that Nacos takes"
        )));
    }
    Ok(text.to_owned())
}

/// The name of a service as Nacos takes it.
pub(crate) fn encode(service: &ServiceName) -> String {
    let mut name = String::with_capacity(service.as_str().len());
    for c in service.as_str().chars() {
        let refused = matches!(c, '%' | '@' | '\u{4e00}'..='\u{9fa5}') || c.is_whitespace() || c.is_control();
        if refused {
            let mut bytes = [0; 4];
            name.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            name.push(c);
        }
    }
    name
}

/// The service that Nacos calls so; a name that isn't in our only spelling stands for itself.
pub(crate) fn decode(name: &str) -> Option<ServiceName> {
    let decoded = percent_decode_str(name).decode_utf8().ok();
    let ours =
        decoded.and_then(|decoded| ServiceName::foreign(decoded).ok()).filter(|ours| encode(ours) == name);
    ours.or_else(|| ServiceName::foreign(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        ServiceName::foreign(name).unwrap()
    }

    #[test]
    fn a_name_that_nacos_takes_stays_as_it_is_and_every_other_comes_back() {
        for (name, wire) in [
            ("orders", "orders"),
            ("..", ".."),
            ("providers:shop.api.InventoryService:1.0.0:", "providers:shop.api.InventoryService:1.0.0:"),
            ("größe/x$y", "größe/x$y"),
            ("group@@orders/v1 ü", "group%40%40orders/v1%20ü"),
            ("a%20b", "a%2520b"),
            ("漢字", "%E6%BC%A2%E5%AD%97"),
        ] {
            assert_eq!(encode(&service(name)), wire);
            assert_eq!(decode(wire), Some(service(name)));
        }
        assert_eq!(decode("50%off"), Some(service("50%off")), "somebody else's");
    }

    #[test]
    fn what_nacos_would_refuse_is_refused_here_with_the_rule() {
        for (result, named) in [
            (namespace_id("prod/eu"), "namespace"),
            (namespace_id(&"x".repeat(65)), "64"),
            (group("a b"), "group"),
            (cluster("a_b"), "cluster"),
            (cluster(""), "cluster"),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), registry_core::ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn qualifiers_narrow_and_an_unknown_one_is_refused() {
        let config: NacosConfig = "nacos://h".parse().unwrap();
        let target = Target::new(service("orders"));
        let with = |key: &str, value: &str| target.clone().with_qualifier(key, value).unwrap();
        let wanted = Wanted::of(&config, PUBLIC, &with("group", "g")).unwrap();
        assert_eq!(wanted.place.grouped(), "g@@orders");
        assert_eq!(Wanted::of(&config, PUBLIC, &with("cluster", "a,b")).unwrap().clusters, "a,b");
        assert_eq!(Wanted::of(&config, PUBLIC, &with("namespace", "dev")).unwrap().place.namespace, "dev");
        for (key, value) in [("dc", "x"), ("cluster", "a b"), ("group", "")] {
            assert!(Wanted::of(&config, PUBLIC, &with(key, value)).is_err(), "{key}");
        }
    }
}
