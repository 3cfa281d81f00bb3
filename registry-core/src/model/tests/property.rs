//! What holds for any input.

use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};

use super::*;
use crate::{RegistryUrl, model::builder::Draft};

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9]([A-Za-z0-9_-]|[.][a-z]){0,30}"
}

/// Text as others write it: any script, quotes, backslashes, but nothing that deceives.
fn foreign() -> impl Strategy<Value = String> {
    "\\PC{1,40}".prop_filter("must not deceive", |text| !text.chars().any(is_deceptive))
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
        "[a-z_]([A-Za-z0-9_-]{0,20}[a-z0-9])?([.][a-z][a-z0-9]{0,10}){0,3}[.]?",
    ]
}

/// Empty, short, in any script, or as long as a value may be.
fn value() -> impl Strategy<Value = String> {
    let long = (any::<char>(), 0..=4096_usize)
        .prop_map(|(filler, bytes)| filler.to_string().repeat(bytes / filler.len_utf8()));
    prop_oneof![3 => any::<String>(), 1 => Just(String::new()), 1 => long]
}

fn scheme() -> impl Strategy<Value = String> {
    prop_oneof!["http|HTTPS|tcp|Grpc|quic", "[a-zA-Z][a-zA-Z0-9+.-]{0,31}"]
}

prop_compose! {
    fn endpoint()(scheme in scheme(), host in host(), port in 1..=u16::MAX) -> Endpoint {
        Endpoint::new(&scheme, &host, port).expect("the parts are valid")
    }
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Starting), Just(Status::Serving), Just(Status::Draining), Just(Status::Down)]
}

prop_compose! {
    fn instance()(
        service in foreign(),
        id in foreign(),
        endpoints in vec(endpoint(), 1..=4),
        texts in (option::of(foreign()), option::of(foreign()), option::of(foreign())),
        tags in vec(foreign(), 0..4),
        weight in 0..=1_000_000_u32,
        status in status(),
        metadata in vec((foreign(), any::<String>()), 0..6),
    ) -> Instance {
        let mut builder = InstanceBuilder::of(ServiceName::foreign(service).expect("valid"))
            .parsed_id(InstanceId::foreign(id).expect("valid"))
            .weight(weight)
            .status(status)
            .all_metadata(Metadata::from_pairs(metadata).expect("valid"));
        for endpoint in endpoints {
            builder = builder.endpoint(endpoint.to_string());
        }
        for tag in tags {
            builder = builder.tag(tag);
        }
        let (version, zone, group) = texts;
        if let Some(version) = version {
            builder = builder.version(version);
        }
        if let Some(zone) = zone {
            builder = builder.zone(zone);
        }
        if let Some(group) = group {
            builder = builder.group(group);
        }
        builder.build().expect("the parts are valid")
    }
}

prop_compose! {
    fn version()(bits: u128, epoch: u64, sequence: u64) -> RecordVersion {
        RecordVersion { incarnation: Incarnation::from_bits(bits), epoch, sequence }
    }
}

/// A record with some of its bytes changed, so that it gets past the first checks.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    (instance(), option::of(version()), damage).prop_map(|(instance, version, damage)| {
        let mut bytes = encode_record(&instance, version).expect("small enough");
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn an_instance_says_what_its_builder_was_told(
        service in foreign(),
        id in foreign(),
        endpoints in vec(endpoint(), 1..=4),
        texts in (option::of(foreign()), option::of(foreign()), option::of(foreign())),
        tags in btree_set(foreign(), 0..4),
        weight in 0..=1_000_000_u32,
        status in status(),
        metadata in btree_map(foreign(), value(), 0..6),
        versions in (option::of(version()), option::of(version())),
    ) {
        let (software, zone, group) = texts.clone();
        let draft = Draft {
            service: ServiceName::foreign(&service).unwrap(),
            id: InstanceId::foreign(&id).unwrap(),
            endpoints: endpoints.clone(),
            version: software.map(Into::into),
            zone: zone.map(Into::into),
            group: group.map(Into::into),
            tags: tags.iter().map(|tag| tag.as_str().into()).collect(),
            weight: Weight::new(weight).unwrap(),
            status,
            metadata: Metadata::from_pairs(&metadata).unwrap(),
            record_version: versions.0,
        };
        let first = Instance::from_draft(draft);
        prop_assert_eq!(first.record_version(), versions.0);
        let again = first.to_builder().build().unwrap();
        prop_assert!(again.is_same_record(&first));
        let instance = again.with_record_version(versions.1);
        prop_assert_eq!(&instance, &first, "the version is no content");
        prop_assert_eq!(first.is_same_record(&instance), versions.0 == versions.1);

        prop_assert_eq!(instance.service().as_str(), &service);
        prop_assert_eq!(instance.id().as_str(), &id);
        prop_assert_eq!(instance.endpoints(), &endpoints);
        prop_assert_eq!(instance.version(), texts.0.as_deref());
        prop_assert_eq!(instance.zone(), texts.1.as_deref());
        prop_assert_eq!(instance.group(), texts.2.as_deref());
        prop_assert!(instance.tags().eq(tags.iter().map(String::as_str)));
        prop_assert_eq!((instance.weight().get(), instance.status()), (weight, status));
        prop_assert_eq!(instance.record_version(), versions.1);
        prop_assert_eq!(instance.metadata(), &Metadata::from_pairs(&metadata).unwrap());
    }

    #[test]
    fn metadata_is_a_map(
        one in btree_map("[ab]{1,2}", value(), 0..5),
        two in btree_map("[ab]{1,2}", value(), 0..5),
    ) {
        let packed = Metadata::from_pairs(&one).unwrap();
        let pairs: Vec<_> = one.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        prop_assert_eq!(packed.iter().collect::<Vec<_>>(), pairs);
        prop_assert_eq!((packed.len(), packed.iter().len(), packed.is_empty()), (one.len(), one.len(), one.is_empty()));
        for key in one.keys().chain(two.keys()) {
            prop_assert_eq!(packed.get(key), one.get(key).map(String::as_str));
        }
        prop_assert_eq!(packed == Metadata::from_pairs(&two).unwrap(), one == two);
        prop_assert_eq!(format!("{packed:?}"), format!("{one:?}"));
    }

    #[test]
    fn endpoints_compare_by_scheme_then_host_then_port(one in endpoint(), two in endpoint()) {
        let parts = |endpoint: &Endpoint| {
            let name = endpoint.ip().is_none().then(|| endpoint.host());
            (endpoint.scheme().to_owned(), name.is_some(), endpoint.ip(), name, endpoint.port())
        };
        prop_assert_eq!(one.cmp(&two), parts(&one).cmp(&parts(&two)));
        prop_assert_eq!(one == two, parts(&one) == parts(&two));
    }

    #[test]
    fn a_record_is_read_as_it_was_written(instance in instance(), version in option::of(version())) {
        let bytes = encode_record(&instance, version).unwrap();
        let read = decode_record(&bytes).unwrap();
        prop_assert!(read.is_same_record(&instance.with_record_version(version)), "{read:?}");
        prop_assert_eq!(encode_record(&read, None).unwrap(), bytes);
    }

    #[test]
    fn an_endpoint_is_read_as_it_was_shown(endpoint in endpoint()) {
        prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
    }

    #[test]
    fn a_strict_name_is_a_foreign_name_too(name in name()) {
        prop_assert_eq!(ServiceName::new(&name).unwrap(), ServiceName::foreign(&name).unwrap());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..512)) {
        let _ = decode_record(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = text.parse::<Endpoint>();
        let _ = text.parse::<RegistryUrl>();
    }

    #[test]
    fn a_damaged_record_is_refused_or_stays_within_the_model(bytes in damaged()) {
        if let Ok(instance) = decode_record(&bytes) {
            let again = encode_record(&instance, None).unwrap();
            prop_assert!(decode_record(&again).unwrap().is_same_record(&instance));
        }
    }

    #[test]
    fn a_record_is_the_same_whether_it_is_read_at_a_glance_or_not(
        bytes in prop_oneof![damaged(), instance().prop_map(|instance| encode_record(&instance, None).unwrap())],
    ) {
        // Nobody who encodes a record begins with a space.
        let general = decode_record(&[b" ", &*bytes].concat());
        let key = InstanceKey::new("orders".parse().unwrap(), "a1".parse().unwrap());
        let key = general.as_ref().map_or(key, Instance::key);
        let quoted = std::str::from_utf8(&bytes).ok().map(|text| {
            decode_quoted_record(&serde_json::to_string(text).unwrap(), &key, Vec::new(), Vec::new())
        });
        for read in std::iter::once(decode_record(&bytes)).chain(quoted) {
            match (&general, &read) {
                (Ok(general), Ok(read)) => prop_assert!(general.is_same_record(read), "{read:?}"),
                (general, read) => prop_assert!(general.is_err() && read.is_err(), "{general:?} {read:?}"),
            }
        }
    }

    #[test]
    fn what_looks_like_an_endpoint_never_panics_and_reads_back(text in "[a-z0-9]{0,5}(://)?[\\[\\]:.a-f0-9%@/?#_-]{0,24}") {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn what_looks_like_a_url_never_panics_and_hides_its_password(
        text in "[a-z]{1,4}://([a-z%0-9]{0,4}:QQQ[a-z%/?&=0-9]{0,4}@)?[\\[\\]:.,a-f0-9%-]{0,16}[/a-z%0-9]{0,8}[?&=a-z%]{0,8}"
    ) {
        let shown = match text.parse::<RegistryUrl>() {
            Ok(url) => format!("{url} {url:?} {:?}", url.check_options(&[])),
            Err(error) => format!("{error:#} {error:?}"),
        };
        prop_assert!(!shown.contains("QQQ"), "{shown}");
    }
}
