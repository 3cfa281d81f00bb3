use super::*;

fn builder() -> InstanceBuilder {
    Instance::builder("orders").endpoint("http://10.0.0.7:8080")
}

#[test]
fn a_weight_is_0_to_a_million() {
    assert_eq!(Weight::default(), Weight::NEUTRAL);
    assert_eq!(Weight::new(1_000_000).unwrap(), Weight::MAX);
    assert_eq!(refused(Weight::new(1_000_001)), "weight 1000001 is outside 0 to 1000000");
    assert_eq!(Weight::from_f64(-0.0).unwrap(), Weight::ZERO);
    assert_eq!(Weight::from_f64(99.5).unwrap(), Weight::NEUTRAL, "rounded to the nearest");
    assert_eq!(Weight::from_f64(1e6).unwrap(), Weight::MAX);
    let cases = [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (-1.0, "-1"),
        (-0.1, "-0.1"),
        (1_000_000.5, "1000000.5"),
    ];
    for (weight, shown) in cases {
        let message = format!("weight {shown} is not a number from 0 to 1000000");
        assert_eq!(refused(Weight::from_f64(weight)), message);
    }
    assert_eq!(refused(builder().weight(2_000_000).build()), "weight 2000000 is outside 0 to 1000000");
}

#[test]
fn metadata_is_sorted_and_the_last_of_a_key_wins() {
    let metadata = Metadata::from_pairs([("b", "1"), ("a", "2"), ("b", "3"), ("empty", "")]).unwrap();
    assert_eq!(metadata.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3"), ("empty", "")]);
    assert_eq!((metadata.get("b"), metadata.get("c"), metadata.len()), (Some("3"), None, 3));
    assert!(Metadata::default().is_empty());
}

#[test]
fn metadata_has_limits() {
    let pairs = |n: usize| (0..n).map(|i| (format!("k{i}"), "v"));
    assert_eq!(Metadata::from_pairs(pairs(64)).unwrap().len(), 64);
    assert_eq!(refused(Metadata::from_pairs(pairs(65))), "metadata has more than 64 entries");
    Metadata::from_pairs([("k".repeat(256), "v".repeat(4096))]).unwrap();
    assert_eq!(refused(Metadata::from_pairs([("", "v")])), "metadata key \"\" must have 1 to 256 bytes");
    assert_eq!(
        refused(Metadata::from_pairs([("k".repeat(257), "v")])),
        format!("metadata key \"{}\" must have 1 to 256 bytes", "k".repeat(64))
    );
    assert_eq!(
        refused(Metadata::from_pairs([("k", "v".repeat(4097))])),
        "metadata value of \"k\" is longer than 4096 bytes"
    );
    assert_eq!(
        refused(Metadata::from_pairs([("a\nb", "v")])),
        "metadata key \"a\\nb\" holds a control character"
    );
    assert_eq!(
        refused(Metadata::from_pairs([("a\u{202e}", "v")])),
        "metadata key \"a\\u{202e}\" holds a control character"
    );
    assert_eq!(refused(builder().metadata("", "x").build()), "metadata key \"\" must have 1 to 256 bytes");
}

#[test]
fn texts_and_tags_have_limits() {
    let long = "x".repeat(257);
    let clipped = "x".repeat(64);
    type Set = fn(InstanceBuilder, &str) -> InstanceBuilder;
    let cases: [(&str, Set); 4] = [
        ("version", |b, text| b.version(text)),
        ("zone", |b, text| b.zone(text)),
        ("group", |b, text| b.group(text)),
        ("tag", |b, text| b.tag(text)),
    ];
    for (what, set) in cases {
        set(builder(), &"x".repeat(256)).build().unwrap();
        assert_eq!(refused(set(builder(), "").build()), format!("{what} \"\" must have 1 to 256 bytes"));
        assert_eq!(
            refused(set(builder(), &long).build()),
            format!("{what} \"{clipped}\" must have 1 to 256 bytes")
        );
        assert_eq!(
            refused(set(builder(), "a\0").build()),
            format!("{what} \"a\\0\" holds a control character")
        );
    }
    let tagged = |n: usize| (0..n).fold(builder(), |b, i| b.tag(format!("t{i}"))).build();
    assert_eq!(tagged(64).unwrap().tags().len(), 64);
    assert_eq!(refused(tagged(65)), "an instance has more than 64 tags");
    let instance = builder().tag("b").tag("a").tag("b").build().unwrap();
    assert_eq!(instance.tags().collect::<Vec<_>>(), ["a", "b"]);
    assert!(instance.has_tag("a") && !instance.has_tag("c"));
}

#[test]
fn an_instance_has_1_to_16_endpoints() {
    assert_eq!(refused(Instance::builder("orders").build()), "instance of \"orders\" has no endpoint");
    assert_eq!(refused(builder().clear_endpoints().build()), "instance of \"orders\" has no endpoint");
    let with =
        |n: u16| (1..=n).fold(Instance::builder("o"), |b, port| b.endpoint(format!("h:{port}"))).build();
    let full = with(16).unwrap();
    assert_eq!((full.endpoints().len(), full.endpoints()[0].port()), (16, 1));
    assert_eq!(refused(with(17)), "an instance has more than 16 endpoints");
}

#[test]
fn the_first_mistake_is_the_one_that_is_told() {
    let build = Instance::builder("a/b").id("").endpoint("x").weight(u32::MAX).metadata("", "").build();
    assert_eq!(
        refused(build),
        "service name \"a/b\" holds '/'; allowed are letters, digits, '.', '_' and '-'"
    );
    assert_eq!(refused(builder().id("").endpoint("x").build()), "instance id \"\" is empty");
    assert_eq!(refused(Instance::new("orders", "10.0.0.7")), "endpoint \"10.0.0.7\" has no port");
}

#[test]
fn a_changed_copy_keeps_the_rest() {
    let instance = builder().id("a1").zone("z1").metadata("k", "v").metadata("l", "w").build().unwrap();
    let copy = instance.to_builder().status(Status::Draining).metadata("k", "x").build().unwrap();
    assert_eq!((copy.key(), copy.zone(), copy.status()), (instance.key(), Some("z1"), Status::Draining));
    assert_eq!(copy.metadata().iter().collect::<Vec<_>>(), [("k", "x"), ("l", "w")]);
    assert_eq!(instance.to_builder().build().unwrap(), instance);
    let replaced = copy.to_builder().metadata("a", "b").all_metadata(Metadata::default()).metadata("c", "d");
    assert_eq!(replaced.build().unwrap().metadata().iter().collect::<Vec<_>>(), [("c", "d")]);
}

#[test]
fn the_same_record_means_the_same_content_by_the_same_life() {
    let version = |epoch| Some(RecordVersion { incarnation: Incarnation::from_bits(1), epoch, sequence: 1 });
    let instance = builder().build().unwrap();
    let one = instance.clone().with_record_version(version(1));
    let two = instance.clone().with_record_version(version(2));
    assert_eq!(one, two);
    assert!(!one.is_same_record(&two));
    assert!(one.is_same_record(&one.clone()));
}

#[tokio::test]
async fn a_listener_s_real_port_is_taken_and_a_wildcard_host_left_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let instance = Instance::from_listener("orders", &listener).unwrap();
    assert_eq!(instance.endpoints()[0].to_string(), format!("http://127.0.0.1:{port}"));
    assert!(!instance.has_wildcard_endpoint());

    let open = builder().endpoint("http://0.0.0.0:80").endpoint("http://[::]:81").build().unwrap();
    assert!(open.has_wildcard_endpoint());
    let told = open.with_advertised_ip([10, 0, 0, 9].into());
    let shown: Vec<_> = told.endpoints().iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["http://10.0.0.7:8080", "http://10.0.0.9:80", "http://10.0.0.9:81"]);
}

#[test]
fn a_status_is_one_of_four_words() {
    for status in [Status::Starting, Status::Serving, Status::Draining, Status::Down] {
        assert_eq!(status.to_string().parse::<Status>().unwrap(), status);
    }
    for bad in ["", "SERVING", "up", "serving "] {
        assert_eq!(refused(bad.parse::<Status>()), "a status is one of starting, serving, draining, down");
    }
}

#[test]
fn a_selector_needs_every_condition() {
    let instance =
        builder().version("2").zone("z1").group("g").tag("a").tag("b").metadata("k", "v").build().unwrap();
    let all =
        || Selector::new().version("2").zone("z1").group("g").tag("b").tag("a").metadata("k", "v").unwrap();
    assert!(Selector::new().matches(&instance));
    assert!(all().matches(&instance));
    let misses = [
        all().version("3"),
        all().zone("z2"),
        all().group("h"),
        all().tag("c"),
        all().metadata("k", "w").unwrap(),
        all().metadata("l", "v").unwrap(),
    ];
    for miss in misses {
        assert!(!miss.matches(&instance), "{miss:?}");
    }
    assert_eq!(refused(Selector::new().metadata("", "v")), "metadata key \"\" must have 1 to 256 bytes");
}

#[test]
fn a_target_is_a_service_with_qualifiers() {
    let target = Target::try_from("orders").unwrap().with_qualifier("dc", "eu").unwrap();
    assert_eq!((target.service().as_str(), target.qualifiers().get("dc")), ("orders", Some("eu")));
    assert_ne!(target, Target::try_from("orders").unwrap());
    assert_eq!(refused(Target::try_from("")), "service name \"\" is empty");
    assert_eq!(refused(target.with_qualifier("", "x")), "metadata key \"\" must have 1 to 256 bytes");
}
