use registry_core::{InstanceBuilder, model::decode_record};

use super::*;

fn service(name: &str) -> ServiceName {
    ServiceName::foreign(name).unwrap()
}

fn version() -> RecordVersion {
    RecordVersion { incarnation: Incarnation::from_bits(0xA11CE), epoch: 2, sequence: 7 }
}

/// What a server makes of a record.
fn listed(address: &Address, record: &Record) -> String {
    serde_json::json!({
        "instanceId": null, "ip": address.ip, "port": address.port, "weight": record.weight, "healthy": true,
        "enabled": true, "ephemeral": true, "clusterName": address.cluster, "serviceName": "DEFAULT_GROUP@@orders",
        "metadata": record.metadata, "instanceHeartBeatInterval": 5000
    })
    .to_string()
}

fn usable(service: &ServiceName, entry: &str) -> Instance {
    match decode(service, entry.as_bytes()) {
        Entry::Usable(instance) => instance,
        other => panic!("{other:?}"),
    }
}

fn full() -> Instance {
    Instance::builder("orders")
        .id("a1")
        .endpoint("http://10.0.0.7:8080")
        .endpoint("grpc://[2001:db8::7]:9090")
        .endpoint("tcp://host.internal:7")
        .version("2.4.1")
        .zone("z1")
        .group("blue")
        .tag("a,b=c")
        .tag("eu")
        .weight(250)
        .status(Status::Draining)
        .metadata("team", "core")
        .metadata("version", "not the version")
        .metadata("sr.id", "not the id")
        .metadata("preserved.heart.beat.timeout", "1")
        .build()
        .unwrap()
}

#[test]
fn a_record_is_readable_for_others_and_has_nothing_that_it_does_not_need() {
    let bare = Instance::builder("orders").id("a1").endpoint("http://10.0.0.7:8080").build().unwrap();
    let record = Record::of(&bare, Some(version()), Some(Patience::of(Duration::from_secs(15))));
    assert_eq!(record.weight, 1.0);
    assert_eq!(
        serde_json::to_string(&record.metadata).unwrap(),
        r#"{"preserved.heart.beat.interval":"5000","preserved.heart.beat.timeout":"15000","preserved.ip.delete.timeout":"30000","sr.by":"000000000000000000000000000a11ce/2/7","sr.id":"a1"}"#
    );
    let record = Record::of(&full(), None, None);
    assert_eq!(record.weight, 0.0, "whoever drains gets nothing from anybody");
    assert_eq!(
        serde_json::to_string(&record.metadata).unwrap(),
        r#"{"sr.group":"blue","sr.id":"a1","sr.m.preserved.heart.beat.timeout":"1","sr.m.sr.id":"not the id","sr.m.version":"not the version","sr.status":"draining","sr.tags":"[\"a,b=c\",\"eu\"]","sr.urls":"http://10.0.0.7:8080 grpc://[2001:db8::7]:9090 tcp://host.internal:7","sr.weight":"250","team":"core","version":"2.4.1","zone":"z1"}"#
    );
}

#[test]
fn every_instance_comes_back_as_it_was_written() {
    let bare = |endpoint: &str| Instance::builder("orders").id("a1").endpoint(endpoint);
    for instance in [
        full(),
        full().to_builder().status(Status::Serving).weight(0).build().unwrap(),
        full().to_builder().weight(1_000_000).status(Status::Starting).build().unwrap(),
        bare("http://10.0.0.7:8080").weight(333).build().unwrap(),
        bare("https://10.0.0.7:8080").weight(1).build().unwrap(),
        bare("http://host.internal:8080").build().unwrap(),
        bare("http://[2001:db8::7]:1").status(Status::Down).build().unwrap(),
    ] {
        let address = Address::of(&instance, "c1");
        let record = Record::of(&instance, Some(version()), Some(Patience::of(Duration::from_secs(15))));
        let read = usable(instance.service(), &listed(&address, &record));
        assert_eq!(read, instance);
        assert_eq!(read.record_version(), Some(version()));
    }
}

#[test]
fn the_address_is_the_first_ip_else_the_first_host_name() {
    let of = |endpoints: &[&str]| {
        let builder = Instance::builder("orders").id("a1");
        let instance = endpoints.iter().fold(builder, |builder, url| builder.endpoint(url)).build().unwrap();
        Address::of(&instance, DEFAULT_CLUSTER).to_string()
    };
    assert_eq!(of(&["http://host.internal:1", "http://10.0.0.7:2"]), "10.0.0.7:2");
    assert_eq!(of(&["http://host.internal:1"]), "host.internal:1");
    assert_eq!(of(&["http://[2001:db8::7]:3"]), "[2001:db8::7]:3");
}

#[test]
fn other_fleets_are_led_to_what_speaks_http_and_told_of_tls_and_grpc() {
    let of = |endpoints: &[&str]| {
        let builder =
            Instance::builder("orders").id("a1").metadata("secure", "mine").metadata("gRPC_port", "7");
        endpoints.iter().fold(builder, |builder, url| builder.endpoint(url)).build().unwrap()
    };
    for (endpoints, address, secure, grpc) in [
        (&["http://10.0.0.7:80"][..], "10.0.0.7:80", None, None),
        (&["https://10.0.0.7:443"], "10.0.0.7:443", Some("true"), None),
        (&["grpc://10.0.0.7:90", "http://10.0.0.7:80"], "10.0.0.7:80", None, Some("90")),
        (&["grpcs://10.0.0.7:90", "https://10.0.0.7:443"], "10.0.0.7:443", Some("true"), Some("90")),
        (&["https://10.0.0.7:443", "http://10.0.0.7:80"], "10.0.0.7:80", None, None),
        (&["http://host.internal:80", "grpc://10.0.0.7:90"], "10.0.0.7:90", None, None),
        (&["grpc://10.0.0.8:90", "http://10.0.0.7:80"], "10.0.0.7:80", None, None),
        (&["grpc://10.0.0.7:90"], "10.0.0.7:90", None, None),
        (&["grpcs://10.0.0.7:90"], "10.0.0.7:90", Some("true"), None),
    ] {
        let instance = of(endpoints);
        let at = Address::of(&instance, DEFAULT_CLUSTER);
        assert_eq!(at.to_string(), address, "{endpoints:?}");
        let record = Record::of(&instance, Some(version()), None);
        let said = |key: &str| record.metadata.get(key).map(String::as_str);
        assert_eq!((said("secure"), said("gRPC_port")), (secure, grpc), "{endpoints:?}");
        let read = usable(instance.service(), &listed(&at, &record));
        assert_eq!(read, instance, "in order, with its own metadata");
    }
}

#[test]
fn an_operators_weight_wins_over_the_one_that_is_kept() {
    let record = Record::of(&full(), None, None);
    let address = Address::of(&full(), DEFAULT_CLUSTER);
    let read = usable(&service("orders"), &listed(&address, &Record { weight: 0.5, ..record }));
    assert_eq!((read.weight().get(), read.status()), (50, Status::Draining));
}

#[test]
fn records_of_other_fleets_are_read() {
    let spring = r#"{"instanceId":"10.8.3.21#8080#z1#DEFAULT_GROUP@@inventory","ip":"10.8.3.21","port":8080,"weight":1.0,
        "healthy":true,"enabled":true,"ephemeral":true,"clusterName":"z1","serviceName":"DEFAULT_GROUP@@inventory",
        "metadata":{"gRPC_port":"9000","preserved.register.source":"SPRING_CLOUD","team":"core","version":"2.4.1"}}"#;
    let read = usable(&service("inventory"), spring);
    let expected = InstanceBuilder::of(service("inventory"))
        .parsed_id(InstanceId::foreign("10.8.3.21:8080#z1").unwrap())
        .endpoint("http://10.8.3.21:8080")
        .endpoint("grpc://10.8.3.21:9000")
        .version("2.4.1")
        .zone("z1")
        .metadata("gRPC_port", "9000")
        .metadata("preserved.register.source", "SPRING_CLOUD")
        .metadata("team", "core");
    assert_eq!(read, expected.build().unwrap());
    assert_eq!(read.record_version(), None);

    let kratos = r#"{"ip":"10.8.3.21","port":9000,"weight":100.0,"clusterName":"DEFAULT",
        "metadata":{"kind":"grpc","team":"core","version":"2.4.1","weight":"100","zone":"z1"}}"#;
    let read = usable(&service("inventory.grpc"), kratos);
    assert_eq!(
        (read.id().as_str(), read.endpoint().to_string().as_str()),
        ("10.8.3.21:9000", "grpc://10.8.3.21:9000")
    );
    assert_eq!(
        (read.zone(), read.weight().get(), read.metadata().get("weight")),
        (Some("z1"), 100, Some("100"))
    );

    for (entry, endpoint) in [
        (r#"{"ip":"10.8.3.21","port":8443,"metadata":{"secure":"true"}}"#, "https://10.8.3.21:8443"),
        (
            r#"{"ip":"10.8.3.21","port":50052,"metadata":{"protocol":"tri","side":"provider"}}"#,
            "tri://10.8.3.21:50052",
        ),
        (r#"{"ip":"10.8.3.21","port":1,"metadata":{"kind":"not a scheme"}}"#, "http://10.8.3.21:1"),
        (r#"{"ip":"inventory.internal","port":1,"metadata":null}"#, "http://inventory.internal:1"),
        (
            r#"{"ip":"2001:db8::7","port":"82","weight":"2","healthy":null,"metadata":{"a":null,"b":1,"c":true}}"#,
            "http://[2001:db8::7]:82",
        ),
    ] {
        assert_eq!(usable(&service("inventory"), entry).endpoint().to_string(), endpoint);
    }
}

#[test]
fn the_unhealthy_and_the_disabled_are_hidden() {
    for flag in [r#""healthy":false"#, r#""enabled":false"#] {
        let entry = format!(r#"{{"ip":"10.0.0.7","port":80,{flag}}}"#);
        assert!(matches!(decode(&service("orders"), entry.as_bytes()), Entry::Hidden(_)), "{flag}");
        for spoilt in [r#""weight":-1"#, r#""weight":[]"#] {
            let entry = format!(r#"{{"ip":"10.0.0.7","port":80,{flag},{spoilt}}}"#);
            let entry = decode(&service("orders"), entry.as_bytes());
            assert!(matches!(&entry, Entry::Spoilt(key, _) if key.id.as_str() == "10.0.0.7:80"), "{entry:?}");
        }
    }
}

#[test]
fn a_bad_record_is_named_as_far_as_that_can_be_told() {
    for (entry, id) in [
        ("7", None),
        (r#"{"port":80}"#, None),
        (r#"{"ip":"10.0.0.7"}"#, None),
        (r#"{"ip":"10.0.0.7","port":0}"#, None),
        (r#"{"ip":"10.0.0.7","port":70000}"#, None),
        (r#"{"ip":"10.0.0.7","port":80,"weight":-1}"#, Some("10.0.0.7:80")),
        (r#"{"ip":"not a host","port":80}"#, None),
        (r#"{"ip":"10.0.0.7","port":80,"metadata":{"sr.id":"a1","sr.tags":"eu"}}"#, Some("a1")),
        (r#"{"ip":"10.0.0.7","port":80,"metadata":{"sr.id":"a1","sr.by":"x/1/1"}}"#, Some("a1")),
        (r#"{"ip":"10.0.0.7","port":80,"metadata":{"sr.id":"a1","sr.status":"asleep"}}"#, Some("a1")),
        (r#"{"ip":"10.0.0.7","port":80,"metadata":{"sr.id":"a1","sr.urls":""}}"#, Some("a1")),
        (r#"{"ip":"10.0.0.7","port":80,"metadata":{"sr.id":""}}"#, None),
    ] {
        let Entry::Bad(key, _) = decode(&service("orders"), entry.as_bytes()) else { panic!("{entry}") };
        let named = key.as_ref().map(|key| key.id.as_str());
        assert!(named == id || (id.is_none() && entry.contains("not a host")), "{entry}: {named:?}");
    }
}

#[test]
fn a_record_with_a_field_of_another_type_is_named_by_what_can_be_read_of_it() {
    for (entry, id) in [
        (r#"{"ip":"10.0.0.7","port":80,"healthy":"yes"}"#, Some("10.0.0.7:80")),
        (r#"{"ip":"10.0.0.7","port":80,"clusterName":"z1","weight":[]}"#, Some("10.0.0.7:80#z1")),
        (r#"{"ip":"10.0.0.7","port":80,"metadata":"a=b"}"#, Some("10.0.0.7:80")),
        (r#"{"ip":"10.0.0.7","port":80,"weight":"x","metadata":{"sr.id":"a1"}}"#, Some("a1")),
        (r#"{"ip":"10.0.0.7","port":80,"metadata":{"sr.id":"a1","more":{}}}"#, Some("a1")),
        (r#"{"ip":7,"port":80,"enabled":1,"metadata":{"sr.id":"a1"}}"#, Some("a1")),
        (r#"{"ip":7,"port":80}"#, None),
        (r#"{"ip":"10.0.0.7","port":true}"#, None),
        (r#"[{"ip":"10.0.0.7","port":80}]"#, None),
    ] {
        let Entry::Bad(key, _) = decode(&service("orders"), entry.as_bytes()) else { panic!("{entry}") };
        assert_eq!(key.as_ref().map(|key| key.id.as_str()), id, "{entry}");
    }
}

#[test]
fn what_the_server_would_not_take_is_refused_with_its_size() {
    let fits = |length: usize| {
        let builder = Instance::builder("orders").id("a1").endpoint("http://10.0.0.7:80");
        let instance = builder.metadata("k", "🦀".repeat(length)).build().unwrap();
        let record = Record::of(&instance, None, None);
        // `sr.id`, `a1` and `k`; a crab is two units.
        assert_eq!(record.size(), 5 + 2 + 1 + 2 * length);
        record.check(&instance.key(), 1024)
    };
    assert!(fits(508).is_ok());
    let error = fits(509).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("1026") && error.to_string().contains("1024"), "{error}");
}

#[test]
fn a_native_record_that_was_written_by_hand_comes_back_too() {
    let native = br#"{"service":"orders","id":"10.0.0.7:80","endpoints":["http://10.0.0.7:80"],"weight":7}"#;
    let instance = decode_record(native).unwrap();
    let record = Record::of(&instance, None, None);
    assert_eq!(
        usable(&service("orders"), &listed(&Address::of(&instance, DEFAULT_CLUSTER), &record)),
        instance
    );
}

#[test]
fn a_weight_that_is_no_number_is_rejected_under_its_key() {
    for weight in ["NaN", "inf", "-inf"] {
        let entry = format!(r#"{{"ip":"10.8.3.21","port":1,"weight":"{weight}"}}"#);
        match decode(&service("inventory"), entry.as_bytes()) {
            Entry::Bad(Some(key), _) => assert_eq!(key.id.as_str(), "10.8.3.21:1"),
            other => panic!("{weight}: {other:?}"),
        }
    }
}

/// One of many instances, by chance.
fn any_instance(rng: &mut fastrand::Rng) -> Instance {
    const TEXTS: [&str; 8] =
        ["a", "größe 漢字 🦀", "a=b;c,d", r#""q" \ {"j":1}"#, "line\nline", "", " ", "x/y%20"];
    const KEYS: [&str; 9] =
        ["team", "version", "zone", "sr.", "sr.m.sr.id", "preserved.x", "kind", "secure", "key ü=1"];
    const STATUSES: [Status; 4] = [Status::Starting, Status::Serving, Status::Draining, Status::Down];
    const ENDPOINTS: [&str; 5] = [
        "http://10.0.0.7:80",
        "https://h.internal:1",
        "grpc://[2001:db8::7]:9",
        "http://h:2",
        "tcp://10.0.0.8:65535",
    ];
    let mut builder = InstanceBuilder::of(service("orders"))
        .parsed_id(
            InstanceId::foreign(format!("{}{}", rng.u8(..), rng.choice(["", "a/b", "ü", ":80"]).unwrap()))
                .unwrap(),
        )
        .weight(rng.u32(..=1_000_000))
        .status(*rng.choice(&STATUSES).unwrap());
    for _ in 0..rng.usize(1..4) {
        builder = builder.endpoint(rng.choice(ENDPOINTS).unwrap());
    }
    for _ in 0..rng.usize(..3) {
        builder = builder.tag(rng.choice(["eu", "a,b=c", "ü"]).unwrap());
    }
    if rng.bool() {
        builder = builder.version("2.4.1").zone("zone / ü");
    }
    if rng.bool() {
        builder = builder.group("blue");
    }
    for _ in 0..rng.usize(..6) {
        builder = builder.metadata(*rng.choice(&KEYS).unwrap(), *rng.choice(&TEXTS).unwrap());
    }
    builder.build().unwrap()
}

#[test]
fn any_instance_comes_back_as_it_was_written() {
    for seed in 0..2000 {
        let instance = any_instance(&mut fastrand::Rng::with_seed(seed));
        let address = Address::of(&instance, DEFAULT_CLUSTER);
        let record = Record::of(&instance, Some(version()), Some(Patience::of(Duration::from_secs(7))));
        let entry = listed(&address, &record);
        assert_eq!(usable(instance.service(), &entry), instance, "seed {seed}: {entry}");
    }
}
