use registry_core::{Incarnation, Namespace};
use serde_json::{Value, json};

use super::*;

const VERSION: RecordVersion =
    RecordVersion { incarnation: Incarnation::from_bits(7), epoch: 2, sequence: 3 };

fn names(namespace: &str) -> Names {
    Names::new(&Namespace::new(namespace).unwrap())
}

fn marks() -> Marks {
    Marks { version: VERSION, dirty: 1_767_225_600_000, ttl: Duration::from_millis(14_500) }
}

fn written(names: &Names, instance: &Instance) -> Value {
    let body: Value = serde_json::from_slice(&encode(names, instance, &marks()).unwrap()).unwrap();
    body["instance"].clone()
}

/// What a server makes of it: an override is the status.
fn served(mut written: Value) -> String {
    if written["overriddenStatus"] != "UNKNOWN" {
        written["status"] = written["overriddenStatus"].clone();
    }
    written.to_string()
}

fn service(name: &str) -> ServiceName {
    ServiceName::foreign(name).unwrap()
}

fn look(names: &Names, name: &str, raw: &str) -> Reading {
    read(names, &service(name), true, Address::Host, raw)
}

fn found(reading: Reading) -> Instance {
    match reading {
        Reading::Instance(instance) => Arc::unwrap_or_clone(instance),
        other => panic!("{other:?}"),
    }
}

fn full() -> Instance {
    Instance::builder("orders")
        .id("a1")
        .endpoint("grpc://10.8.3.21:9000")
        .endpoint("http://10.8.3.21:8080")
        .endpoint("https://10.8.3.21:8443")
        .version("2.4.1")
        .zone("z1")
        .group("blue")
        .tag("canary")
        .weight(250)
        .metadata("team", "core")
        .metadata("odd key", "a\0b")
        .metadata("zone", "not the zone")
        .build()
        .unwrap()
}

#[test]
fn a_registration_is_written_as_eureka_s_own_client_writes_it() {
    let bare = Instance::builder("orders").id("a1").endpoint("http://10.8.3.21:8080").build().unwrap();
    let record = "{\"service\":\"orders\",\"id\":\"a1\",\"endpoints\":[\"http://10.8.3.21:8080\"],\"weight\":100,\
        \"status\":\"serving\",\"incarnation\":\"00000000000000000000000000000007\",\"epoch\":2,\"sequence\":3}";
    let golden = json!({
        "instanceId": "orders:a1", "hostName": "10.8.3.21", "app": "ORDERS", "ipAddr": "10.8.3.21",
        "status": "UP", "overriddenStatus": "UNKNOWN",
        "port": {"$": 8080, "@enabled": "true"}, "securePort": {"$": 443, "@enabled": "false"},
        "countryId": 1,
        "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
        "leaseInfo": {"renewalIntervalInSecs": 5, "durationInSecs": 15},
        "metadata": {"sdk-record": record},
        "vipAddress": "orders", "secureVipAddress": "orders",
        "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": "1767225600000", "lastDirtyTimestamp": "1767225600000",
    });
    assert_eq!(written(&names("services"), &bare), golden);
}

#[test]
fn others_find_what_they_look_for_and_nothing_that_breaks_them() {
    let written = written(&names("prod/eu"), &full());
    assert_eq!(written["app"], "PROD:EU:ORDERS");
    assert_eq!(written["vipAddress"], "prod:eu:orders");
    assert_eq!(written["appGroupName"], "BLUE");
    assert_eq!(written["port"], json!({"$": 8080, "@enabled": "true"}));
    assert_eq!(written["securePort"], json!({"$": 8443, "@enabled": "true"}));
    let mut metadata = written["metadata"].as_object().unwrap().clone();
    let record: Value =
        serde_json::from_str(metadata.remove("sdk-record").unwrap().as_str().unwrap()).unwrap();
    assert_eq!(
        Value::from(metadata),
        json!({"gRPC_port": "9000", "sdk-namespace": "prod/eu", "team": "core", "version": "2.4.1",
            "weight": "250", "zone": "z1"})
    );
    assert_eq!(
        record["metadata"],
        json!({"odd key": "a\0b", "zone": "not the zone"}),
        "what has no place there"
    );
}

#[test]
fn an_address_that_is_ipv6_or_a_name_is_written_for_those_who_paste_it() {
    let of = |endpoint: &str| {
        let instance = Instance::builder("orders").id("a").endpoint(endpoint).build().unwrap();
        let written = written(&names("services"), &instance);
        let text = |key: &str| written[key].as_str().unwrap().to_owned();
        let enabled = |key: &str| written[key]["@enabled"] == "true";
        (text("hostName"), text("ipAddr"), enabled("port"), enabled("securePort"))
    };
    let expected = |host: &str, ip: &str, port, secure| (host.to_owned(), ip.to_owned(), port, secure);
    assert_eq!(of("http://[2001:db8::7]:80"), expected("[2001:db8::7]", "2001:db8::7", true, false));
    assert_eq!(of("https://host.internal:8443"), expected("host.internal", "host.internal", false, true));
    assert_eq!(of("tcp://10.0.0.1:7"), expected("10.0.0.1", "10.0.0.1", true, false));
}

#[test]
fn each_status_is_written_so_that_it_can_be_left_again() {
    for (status, expected) in [
        (Status::Starting, ("STARTING", "UNKNOWN", "STARTING")),
        (Status::Serving, ("UP", "UNKNOWN", "UP")),
        (Status::Draining, ("UP", "OUT_OF_SERVICE", "OUT_OF_SERVICE")),
        (Status::Down, ("DOWN", "UNKNOWN", "DOWN")),
    ] {
        let instance = full().to_builder().status(status).build().unwrap();
        let written = written(&names("services"), &instance);
        let text = |key: &str| written[key].as_str().unwrap().to_owned();
        assert_eq!((&*text("status"), &*text("overriddenStatus"), beat_status(status)), expected);
        assert_eq!(found(look(&names("services"), "orders", &served(written))).status(), status);
    }
}

/// Text of all sorts, from a list that has what breaks readers.
fn text(rng: &mut fastrand::Rng) -> String {
    const PARTS: [&str; 14] =
        ["a", "Z9", "-", ".", "_", "@class", "größe", "漢🦀", " ", "/", "\"\\", "sdk-record", "zone", "{}"];
    (0..rng.usize(1..5)).map(|_| PARTS[rng.usize(..PARTS.len())]).collect()
}

fn any_instance(rng: &mut fastrand::Rng) -> Instance {
    let mut builder =
        InstanceBuilder::of(service(&text(rng))).parsed_id(InstanceId::foreign(text(rng)).unwrap());
    for _ in 0..rng.usize(1..5) {
        let scheme = ["http", "https", "grpc", "tcp", "own"][rng.usize(..5)];
        let host = ["10.0.0.7", "[2001:db8::7]", "host.internal"][rng.usize(..3)];
        builder = builder.endpoint(format!("{scheme}://{host}:{}", rng.u16(1..)));
    }
    if rng.bool() {
        builder = builder.version(text(rng)).zone(text(rng)).group(text(rng));
    }
    for _ in 0..rng.usize(..4) {
        builder = builder.tag(text(rng));
    }
    for _ in 0..rng.usize(..6) {
        let keys = [
            "version",
            "weight",
            "zone",
            "gRPC_port",
            "sdk-record",
            "sdk-namespace",
            "sdk-x",
            "@class",
            "a",
            "_b",
        ];
        let key = if rng.bool() { keys[rng.usize(..keys.len())].to_owned() } else { text(rng) };
        let value = ["", "1", "a\0b", "one\ntwo\r\n\t", "\u{FFFE}"];
        let value = if rng.bool() { value[rng.usize(..5)].to_owned() } else { text(rng) };
        builder = builder.metadata(key, value);
    }
    let status = [Status::Starting, Status::Serving, Status::Draining, Status::Down][rng.usize(..4)];
    builder.weight(rng.u32(..=1_000_000)).status(status).build().unwrap()
}

#[test]
fn any_instance_comes_back_as_it_was() {
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..3000 {
        let names = names(["services", "prod", "Prod/eu"][round % 3]);
        let instance = any_instance(&mut rng);
        let raw = served(written(&names, &instance));
        let read = found(read(&names, instance.service(), true, Address::Host, &raw));
        assert_eq!(read, instance, "{raw}");
        assert_eq!(read.record_version(), Some(VERSION));
    }
}

#[test]
fn nothing_is_written_that_xml_can_t_hold() {
    let odd = |what: &str| format!("{what}\u{FFFE}\u{FFFF}");
    let instance = Instance::builder("orders")
        .id("a")
        .endpoint("http://10.0.0.7:8080")
        .version(odd("v"))
        .zone(odd("z"))
        .group(odd("g"))
        .tag(odd("t"))
        .metadata("plain", odd("m"))
        .metadata("bell", "\u{7}")
        .build()
        .unwrap();
    let names = names("services");
    let raw = served(written(&names, &instance));
    let texts: Value = serde_json::from_str(&raw).unwrap();
    let mut unseen = vec![&texts];
    while let Some(value) = unseen.pop() {
        match value {
            Value::String(text) => {
                let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
                assert!(text.chars().all(legal), "{text:?}");
            }
            Value::Array(all) => unseen.extend(all),
            Value::Object(all) => unseen.extend(all.values()),
            _ => {}
        }
    }
    assert_eq!(found(look(&names, "orders", &raw)), instance);
}

#[test]
fn a_spring_record_is_read() {
    let raw = r#"{"instanceId":"10.8.3.21:inventory:8080","hostName":"10.8.3.21","app":"INVENTORY","ipAddr":"10.8.3.21",
        "status":"UP","overriddenStatus":"UNKNOWN","port":{"$":8080,"@enabled":"true"},
        "securePort":{"$":443,"@enabled":"false"},"countryId":1,
        "dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},
        "leaseInfo":{"renewalIntervalInSecs":30,"durationInSecs":90,"registrationTimestamp":1795269419402},
        "metadata":{"team":"core","zone":"z1","version":"2.4.1","weight":"much","gRPC_port":"9000"},
        "vipAddress":"inventory","secureVipAddress":"inventory","isCoordinatingDiscoveryServer":"false",
        "lastUpdatedTimestamp":"1767225600000","lastDirtyTimestamp":"1767225600000","actionType":"ADDED"}"#;
    let expected = InstanceBuilder::of(service("inventory"))
        .parsed_id(InstanceId::foreign("10.8.3.21:inventory:8080").unwrap())
        .endpoint("http://10.8.3.21:8080")
        .endpoint("grpc://10.8.3.21:9000")
        .zone("z1")
        .version("2.4.1")
        .metadata("team", "core")
        .metadata("weight", "much")
        .build()
        .unwrap();
    let instance = found(look(&names("services"), "inventory", raw));
    assert_eq!(instance, expected);
    assert_eq!(instance.record_version(), None);
    assert!(
        matches!(look(&names("prod"), "inventory", raw), Reading::Other),
        "it is in no namespace of ours"
    );
}

#[test]
fn writers_may_differ_in_types_and_leave_things_out() {
    let of = |raw: &str| found(look(&names("services"), "orders", raw));
    let least = of(r#"{"instanceId":"a","hostName":"h","port":8080}"#);
    assert_eq!((least.endpoint().to_string(), least.status()), ("http://h:8080".to_owned(), Status::Down));
    let java = of(r#"{"instanceId":"a","hostName":"h","status":"UP","port":{"$":"8080","@enabled":true},
        "securePort":{"$":8443,"@enabled":"true"},"metadata":{"@class":"java.util.Collections$EmptyMap"},
        "isCoordinatingDiscoveryServer":false,"lastDirtyTimestamp":1767225600000,"leaseInfo":null}"#);
    let endpoints: Vec<_> = java.endpoints().iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["https://h:8443", "http://h:8080"], "the secure one first, as Spring's clients");
    assert!(java.metadata().is_empty());
    let old = of(r#"{"hostName":"h","ipAddr":"10.0.0.1","status":"LAUNCHING","port":{"$":80},"metadata":"",
        "appGroupName":"UNKNOWN","dataCenterInfo":{"name":"Amazon","metadata":{"instance-id":"i-1",
        "availability-zone":"us-east-1a"}}}"#);
    assert_eq!((old.id().as_str(), old.zone(), old.status()), ("i-1", Some("us-east-1a"), Status::Down));
    assert_eq!(old.group(), None);
    let flags =
        of(r#"{"instanceId":"a","hostName":"h","port":80,"metadata":{"n":1,"b":true,"z":null,"o":{"x":1}}}"#);
    let pairs: Vec<_> = flags.metadata().iter().collect();
    assert_eq!(pairs, [("b", "true"), ("n", "1"), ("o", ""), ("z", "")]);
}

#[test]
fn the_address_is_the_one_that_is_asked_for_or_the_other_if_that_is_none() {
    let raw =
        |host: &str| format!(r#"{{"instanceId":"a","hostName":"{host}","ipAddr":"10.0.0.1","port":80}}"#);
    let of = |address, host: &str| {
        let reading = read(&names("services"), &service("orders"), true, address, &raw(host));
        found(reading).endpoint().host()
    };
    assert_eq!(of(Address::Host, "box-7"), "box-7");
    assert_eq!(of(Address::Ip, "box-7"), "10.0.0.1");
    assert_eq!(of(Address::Host, "no host"), "10.0.0.1");
    assert_eq!(of(Address::Host, "[fd00::1]"), "fd00::1");
}

#[test]
fn the_status_is_what_an_operator_made_of_it() {
    let names = names("services");
    let mut record = written(&names, &full());
    record["status"] = "OUT_OF_SERVICE".into();
    record["overriddenStatus"] = "OUT_OF_SERVICE".into();
    assert_eq!(found(look(&names, "orders", &record.to_string())).status(), Status::Draining);
    let drained = full().to_builder().status(Status::Draining).build().unwrap();
    let ended = written(&names, &drained);
    assert_eq!(found(look(&names, "orders", &ended.to_string())).status(), Status::Serving);
}

#[test]
fn a_record_of_another_case_or_namespace_is_another_service_s() {
    let here = names("prod");
    let raw = served(written(&here, &full()));
    assert!(matches!(look(&here, "Orders", &raw), Reading::Other));
    assert!(matches!(look(&names("Prod"), "orders", &raw), Reading::Other));
    assert!(matches!(look(&names("services"), "orders", &raw), Reading::Other));
    found(look(&here, "orders", &raw));
}

#[test]
fn who_asks_by_vip_address_gets_the_instance_under_the_name_he_used() {
    let names = names("services");
    let raw = served(written(&names, &full()));
    let instance = found(read(&names, &service("shop"), false, Address::Host, &raw));
    assert_eq!((instance.service().as_str(), instance.id().as_str()), ("shop", "a1"));
    let back = renamed(&instance, &service("orders")).unwrap();
    assert_eq!(back, full());
}

#[test]
fn what_is_malformed_is_named_as_far_as_it_can_be() {
    let names = names("services");
    let key_of = |raw: &str| match look(&names, "orders", raw) {
        Reading::Malformed(key, error) => {
            assert_eq!(error.kind(), ErrorKind::Protocol);
            key.map(|key| key.id.as_str().to_owned())
        }
        other => panic!("{raw}: {other:?}"),
    };
    let mut record = written(&names, &full());
    record["metadata"]["sdk-record"] = "{}".into();
    assert_eq!(key_of(&record.to_string()).as_deref(), Some("a1"), "under its own id");
    let mut moved = written(&names, &full());
    moved["instanceId"] = "orders:b2".into();
    assert_eq!(key_of(&moved.to_string()).as_deref(), Some("b2"), "a record under another's id");
    assert_eq!(key_of(r#"{"instanceId":"x:1","hostName":"h"}"#).as_deref(), Some("x:1"), "no port");
    assert_eq!(key_of(r#"{"instanceId":"x:1","hostName":"h","port":70000}"#).as_deref(), Some("x:1"));
    assert_eq!(key_of(r#"{"instanceId":"x:1","port":80}"#).as_deref(), Some("x:1"), "no host");
    assert_eq!(key_of(r#"{"port":80}"#), None);
    assert_eq!(key_of("[]"), None);
    assert_eq!(key_of(r#"{"instanceId":"x:1","instanceId":"x:1"}"#).as_deref(), Some("x:1"));
}

#[test]
fn metadata_that_is_too_much_is_left_out_rather_than_the_instance() {
    let mut metadata: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("k{n:03}"), "v".into())).collect();
    metadata.insert("a".into(), "x".repeat(5000).into());
    let raw = json!({"instanceId": "a", "hostName": "h", "port": 80, "metadata": metadata});
    let instance = found(look(&names("services"), "orders", &raw.to_string()));
    assert_eq!((instance.metadata().len(), instance.metadata().get("a")), (64, None));
}

#[test]
fn a_record_beyond_the_limit_is_refused() {
    let instance =
        (0..20).fold(full().to_builder(), |b, n| b.metadata(format!("odd key {n}"), "x".repeat(4000)));
    let error = encode(&names("services"), &instance.build().unwrap(), &marks()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_record_that_only_its_escapes_make_too_large_is_refused() {
    let mut refused = 0;
    for entries in 1..=20 {
        let instance = (0..entries)
            .fold(full().to_builder(), |b, n| b.metadata(format!("odd {n}"), "\u{FFFE}\u{FFFF}".repeat(600)));
        let instance = instance.build().unwrap();
        match encode(&names("services"), &instance, &marks()) {
            Ok(body) => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let read = found(look(&names("services"), "orders", &served(body["instance"].clone())));
                assert_eq!(read, instance, "{entries}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{entries}: {error}");
                refused += 1;
            }
        }
    }
    // 7,200 bytes each as they are written.
    assert_eq!(refused, 20 - 9);
}

#[test]
fn of_a_key_that_stands_there_twice_the_last_counts_whoever_reads_it() {
    let names = names("services");
    let with = |metadata: &str, machine: &str| {
        format!(
            r#"{{"instanceId":"a","hostName":"h","status":"UP","port":8080,"metadata":{{{metadata}}},"dataCenterInfo":{{"metadata":{{{machine}}}}}}}"#
        )
    };
    let twice = with(
        r#""zone":"z1","zone":"z2","gRPC_port":"9000","gRPC_port":"9001","version":"1","version":"2","weight":"5","weight":"7","team":"x","team":"y""#,
        r#""availability-zone":"m1","availability-zone":"m2""#,
    );
    // A last one that says nothing, or can't be what it should.
    let void = with(
        r#""zone":"z1","zone":"","gRPC_port":"9000","gRPC_port":"","weight":"5","weight":"much""#,
        r#""availability-zone":"m1","availability-zone":"m2""#,
    );
    for (raw, zone, endpoints, weight) in
        [(&twice, "z2", &["http://h:8080", "grpc://h:9001"][..], 7), (&void, "m2", &["http://h:8080"], 100)]
    {
        let (info, length) = crate::eureka::glance::info(raw).expect("it is written plainly");
        assert_eq!(length, raw.len());
        let said = crate::eureka::said::Said::of(&info).unwrap();
        let of = |info: &Info<'_>| found(read_info(&names, &service("orders"), true, Address::Host, info));
        for instance in [of(&info), of(&said.info()), found(look(&names, "orders", raw))] {
            assert_eq!(instance.zone(), Some(zone), "{raw}");
            let read: Vec<_> = instance.endpoints().iter().map(ToString::to_string).collect();
            assert_eq!(read, endpoints, "{raw}");
            assert_eq!(instance.weight().get(), weight, "{raw}");
        }
    }
    let instance = found(look(&names, "orders", &twice));
    assert_eq!((instance.version(), instance.metadata().get("team")), (Some("2"), Some("y")));
    let info: Info<'_> =
        serde_json::from_str(r#"{"dataCenterInfo":{"metadata":{"instance-id":"i1","instance-id":"i2"}}}"#)
            .unwrap();
    assert_eq!(info.id(), Some("i2"));
}
