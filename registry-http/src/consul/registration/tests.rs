use std::sync::Arc;

use registry_core::{Incarnation, Namespace, OnDuplicate, model::RecordVersion};

use super::*;

fn written(url: &str, instance: Instance) -> Result<Value, Error> {
    let mut body = whole(url, instance)?;
    body.as_object_mut().unwrap().remove("Meta");
    Ok(body)
}

fn whole(url: &str, instance: Instance) -> Result<Value, Error> {
    let config: ConsulConfig = url.parse().unwrap();
    let names = Names::new(&Namespace::default());
    let version = RecordVersion { incarnation: Incarnation::from_bits(1), epoch: 1, sequence: 1 };
    let lifetime = match config.check {
        ConsulCheck::Ttl => Lifetime::Leased { ttl: Duration::from_secs(15) },
        _ => Lifetime::Verified { every: Duration::from_secs(20) },
    };
    let id = names.id(&instance.key());
    let record = Publish::new(Arc::new(instance), version, OnDuplicate::TakeOver);
    Ok(serde_json::from_slice(&body(&config, &names, &record, lifetime, &id, Known::default())?).unwrap())
}

fn instance() -> Instance {
    let builder = Instance::builder("orders").id("a1").endpoint("http://10.0.0.7:8080");
    builder.endpoint("grpcs://10.0.0.7:9090").tag("eu").weight(250).build().unwrap()
}

#[test]
fn a_heartbeat_is_a_ttl_check_that_passes_from_the_start() {
    let expected = json!({"ID":"orders:a1","Name":"orders","Address":"10.0.0.7","Port":8080,"Tags":["eu"],
        "TaggedAddresses":{"grpcs":{"Address":"grpcs://10.0.0.7:9090","Port":9090},
            "http":{"Address":"http://10.0.0.7:8080","Port":8080}},
        "Checks":[{"CheckID":"service:orders:a1","Name":"service-registry","Status":"passing","TTL":"15000ms",
            "DeregisterCriticalServiceAfter":"150000ms"}]});
    assert_eq!(written("consul://h", instance()).unwrap(), expected);
}

#[test]
fn the_other_checks_name_what_to_ask() {
    let check = |url: &str| written(url, instance()).unwrap()["Checks"][0].clone();
    let http = check("consul://h?check=http&check_path=/health&check_interval=2s");
    assert_eq!((&http["HTTP"], &http["Interval"]), (&json!("http://10.0.0.7:8080/health"), &json!("2000ms")));
    assert_eq!(check("consul://h?check=tcp")["TCP"], "10.0.0.7:8080");
    let grpc = check("consul://h?check=grpc&check_path=orders.v1.Orders");
    assert_eq!(
        (&grpc["GRPC"], &grpc["GRPCUseTLS"]),
        (&json!("10.0.0.7:9090/orders.v1.Orders"), &json!(true))
    );
    let only_http = Instance::new("orders", "http://10.0.0.7:8080").unwrap();
    let error = written("consul://h?check=grpc", only_http).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_golden_body_of_spring_clouds_shape_whichever_endpoint_is_first() {
    let instance = Instance::builder("inventory").id("8080").endpoint("grpc://10.8.3.21:9000");
    let instance = instance.endpoint("http://10.8.3.21:8080").zone("z1").metadata("team", "core").weight(250);
    let mut body = whole("consul://h", instance.build().unwrap()).unwrap();
    body.as_object_mut().unwrap().remove("Checks");
    let record = body["Meta"].as_object_mut().unwrap().remove("service-registry").unwrap();
    assert!(record.as_str().unwrap().contains(r#"["grpc://10.8.3.21:9000","http://10.8.3.21:8080"]"#));
    let golden = json!({"ID":"inventory:8080","Name":"inventory","Tags":[],"Address":"10.8.3.21",
        "Meta":{"gRPC_port":"9000","secure":"false","team":"core","weight":"250","zone":"z1"},"Port":8080,
        "TaggedAddresses":{"grpc":{"Address":"grpc://10.8.3.21:9000","Port":9000},
            "http":{"Address":"http://10.8.3.21:8080","Port":8080}}});
    assert_eq!(body, golden);
}

#[test]
fn what_a_check_over_tls_needs_is_told() {
    let check = |url: &str, endpoint: &str| {
        written(url, Instance::new("orders", endpoint).unwrap()).unwrap()["Checks"][0].clone()
    };
    let tls = "check_tls_server_name=orders.internal&check_tls_skip_verify=true";
    let http = check(
        &format!("consul://h?check=http&check_method=HEAD&check_header=Host:%20orders.internal&{tls}"),
        "https://10.0.0.7:8443",
    );
    assert_eq!(http["HTTP"], "https://10.0.0.7:8443/");
    assert_eq!((&http["Method"], &http["Header"]), (&json!("HEAD"), &json!({"Host": ["orders.internal"]})));
    let grpc = check(&format!("consul://h?check=grpc&{tls}"), "grpcs://10.0.0.7:9090");
    for check in [&http, &grpc] {
        assert_eq!(check["TLSServerName"], "orders.internal");
        assert_eq!(check["TLSSkipVerify"], true);
    }
    let plain = check("consul://h?check=http", "https://10.0.0.7:8443");
    for absent in ["Method", "Header", "TLSServerName", "TLSSkipVerify"] {
        assert_eq!(plain[absent], Value::Null, "{absent}");
    }
}

#[test]
fn enterprise_and_weights_are_written_only_when_asked_for() {
    let asked =
        written("consul://h?ns=team&partition=p&weights=true&deregister_after=5m", instance()).unwrap();
    assert_eq!((&asked["Namespace"], &asked["Partition"]), (&json!("team"), &json!("p")));
    assert_eq!(asked["Weights"], json!({"Passing": 250, "Warning": 250}));
    assert_eq!(asked["Checks"][0]["DeregisterCriticalServiceAfter"], "300000ms");
    let plain = written("consul://h", Instance::new("orders", "http://h:1").unwrap()).unwrap();
    for absent in ["Namespace", "Partition", "Weights", "TaggedAddresses"] {
        assert_eq!(plain[absent], Value::Null, "{absent}");
    }
}
