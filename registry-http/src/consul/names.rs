//! Our names as Consul's: services, service ids, and the namespace in front of them.
//!
//! Consul's free edition has no namespaces. In ours, the default one (`services`) holds the plain names, which fleets
//! already use; any other stands in front of the name: `prod/eu/orders`. So a token may be given one namespace by a
//! `service_prefix` rule, and the catalogue tells them apart.
//!
//! A name goes out as it is if it is printable ASCII without `%` and `/`; all else is percent-encoded. Service ids are
//! `{name}:{id}`, as one id may occur in two services of one agent, with capitals encoded too: the catalogue ignores
//! case.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use registry_core::{InstanceId, InstanceKey, Namespace, ServiceName};

/// What can't stand in the name of a service.
const IN_NAME: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'/');
/// What can't stand in our ids, capitals aside.
const IN_ID: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// One namespace of ours.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// With a `/` at its end, or empty.
    prefix: String,
}

impl Names {
    pub(super) fn new(namespace: &Namespace) -> Self {
        let prefix = if *namespace == Namespace::default() { String::new() } else { format!("{namespace}/") };
        Self { prefix }
    }

    /// What the names of all services begin with at Consul.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of a service at Consul.
    pub(super) fn service(&self, service: &ServiceName) -> String {
        let name = service.as_str();
        let mut whole = self.prefix.clone();
        if name == "." || name == ".." {
            // These climb, also when encoded once.
            whole.push_str(&name.replace('.', "%2E"));
        } else {
            whole.extend(utf8_percent_encode(name, IN_NAME));
        }
        whole
    }

    /// Whether this is the name of a service at Consul.
    pub(super) fn is_name_of(&self, service: &ServiceName, name: &str) -> bool {
        // Compared with nothing, a processor may stumble over where nothing is.
        let rest = if self.prefix.is_empty() { Some(name) } else { name.strip_prefix(&*self.prefix) };
        let plain = rest.filter(|rest| is_plain(rest));
        plain.map_or_else(|| self.service(service) == name, |plain| plain == service.as_str())
    }

    /// Which of our services a name at Consul is, if it is one of this namespace in its only spelling.
    pub(super) fn service_of(&self, name: &str) -> Option<ServiceName> {
        let rest = name.strip_prefix(&*self.prefix)?;
        let decoded = percent_decode_str(rest).decode_utf8().ok()?;
        let service = ServiceName::foreign(decoded).ok()?;
        (self.service(&service) == name).then_some(service)
    }

    /// The id of one of our instances at its agent.
    pub(super) fn id(&self, key: &InstanceKey) -> String {
        let mut id = String::new();
        push_encoded(&mut id, &self.service(&key.service));
        id.push(':');
        push_encoded(&mut id, key.id.as_str());
        id
    }

    /// Which of our instances of `service` has this id, if it is in its only spelling.
    pub(super) fn key_of(&self, service: &ServiceName, id: &str) -> Option<InstanceKey> {
        let (front, own) = id.split_once(':')?;
        if front == service.as_str() && self.prefix.is_empty() && is_plain(front) && is_plain(own) {
            return Some(InstanceKey::new(service.clone(), InstanceId::foreign(own).ok()?));
        }
        let decoded = percent_decode_str(own).decode_utf8().ok()?;
        let key = InstanceKey::new(service.clone(), InstanceId::foreign(decoded).ok()?);
        (self.id(&key) == id).then_some(key)
    }
}

/// Whether a name is spelt as it is, wherever it stands: most are, and lists have thousands.
fn is_plain(text: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let mut bytes = text.bytes();
    bytes.next().is_some_and(plain) && bytes.all(|byte| plain(byte) || byte == b'.')
}

fn push_encoded(into: &mut String, text: &str) {
    for piece in utf8_percent_encode(text, IN_ID) {
        // Encoded pieces hold capitals as digits, which mean the same in lower case.
        if piece.starts_with('%') {
            into.push_str(&piece.to_ascii_lowercase());
            continue;
        }
        for c in piece.chars() {
            match c {
                'A'..='Z' => into.push_str(&format!("%{:02x}", u32::from(c))),
                c => into.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str, id: &str) -> InstanceKey {
        InstanceKey::new(ServiceName::foreign(service).unwrap(), InstanceId::foreign(id).unwrap())
    }

    #[test]
    fn plain_names_stay_and_strange_ones_come_back() {
        let (plain, prod) =
            (Names::new(&Namespace::default()), Names::new(&Namespace::new("prod/eu").unwrap()));
        for (service, id, wire, wire_id) in [
            ("orders", "a1", "orders", "orders:a1"),
            ("Orders", "A1", "Orders", "%4frders:%411"),
            ("orders.eu-2_x", "10.0.0.7:8080", "orders.eu-2_x", "orders.eu-2_x:10.0.0.7%3a8080"),
            (
                "group@@orders/v1 ü",
                "..",
                "group@@orders%2Fv1%20%C3%BC",
                "group%40%40orders%252%46v1%2520%25%433%25%42%43:..",
            ),
            ("..", "a%2Fb", "%2E%2E", "%252%45%252%45:a%252%46b"),
        ] {
            let key = key(service, id);
            assert_eq!(plain.service(&key.service), wire);
            assert_eq!(plain.id(&key), wire_id);
            for names in [&plain, &prod] {
                let name = names.service(&key.service);
                assert_eq!(names.service_of(&name), Some(key.service.clone()), "{name}");
                assert_eq!(names.key_of(&key.service, &names.id(&key)), Some(key.clone()));
            }
            assert_eq!(prod.service(&key.service), format!("prod/eu/{wire}"));
            assert_eq!(plain.service_of(&prod.service(&key.service)), None, "another namespace");
        }
    }

    #[test]
    fn other_spellings_are_none_of_ours() {
        let plain = Names::new(&Namespace::default());
        for name in ["%61", "a b", "ü", "a/b", "", ".."] {
            assert_eq!(plain.service_of(name), None, "{name}");
        }
        let orders = ServiceName::new("orders").unwrap();
        for id in ["orders-8080", "orders:", "orders:A1", "orders:%61", "other:a1"] {
            assert_eq!(plain.key_of(&orders, id), None, "{id}");
        }
    }
}
