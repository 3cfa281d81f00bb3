use registry_core::{Incarnation, Metadata, Status};

use super::*;

fn version() -> RecordVersion {
    RecordVersion { incarnation: Incarnation::from_bits(7), epoch: 2, sequence: 9 }
}

fn round_trip(instance: &Instance) -> Meta {
    let meta = encode_meta(instance, version()).unwrap();
    assert!(meta.len() <= MAX_PAIRS, "{}", meta.len());
    for (key, value) in &meta {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        assert!(key.len() <= MAX_KEY && key.chars().all(allowed), "{key}");
        assert!(value.len() <= MAX_VALUE, "{key} has {} bytes", value.len());
    }
    let tags: Vec<String> = instance.tags().map(str::to_owned).collect();
    let read = decode_meta(&meta, &tags, &instance.key()).unwrap().unwrap();
    assert_eq!(read, *instance);
    assert_eq!(read.record_version(), Some(version()));
    assert_eq!(version_of(&meta), Some(version()));
    meta
}

fn full() -> Instance {
    Instance::builder("orders")
        .id("a1")
        .endpoint("http://10.0.0.7:8080")
        .endpoint("grpc://[2001:db8::7]:9090")
        .version("2.4.1")
        .zone("z1")
        .tag("canary")
        .weight(250)
        .status(Status::Draining)
        .metadata("team", "core")
        .build()
        .unwrap()
}

#[test]
fn a_record_is_readable_for_others_and_written_once() {
    let meta = round_trip(&full());
    let shown: Vec<_> = meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        shown,
        [
            // The gRPC endpoint is at another address, of which a port alone tells nothing.
            "secure=false",
            r#"service-registry={"service":"orders","id":"a1","endpoints":["http://10.0.0.7:8080","grpc://[2001:db8::7]:9090"],"version":"2.4.1","weight":250,"zone":"z1","status":"draining","incarnation":"00000000000000000000000000000007","epoch":2,"sequence":9}"#,
            "team=core",
            "version=2.4.1",
            "weight=250",
            "zone=z1",
        ]
    );
}

#[test]
fn others_find_the_http_endpoint_wherever_it_stands_and_we_keep_the_order() {
    let endpoints = |all: &[&str]| {
        let builder = Instance::builder("inventory").id("i1");
        all.iter().fold(builder, |builder, one| builder.endpoint(*one)).weight(250).build().unwrap()
    };
    let of = |all: &[&str]| {
        let instance = endpoints(all);
        let mut meta = round_trip(&instance);
        meta.remove(RECORD);
        let meta: Vec<String> = meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (facing(&instance).to_string(), meta.join(" "))
    };
    for (all, facing, meta) in [
        (
            &["grpc://10.8.3.21:9000", "http://10.8.3.21:8080"][..],
            "http://10.8.3.21:8080",
            "gRPC_port=9000 secure=false weight=250",
        ),
        (&["grpcs://h:9000", "http://h:80"], "http://h:80", "gRPC_port=9000 secure=false weight=250"),
        (&["grpc://h:9000", "https://h:443"], "https://h:443", "gRPC_port=9000 secure=true weight=250"),
        (&["https://h:443", "http://h:80"], "http://h:80", "secure=false weight=250"),
        (&["grpcs://h:9000"], "grpcs://h:9000", "gRPC_port=9000 secure=true weight=250"),
        (&["tcp://h:5", "grpc://other:9000"], "tcp://h:5", "secure=false weight=250"),
    ] {
        assert_eq!(of(all), (facing.to_owned(), meta.to_owned()), "{all:?}");
    }
}

#[test]
fn a_bare_record_comes_back() {
    round_trip(&Instance::new("orders", "https://h:1").unwrap());
}

#[test]
fn metadata_that_consul_would_refuse_travels_in_the_record() {
    let long = "ü".repeat(2048);
    for (key, value) in [
        ("long", long.as_str()),
        ("key with spaces/ü=1", "value"),
        ("consul-x", "reserved"),
        ("zone", "not the field"),
        ("secure", "maybe"),
        ("weight", "heavy"),
        ("gRPC_port", "none"),
        ("service-registry", "{}"),
        ("nul", "a\0b"),
        ("empty", ""),
    ] {
        let instance = full().to_builder().metadata(key, value).build().unwrap();
        round_trip(&instance);
    }
}

#[test]
fn as_much_metadata_as_there_can_be_still_fits() {
    let pairs = (0..64).map(|n| (format!("k{n}"), "v".repeat(300)));
    let instance = full().to_builder().all_metadata(Metadata::from_pairs(pairs).unwrap()).build().unwrap();
    round_trip(&instance);
    let pairs = (0..64).map(|n| (format!("k{n}"), "v".repeat(1000)));
    let instance = full().to_builder().all_metadata(Metadata::from_pairs(pairs).unwrap()).build().unwrap();
    assert_eq!(encode_meta(&instance, version()).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn whatever_the_core_lets_through_fits() {
    for letter in ["v", "ü", "漢", "🦀", "\u{1}"] {
        let value = letter.repeat(4000 / letter.len());
        let mut count = 0;
        loop {
            let pairs = (0..=count).map(|n| (format!("k{n}"), value.clone()));
            let next =
                full().to_builder().all_metadata(Metadata::from_pairs(pairs).unwrap()).build().unwrap();
            if encode_record(&next, None).unwrap().len() + 128 > MAX_RECORD {
                break;
            }
            round_trip(&next);
            count += 1;
        }
        assert!(count > 0, "{letter:?}");
    }
}

#[test]
fn damage_is_an_error_and_foreign_pairs_are_none_of_ours() {
    let key = full().key();
    let mut meta = encode_meta(&full(), version()).unwrap();
    meta.insert(RECORD.to_owned(), "{\"service\":".to_owned());
    let damaged = decode_meta(&meta, &[], &key).unwrap();
    assert_eq!(damaged.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(version_of(&meta), None);
    let other = InstanceKey::new(key.service.clone(), registry_core::InstanceId::new("b").unwrap());
    let meta = encode_meta(&full(), version()).unwrap();
    assert!(decode_meta(&meta, &[], &other).unwrap().is_err(), "the record of another key");
    assert!(decode_meta(&Meta::from([("zone".to_owned(), "z".to_owned())]), &[], &key).is_none());
}
