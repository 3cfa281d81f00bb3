//! Keys and values: where a record stands and what is in it.
//!
//! Native layout, which is also what the crate's README documents for other languages:
//!
//! ```text
//! /{namespace}/{service}/{id}  →  the native JSON record
//! ```
//!
//! Service and id are percent-encoded where they hold anything but letters, digits, `.`, `_`, `-` and `~`, so a
//! foreign name can't climb out of its prefix. A key has one spelling only: an alias such as `%61` for `a` is no key
//! of ours, else two keys would mean one instance. Deeper keys belong to a longer namespace and are left alone.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use registry_core::{
    Error, ErrorKind, Instance, InstanceId, InstanceKey, Namespace, ServiceName, Target,
    model::{RecordVersion, decode_record, encode_record},
};

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-').remove(b'~');

/// How a fleet lays out its records; the place where other layouts plug in.
pub(crate) trait Layout: std::fmt::Debug + Send + Sync + 'static {
    /// The prefix of all services, with a trailing separator.
    fn root(&self) -> &[u8];

    /// The prefix of a target's records, with a trailing separator.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a qualifier that the layout doesn't know.
    fn prefix(&self, target: &Target) -> Result<Vec<u8>, Error>;

    /// The key of an instance.
    fn key(&self, key: &InstanceKey) -> Vec<u8>;

    /// Which instance of `service` a key names; `None` for a key that is none of the service's.
    fn instance_of(&self, service: &ServiceName, key: &[u8]) -> Option<InstanceKey>;

    /// Which service a key belongs to; `None` for a key that is no instance's.
    fn service_of(&self, key: &[u8]) -> Option<ServiceName>;

    /// The first key after all keys that share the service segment of `key`.
    fn after_service(&self, key: &[u8]) -> Vec<u8>;

    /// The value of a record.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is too large.
    fn encode(&self, instance: &Instance, version: RecordVersion) -> Result<Vec<u8>, Error>;

    /// What a value says, if it is the record of `key`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it is malformed or the record of another key.
    fn decode(&self, key: &InstanceKey, value: &[u8]) -> Result<Instance, Error>;
}

/// The native layout.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    root: Arc<str>,
}

impl Native {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        Self { root: format!("/{namespace}/").into() }
    }

    fn service_prefix(&self, service: &ServiceName) -> String {
        format!("{}{}/", self.root, utf8_percent_encode(service.as_str(), ENCODED))
    }
}

impl Layout for Native {
    fn root(&self) -> &[u8] {
        self.root.as_bytes()
    }

    fn prefix(&self, target: &Target) -> Result<Vec<u8>, Error> {
        if let Some((qualifier, _)) = target.qualifiers().iter().next() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the etcd backend knows no qualifier {qualifier:?}"),
            ));
        }
        Ok(self.service_prefix(target.service()).into_bytes())
    }

    fn key(&self, key: &InstanceKey) -> Vec<u8> {
        let mut whole = self.service_prefix(&key.service);
        whole.extend(utf8_percent_encode(key.id.as_str(), ENCODED));
        whole.into_bytes()
    }

    fn instance_of(&self, service: &ServiceName, key: &[u8]) -> Option<InstanceKey> {
        let rest = key.strip_prefix(self.service_prefix(service).as_bytes())?;
        let id = InstanceId::foreign(decode_segment(rest)?).ok()?;
        Some(InstanceKey::new(service.clone(), id))
    }

    fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        let rest = key.strip_prefix(self.root.as_bytes())?;
        let slash = rest.iter().position(|b| *b == b'/')?;
        decode_segment(&rest[slash + 1..])?;
        ServiceName::foreign(decode_segment(&rest[..slash])?).ok()
    }

    fn after_service(&self, key: &[u8]) -> Vec<u8> {
        let root = self.root.len().min(key.len());
        let slash = key[root..].iter().position(|b| *b == b'/').map_or(key.len(), |at| root + at);
        let mut after = key[..slash].to_vec();
        // The character after '/'.
        after.push(b'0');
        after
    }

    fn encode(&self, instance: &Instance, version: RecordVersion) -> Result<Vec<u8>, Error> {
        encode_record(instance, Some(version))
    }

    fn decode(&self, key: &InstanceKey, value: &[u8]) -> Result<Instance, Error> {
        let instance = decode_record(value)?;
        if instance.service() != &key.service || instance.id() != &key.id {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the record under {key} is that of {}", instance.key()),
            ));
        }
        Ok(instance)
    }
}

/// One segment in its only spelling.
fn decode_segment(segment: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(segment).ok().filter(|text| !text.is_empty())?;
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (utf8_percent_encode(&decoded, ENCODED).to_string() == text).then(|| decoded.into_owned())
}

/// The end of the range of all keys with a prefix: the prefix with its last byte raised.
pub(crate) fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // To the end of all keys.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::Incarnation;

    fn native() -> Native {
        Native::new(&Namespace::new("prod/eu").unwrap())
    }

    fn key(service: &str, id: &str) -> InstanceKey {
        InstanceKey::new(ServiceName::foreign(service).unwrap(), InstanceId::foreign(id).unwrap())
    }

    fn version() -> RecordVersion {
        RecordVersion { incarnation: Incarnation::from_bits(1), epoch: 1, sequence: 1 }
    }

    #[test]
    fn keys_are_readable_and_foreign_names_stay_inside_their_prefix() {
        for (service, id, expected) in [
            ("orders", "a1", "/prod/eu/orders/a1"),
            ("orders", "10.0.0.7:8080", "/prod/eu/orders/10.0.0.7%3A8080"),
            ("../x", "a/b", "/prod/eu/..%2Fx/a%2Fb"),
            ("a%2Fb", "ü", "/prod/eu/a%252Fb/%C3%BC"),
        ] {
            let key = key(service, id);
            let written = native().key(&key);
            assert_eq!(std::str::from_utf8(&written).unwrap(), expected);
            assert_eq!(native().instance_of(&key.service, &written), Some(key.clone()));
            assert_eq!(native().service_of(&written), Some(key.service));
        }
    }

    #[test]
    fn a_key_that_is_not_in_its_only_spelling_or_place_is_none_of_ours() {
        let orders = ServiceName::new("orders").unwrap();
        for other in [
            "/prod/eu/orders/",
            "/prod/eu/orders",
            "/prod/eu/orders2/a",
            "/prod/eu/orders/a/b",
            "/prod/eu/orders/%61",
            "/prod/eu/orders/a%2fb",
            "/prod/eu/orders/a%",
            "/prod/eu/orders/a:b",
            "/prod/eu/orders/%FF",
            "/prod/eu/orders/%00",
            "/prod/us/orders/a",
            "",
        ] {
            assert_eq!(native().instance_of(&orders, other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let instance = Instance::builder("orders").id("a1").endpoint("http://h:1").zone("z").build().unwrap();
        let value = native().encode(&instance, version()).unwrap();
        let read = native().decode(&instance.key(), &value).unwrap();
        assert_eq!(read, instance);
        assert_eq!(read.record_version(), Some(version()));
    }

    #[test]
    fn a_record_under_another_key_is_refused() {
        let instance = Instance::builder("orders").id("a1").endpoint("http://h:1").build().unwrap();
        let value = native().encode(&instance, version()).unwrap();
        for other in [key("orders", "a2"), key("billing", "a1")] {
            assert_eq!(native().decode(&other, &value).unwrap_err().kind(), ErrorKind::Protocol);
        }
    }

    #[test]
    fn garbage_is_a_protocol_error() {
        for value in ["", "null", "{}", "[1]", "{\"service\":\"orders\",\"id\":\"a1\"}"] {
            let error = native().decode(&key("orders", "a1"), value.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{value}");
        }
    }

    #[test]
    fn an_unknown_qualifier_is_refused_rather_than_widening_the_query() {
        let target = Target::try_from("orders").unwrap();
        assert_eq!(native().prefix(&target).unwrap(), b"/prod/eu/orders/");
        let error = native().prefix(&target.with_qualifier("group", "g").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn the_key_after_a_service_skips_all_of_it_and_nothing_else() {
        let after = native().after_service(b"/prod/eu/orders/a1");
        assert_eq!(after, b"/prod/eu/orders0");
        assert!(after.as_slice() > b"/prod/eu/orders/\xff\xff".as_slice());
        assert!(after.as_slice() < b"/prod/eu/orders0/a".as_slice());
        assert!(
            b"/prod/eu/orders-2/a".as_slice() < after.as_slice(),
            "it sorts before and was listed already"
        );
    }

    #[test]
    fn a_prefix_ends_where_its_last_byte_is_raised() {
        assert_eq!(range_end(b"/a/"), b"/a0");
        assert_eq!(range_end(b"a\xff"), b"b");
        assert_eq!(range_end(b"\xff"), b"\0");
    }
}
