//! How namespaces, services and ids are spelt in Eureka.
//!
//! | ours | Eureka's | example: `prod/eu`, `orders`, `a1` | in the default namespace |
//! |---|---|---|---|
//! | namespace and service | application, in upper case | `PROD:EU:ORDERS` | `ORDERS` |
//! | the same | vip address, in lower case: what Spring's consumers look up | `prod:eu:orders` | `orders` |
//! | namespace, service and id | instance id | `prod:eu:orders:a1` | `orders:a1` |
//!
//! Anything but letters, digits, `.`, `_` and `-` is written `~XX` per byte: Tomcat refuses an encoded slash in a path.
//!
//! An application has no case, so the instance id has it: `Orders` and `orders` are one application and two services.
//! The id holds the service for another reason too: Eureka keeps status overrides by instance id alone, so one id in two
//! applications would be taken out of service together.

use registry_core::{InstanceId, InstanceKey, Namespace, ServiceName};

/// The spelling within one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// What records say; `None` for the default namespace.
    namespace: Option<Box<str>>,
    /// `prod:eu:`, or nothing.
    prefix: Box<str>,
}

impl Names {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        if *namespace == Namespace::default() {
            return Self { namespace: None, prefix: "".into() };
        }
        let segments = namespace.as_str().split('/').map(|segment| escape(segment) + ":");
        Self {
            namespace: Some(namespace.as_str().into()),
            prefix: segments.collect::<String>().into_boxed_str(),
        }
    }

    /// The namespace as records say it: nothing for the default one, which foreign records are in as well.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The application of a service.
    pub(crate) fn app(&self, service: &ServiceName) -> String {
        self.scope(service).to_ascii_uppercase()
    }

    /// The vip address of a service.
    pub(crate) fn vip(&self, service: &ServiceName) -> String {
        self.scope(service).to_ascii_lowercase()
    }

    /// The instance id of one of our records.
    pub(crate) fn instance_id(&self, key: &InstanceKey) -> String {
        format!("{}:{}", self.scope(&key.service), escape(key.id.as_str()))
    }

    /// Whether this is the instance id of one of our records.
    pub(crate) fn is_instance_id(&self, text: &str, service: &ServiceName, id: &InstanceId) -> bool {
        let (service, id) = (service.as_str(), id.as_str());
        let parts = text.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_prefix(service));
        match parts.and_then(|rest| rest.strip_prefix(':')) {
            Some(own) if is_same(service) && is_same(id) => own == id,
            _ => *text == format!("{}{}:{}", self.prefix, escape(service), escape(id)),
        }
    }

    /// The id in the instance id of a record of ours, as it is spelt there: mostly as it is.
    pub(crate) fn spelt_id<'t>(&self, text: &'t str, service: &ServiceName) -> Option<&'t str> {
        text.strip_prefix(&*self.prefix)?.strip_prefix(service.as_str())?.strip_prefix(':')
    }

    /// Whether this is the application of a service, which has no case.
    pub(crate) fn is_app(&self, text: &str, service: &ServiceName) -> bool {
        match self.prefix.is_empty() && is_same(service.as_str()) {
            true => text.eq_ignore_ascii_case(service.as_str()),
            false => text.eq_ignore_ascii_case(&self.app(service)),
        }
    }

    /// The key of one of our records.
    pub(crate) fn key_of(&self, instance_id: &str) -> Option<InstanceKey> {
        let (service, id) = instance_id.strip_prefix(&*self.prefix)?.split_once(':')?;
        let service = ServiceName::foreign(unescape(service)?).ok()?;
        Some(InstanceKey::new(service, InstanceId::foreign(unescape(id)?).ok()?))
    }

    /// The service that an application of foreign records is called by; `None` if it is of another namespace.
    pub(crate) fn foreign_service(&self, app: &str, vip: Option<&str>) -> Option<ServiceName> {
        if self.namespace.is_some() || app.contains(':') {
            return None;
        }
        let vip = vip.filter(|vip| vip.eq_ignore_ascii_case(app));
        ServiceName::foreign(vip.map_or_else(|| app.to_ascii_lowercase(), str::to_owned)).ok()
    }

    fn scope(&self, service: &ServiceName) -> String {
        format!("{}{}", self.prefix, escape(service.as_str()))
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether a text is spelt as it is: most are, and lists have thousands.
fn is_same(text: &str) -> bool {
    text.bytes().all(is_plain) && text.bytes().any(|byte| byte != b'.')
}

fn escape(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    // A segment of dots would be resolved on the way.
    let all = text.bytes().all(|byte| byte == b'.');
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) && !all {
            escaped.push(char::from(byte));
        } else {
            escaped.push('~');
            escaped.push(char::from(HEX[usize::from(byte >> 4)]));
            escaped.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    escaped
}

/// What `escape` was given, if this is what it gives.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'~' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            plain => plain,
        });
    }
    let plain = String::from_utf8(bytes).ok()?;
    (escape(&plain) == text).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str, id: &str) -> InstanceKey {
        InstanceKey::new(ServiceName::foreign(service).unwrap(), InstanceId::foreign(id).unwrap())
    }

    #[test]
    fn names_are_spelt_as_the_table_says() {
        let orders = key("orders", "a1");
        let prod = Names::new(&Namespace::new("prod/eu").unwrap());
        assert_eq!(prod.app(&orders.service), "PROD:EU:ORDERS");
        assert_eq!(prod.vip(&orders.service), "prod:eu:orders");
        assert_eq!(prod.instance_id(&orders), "prod:eu:orders:a1");
        let plain = Names::new(&Namespace::default());
        assert_eq!(plain.app(&orders.service), "ORDERS");
        assert_eq!(plain.vip(&orders.service), "orders");
        assert_eq!(plain.instance_id(&orders), "orders:a1");
    }

    #[test]
    fn every_key_is_spelt_in_its_own_way_and_comes_back() {
        let mut seen = std::collections::HashSet::new();
        for namespace in ["services", "prod", "Prod", "prod/eu"] {
            let names = Names::new(&Namespace::new(namespace).unwrap());
            for service in ["orders", "Orders", "..", "eu", "a:b", "a/b ü", "~2E", "x~"] {
                for id in ["a1", "A1", "10.0.0.7:80", "[::1]:9", "a/b", "a%2Fb", ".", "..", "...", "漢🦀"]
                {
                    let key = key(service, id);
                    let spelt = names.instance_id(&key);
                    assert!(spelt.bytes().all(|b| is_plain(b) || b == b':' || b == b'~'), "{spelt}");
                    assert_eq!(names.key_of(&spelt), Some(key));
                    assert!(seen.insert(spelt));
                }
            }
        }
    }

    #[test]
    fn another_spelling_is_none_of_ours() {
        let names = Names::new(&Namespace::default());
        for other in
            ["", "orders", "orders:", ":a", "orders:a:b", "orders:~61", "orders:~2f", "orders:~", "orders:~F"]
        {
            assert_eq!(names.key_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_foreign_application_is_called_by_its_vip_address_or_in_lower_case() {
        let names = Names::new(&Namespace::default());
        let called = |app, vip| names.foreign_service(app, vip).map(|service| service.as_str().to_owned());
        assert_eq!(called("ORDERS", Some("Orders")).as_deref(), Some("Orders"));
        assert_eq!(called("ORDERS", Some("something")).as_deref(), Some("orders"));
        assert_eq!(called("ORDERS", None).as_deref(), Some("orders"));
        assert_eq!(called("PROD:ORDERS", None), None, "of another namespace");
        let prod = Names::new(&Namespace::new("prod").unwrap());
        assert_eq!(prod.foreign_service("ORDERS", None), None);
    }
}
