use registry_core::Namespace;
use serde_json::{Value, json};

use super::*;

fn decode_as(service: &str, entry: &Value, is_remote: bool) -> Result<Instance, Option<InstanceKey>> {
    let names = Names::new(&Namespace::default());
    let service = ServiceName::foreign(service).unwrap();
    let reading = Reading { names: &names, service: &service, home: None, is_remote, is_prepared: false };
    reading.decode(&entry.to_string())
}

fn decode(entry: &Value) -> Result<Instance, Option<InstanceKey>> {
    decode_as("inventory", entry, false)
}

/// As a list holds it, for what was registered.
fn entry(service: &Value) -> Value {
    let mut service = service.clone();
    let name = service.as_object_mut().unwrap().remove("Name").unwrap();
    service["Service"] = name;
    json!({
        "Node": {"ID": "x", "Node": "n1", "Address": "10.8.3.1", "Datacenter": "dc1"},
        "Service": service,
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}],
    })
}

fn shown(instance: &Instance) -> String {
    let endpoints: Vec<_> = instance.endpoints().iter().map(ToString::to_string).collect();
    let metadata: Vec<_> = instance.metadata().iter().map(|(k, v)| format!("{k}={v}")).collect();
    format!(
        "{} {} v={:?} z={:?} w={} tags={:?} meta={metadata:?} {}",
        instance.key(),
        endpoints.join(","),
        instance.version(),
        instance.zone(),
        instance.weight(),
        instance.tags().collect::<Vec<_>>(),
        instance.status(),
    )
}

#[test]
fn kratos_is_read_as_kratos_wrote_it() {
    let golden = json!({"ID":"inv-7f3a","Name":"inventory","Tags":["version=2.4.1"],"Address":"10.8.3.21","Port":9000,
        "Meta":{"team":"core","weight":"100","zone":"z1"},"TaggedAddresses":{
        "grpc":{"Address":"grpc://10.8.3.21:9000","Port":9000},"http":{"Address":"http://10.8.3.21:8080","Port":8080},
        "lan_ipv4":{"Address":"10.8.3.21","Port":9000},"wan_ipv4":{"Address":"10.8.3.21","Port":9000}}});
    assert_eq!(
        shown(&decode(&entry(&golden)).unwrap()),
        r#"inventory/inv-7f3a@n1 grpc://10.8.3.21:9000,http://10.8.3.21:8080 v=Some("2.4.1") z=Some("z1") w=100 tags=[] meta=["team=core"] serving"#
    );
}

#[test]
fn spring_is_read_as_spring_wrote_it() {
    let golden = json!({"ID":"inventory-8080","Name":"inventory","Tags":[],"Address":"10.8.3.21",
        "Meta":{"gRPC_port":"9000","secure":"false","team":"core","zone":"z1"},"Port":8080});
    assert_eq!(
        shown(&decode(&entry(&golden)).unwrap()),
        r#"inventory/inventory-8080@n1 http://10.8.3.21:8080,grpc://10.8.3.21:9000 v=None z=Some("z1") w=100 tags=[] meta=["gRPC_port=9000", "secure=false", "team=core"] serving"#
    );
    let secure = json!({"ID":"i","Name":"inventory","Address":"h","Port":1,"Meta":{"secure":"true"}});
    assert_eq!(decode(&entry(&secure)).unwrap().endpoint().to_string(), "https://h:1");
}

#[test]
fn the_least_there_is_can_be_read() {
    let minimal = json!({"ID":"i","Name":"inventory","Address":"","Port":80,"Tags":null,"Meta":null,"TaggedAddresses":null});
    assert_eq!(decode(&entry(&minimal)).unwrap().endpoint().to_string(), "http://10.8.3.1:80");
}

#[test]
fn in_another_data_centre_the_wide_address_counts() {
    let tagged = json!({"ID":"i","Name":"inventory","Address":"10.0.0.1","Port":80,
        "TaggedAddresses":{"wan":{"Address":"198.51.100.1","Port":8080}}});
    let remote = decode_as("inventory", &entry(&tagged), true).unwrap();
    assert_eq!(remote.endpoint().to_string(), "http://198.51.100.1:8080");
    assert_eq!(decode(&entry(&tagged)).unwrap().endpoint().to_string(), "http://10.0.0.1:80");
}

#[test]
fn an_odd_weight_is_read_as_far_as_it_makes_sense_and_counts_where_it_is_asked_for() {
    for (passing, expected) in [
        (json!(0), Some(0)),
        (json!(0.5), Some(50)),
        (json!(1.0), Some(100)),
        (json!(10_000), Some(1_000_000)),
        (json!(65_535), Some(1_000_000)),
        (json!(5_000_000_000_u64), Some(1_000_000)),
        (json!(1e300), Some(1_000_000)),
        (json!(null), Some(100)),
        (json!(-1), None),
        (json!(-0.5), None),
    ] {
        let mut odd = entry(&json!({"ID":"i","Name":"inventory","Address":"h","Port":1,
            "Weights":{"Passing":passing,"Warning":2}}));
        match expected {
            Some(expected) => assert_eq!(decode(&odd).unwrap().weight().get(), expected, "{passing}"),
            // As of other registries: told as one that can't be read, which removes nobody.
            None => assert_eq!(decode(&odd).unwrap_err().unwrap().id.as_str(), "i@n1", "{passing}"),
        }
        odd["Checks"][0]["Status"] = "warning".into();
        assert_eq!(decode(&odd).unwrap().weight().get(), 200, "the other one counts: {passing}");
    }
}

#[test]
fn weights_are_ours_times_a_hundred_less() {
    let mut weighed = entry(
        &json!({"ID":"i","Name":"inventory","Address":"h","Port":1,"Weights":{"Passing":3,"Warning":2}}),
    );
    assert_eq!(decode(&weighed).unwrap().weight().get(), 300);
    weighed["Checks"][0]["Status"] = "warning".into();
    assert_eq!(decode(&weighed).unwrap().weight().get(), 200);
}

#[test]
fn checks_decide_what_is_there_and_maintenance_drains() {
    let plain = entry(&json!({"ID":"i","Name":"inventory","Address":"h","Port":1}));
    let with = |id: &str, status: &str| {
        let mut entry = plain.clone();
        entry["Checks"].as_array_mut().unwrap().push(json!({"CheckID": id, "Status": status}));
        entry
    };
    assert_eq!(decode(&with("service:i", "critical")), Err(None));
    assert_eq!(decode(&with("serfHealth", "critical")), Err(None));
    assert_eq!(decode(&with("service:i", "warning")).unwrap().status(), Status::Serving);
    for maintenance in ["_service_maintenance:i", "_node_maintenance"] {
        assert_eq!(decode(&with(maintenance, "critical")).unwrap().status(), Status::Draining);
    }
    let mut both = with("_service_maintenance:i", "critical");
    both["Checks"].as_array_mut().unwrap().push(json!({"CheckID": "service:i", "Status": "critical"}));
    assert_eq!(decode(&both), Err(None), "dead while in maintenance is dead");
}

#[test]
fn a_bad_record_has_its_key_and_one_that_is_not_asked_for_has_none() {
    let no_port = entry(&json!({"ID":"i","Name":"inventory","Address":"h","Port":0}));
    assert_eq!(decode(&no_port).unwrap_err().unwrap().id.as_str(), "i@n1");
    // Agents take any number.
    for port in [-1, 70_000, i64::MAX] {
        let impossible = entry(&json!({"ID":"i","Name":"inventory","Address":"h","Port":port}));
        assert_eq!(decode(&impossible).unwrap_err().unwrap().id.as_str(), "i@n1", "{port}");
    }
    let broken = entry(
        &json!({"ID":"inventory:a1","Name":"inventory","Address":"h","Port":1,"Meta":{"service-registry":"{"}}),
    );
    assert_eq!(decode(&broken).unwrap_err().unwrap().id.as_str(), "a1");
    assert_eq!(decode_as("Inventory", &no_port, false), Err(None), "a name that differs by case");
    assert_eq!(decode(&json!({"Service": 7})), Err(None));
}

#[test]
fn a_record_counts_however_its_text_is_escaped() {
    let record = r#"{"service":"inventory","id":"a1","endpoints":["http://h:1"],"zone":"é","weight":7,"status":"serving"}"#;
    let ours = |id: &str| {
        json!({"ID":id,"Name":"inventory","Address":"h","Port":1,
            "Meta":{"service-registry":record,"team":"core","zone":"é"}})
    };
    let text = entry(&ours("inventory:a1")).to_string();
    let (names, service) = (Names::new(&Namespace::default()), ServiceName::new("inventory").unwrap());
    let reading =
        Reading { names: &names, service: &service, home: None, is_remote: false, is_prepared: false };
    let plain = "inventory/a1 http://h:1 v=None z=Some(\"é\") w=7 tags=[] meta=[\"team=core\"] serving";
    for text in [
        text.clone(),
        text.replace("\\\"", "\\u0022"),
        text.replace("\"service-registry", "\"\\u0073ervice-registry"),
        text.replace("http://h:1", "http:\\/\\/h:1").replace("\\\"zone", "\\t\\\"zone"),
        text.replace("\"Meta\":{", "\"Meta\":{\"service-registry\":\"{\","),
    ] {
        assert_eq!(shown(&reading.decode(&text).unwrap()), plain, "{text}");
    }
    let last = reading.decode(&text.replace("\"team\"", "\"service-registry\":\"{\",\"team\""));
    assert_eq!(last.unwrap_err().unwrap().id.as_str(), "a1", "of two the last counts");
    // Under an id that isn't one of ours it says nothing, and is metadata as any other.
    let foreign = decode(&entry(&ours("x"))).unwrap();
    assert_eq!((foreign.id().as_str(), foreign.metadata().get("service-registry")), ("x@n1", Some(record)));
    let mut number = entry(&ours("inventory:a1"));
    number["Service"]["Meta"]["service-registry"] = json!(7);
    assert_eq!(decode(&number).unwrap_err().unwrap().id.as_str(), "a1");
    // Half a pair makes the whole entry no JSON.
    assert_eq!(reading.decode(&text.replace("\\\"zone", "\\ud800\\\"zone")), Err(None));
}

#[test]
fn an_entry_of_wrong_types_has_its_key_where_that_can_be_read() {
    let service = json!({"ID":"i","Name":"inventory","Address":"h","Port":1});
    let with = |field: &str, value: Value| {
        let mut entry = entry(&service);
        entry["Service"][field] = value;
        entry
    };
    let id = |entry: &Value| decode(entry).unwrap_err().map(|key| key.id.to_string());
    for (field, value) in [
        ("Port", json!("8080")),
        ("Port", json!(-1)),
        ("Tags", json!("eu")),
        ("Meta", json!({"a": 1})),
        ("Weights", json!({"Passing": "1"})),
        ("TaggedAddresses", json!("http://h")),
    ] {
        assert_eq!(id(&with(field, value.clone())).as_deref(), Some("i@n1"), "{field} {value}");
    }
    let mut bad_check = entry(&service);
    bad_check["Checks"] = json!([{"CheckID": 7, "Status": "critical"}]);
    assert_eq!(id(&bad_check).as_deref(), Some("i@n1"));
    // What says nothing of where it is and whether it is well isn't looked at, and costs nobody an instance.
    bad_check["Checks"] = json!([{"CheckID": 7, "Status": "passing"}]);
    assert!(decode(&bad_check).is_ok());
    assert!(decode(&with("TaggedAddresses", json!("none"))).is_ok());
    // One of ours is known by its own id, also where the record can't be told from others'.
    let ours = json!({"ID":"inventory:a1","Name":"inventory","Address":"h","Port":"x","Meta":{"service-registry":"{}"}});
    assert_eq!(id(&entry(&ours)).as_deref(), Some("a1"));
    // What isn't there to be used isn't missed.
    let mut critical = with("Port", json!("8080"));
    critical["Checks"] = json!([{"CheckID": "service:i", "Status": "critical"}]);
    assert_eq!(id(&critical), None);
    let unnamed = with("ID", json!(7));
    assert_eq!(id(&unnamed), None);
    let other = with("Service", json!("Inventory"));
    assert_eq!(id(&other), None);
}
