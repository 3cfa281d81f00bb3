use super::*;

const FULL: &str = r#"{"service":"orders","id":"a1","endpoints":["http://10.0.0.7:8080","grpc://[::1]:9000"],"version":"2.4.1","weight":250,"zone":"z1","group":"g","tags":["blue","canary"],"metadata":{"a":"","team":"core"},"status":"draining","incarnation":"00000000000000000000000000000001","epoch":2,"sequence":18446744073709551615}"#;
const LEAST: &str =
    r#"{"service":"orders","id":"a1","endpoints":["tcp://10.0.0.7:1"],"weight":100,"status":"serving"}"#;

/// What a decoder says of a record, cause included.
#[track_caller]
fn malformed(text: impl AsRef<[u8]>) -> String {
    let error = decode_record(text.as_ref()).expect_err("this must be refused");
    assert_eq!(error.kind(), ErrorKind::Protocol, "a bad record is not the caller's fault");
    format!("{error:#}")
}

fn decoded(text: &str) -> Instance {
    decode_record(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e:#}"))
}

/// The least record with one more field.
fn with(field: &str) -> String {
    format!(r#"{{"service":"orders","id":"a1","endpoints":["tcp://10.0.0.7:1"],{field}}}"#)
}

#[test]
fn the_wire_form_is_stable() {
    for text in [FULL, LEAST] {
        assert_eq!(String::from_utf8(encode_record(&decoded(text), None).unwrap()).unwrap(), text);
    }
    let version = decoded(FULL).record_version().unwrap();
    assert_eq!((version.epoch, version.sequence), (2, u64::MAX));
    let newer = RecordVersion { epoch: 3, ..version };
    let rewritten = encode_record(&decoded(FULL), Some(newer)).unwrap();
    assert_eq!(decode_record(&rewritten).unwrap().record_version(), Some(newer), "the given version wins");
}

#[test]
fn a_record_within_json_is_read_however_it_is_escaped() {
    let full = decoded(FULL);
    let beside = || (vec![("team", "shop")], vec!["red"]);
    let quoted = serde_json::to_string(FULL).unwrap();
    let other = InstanceKey::new("stock".parse().unwrap(), "a1".parse().unwrap());
    for quoted in
        [quoted.clone(), quoted.replace("orders", "\\u006frders"), quoted.replace("\\\"", "\\u0022")]
    {
        for key in [full.key(), other.clone()] {
            let (metadata, tags) = beside();
            let read = decode_quoted_record(&quoted, &key, metadata, tags).unwrap();
            assert!(read.is_same_record(&full), "{quoted}");
        }
    }
    let (metadata, tags) = beside();
    let least = serde_json::to_string(LEAST).unwrap();
    let read = decode_quoted_record(&least, &full.key(), metadata, tags).unwrap();
    assert_eq!(
        (read.metadata().get("team"), read.has_tag("red")),
        (Some("shop"), true),
        "what stands beside it"
    );
    for odd in ["", "\"", "7", "{}", FULL, "\"\"", "\"\\ud800\"", &quoted[1..], &quoted[..quoted.len() - 1]] {
        let error = decode_quoted_record(odd, &full.key(), Vec::new(), Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{odd}");
    }
}

#[test]
fn what_json_forbids_is_refused_at_a_glance_too() {
    for (from, to) in [
        ("250", "0250"),
        ("250", "+250"),
        ("250", ""),
        ("\"z1\"", "\"z\t1\""),
        ("\"z1\"", "\"z1\"\""),
        ("[\"blue\",", "[\"blue\",,"),
        ("\"team\":", "\"team\","),
        (",\"zone\"", ",,\"zone\""),
    ] {
        malformed(FULL.replace(from, to));
    }
    malformed(format!("{FULL}}}"));
    assert!(decoded(&format!("{FULL}\n")).is_same_record(&decoded(FULL)));
}

#[test]
fn what_is_absent_null_or_empty_takes_its_default() {
    let least = decoded(LEAST);
    assert!(least.record_version().is_none());
    let cases = [
        r#""zone":null,"version":null,"group":null,"tags":null,"metadata":null,"weight":null,"status":null"#,
        r#""zone":"","version":"","group":"","tags":[],"metadata":{},"weight":"","status":"""#,
        r#""incarnation":null,"epoch":null,"sequence":null"#,
        r#""incarnation":"","epoch":"","sequence":"""#,
        r#""epoch":7"#,
        r#""future":{"deeply":[1,2,{"nested":true}]}"#,
    ];
    for fields in cases {
        let record = decoded(&with(fields));
        assert!(record.is_same_record(&least), "{fields}");
    }
    let record = decoded(&with(r#""metadata":{"k":null,"l":"v"}"#));
    assert_eq!(record.metadata().iter().collect::<Vec<_>>(), [("k", ""), ("l", "v")]);
    let version =
        decoded(&with(r#""incarnation":"0000000000000000000000000000000A""#)).record_version().unwrap();
    assert_eq!((version.incarnation, version.epoch, version.sequence), (Incarnation::from_bits(10), 1, 1));
}

#[test]
fn a_number_may_stand_as_a_string() {
    for weight in ["250", "250.0", "2.5e2", "249.6", r#""250""#, r#"" 250 ""#, r#""250.4""#] {
        assert_eq!(decoded(&with(&format!(r#""weight":{weight}"#))).weight().get(), 250, "{weight}");
    }
    let version = decoded(&with(
        r#""incarnation":"00000000000000000000000000000001","epoch":"18446744073709551615","sequence":"3""#,
    ));
    let version = version.record_version().unwrap();
    assert_eq!((version.epoch, version.sequence), (u64::MAX, 3));
}

#[test]
fn a_foreign_name_in_a_record_is_kept() {
    let record = decoded(r#"{"service":"com.acme/Orders:1","id":"注文-1","endpoints":["h:1"]}"#);
    assert_eq!((record.service().as_str(), record.id().as_str()), ("com.acme/Orders:1", "注文-1"));
    assert_eq!(decode_record(&encode_record(&record, None).unwrap()).unwrap(), record);
}

#[test]
fn bytes_that_are_no_record_are_refused() {
    let json = |text: &str| {
        let message = malformed(text);
        assert!(
            message.starts_with("malformed record: it is not the JSON of a record: "),
            "{text}: {message}"
        );
    };
    for text in ["", " ", "null", "[]", "7", "\"x\"", "{", "{}x", "{\"service\":}", "\u{feff}{}", "{'a':1}"] {
        json(text);
    }
    json(r#"{"service":"a","service":"b","id":"a1","endpoints":["h:1"]}"#);
    assert_eq!(
        malformed(b"{\"service\":\"\xff\"}"),
        "malformed record: it is not UTF-8: invalid utf-8 sequence of 1 bytes from index 12"
    );
    assert_eq!(malformed(vec![b' '; 65_537]), "malformed record: it has 65537 bytes; at most 65536 are read");
}

#[test]
fn an_unknown_field_may_nest_as_deep_as_a_record_is_long() {
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    decoded(&with(&format!("\"future\":{deep}")));
    assert!(decode_record(with(&format!("\"weight\":{deep}")).as_bytes()).is_err(), "not in a known one");
}

#[test]
fn a_field_of_the_wrong_type_is_refused() {
    let cases = [
        r#""service":7"#,
        r#""zone":7"#,
        r#""tags":"blue""#,
        r#""tags":[1]"#,
        r#""tags":[null]"#,
        r#""metadata":[]"#,
        r#""metadata":{"k":7}"#,
        r#""metadata":{"k":{}}"#,
        r#""weight":true"#,
        r#""weight":[1]"#,
        r#""weight":"heavy""#,
        r#""weight":1e999"#,
        r#""status":1"#,
        r#""incarnation":1"#,
        r#""epoch":-1"#,
        r#""epoch":1.5"#,
        r#""epoch":"-1""#,
        r#""sequence":18446744073709551616"#,
    ];
    for field in cases {
        let message = malformed(with(field));
        assert!(
            message.starts_with("malformed record: it is not the JSON of a record: "),
            "{field}: {message}"
        );
    }
    for endpoints in ["\"h:1\"", "[1]", "{}", "[[\"h:1\"]]"] {
        let text = format!(r#"{{"service":"orders","id":"a1","endpoints":{endpoints}}}"#);
        assert!(malformed(text).starts_with("malformed record: it is not the JSON of a record: "));
    }
}

#[test]
fn a_value_outside_the_model_is_refused_and_says_why() {
    let long = "x".repeat(513);
    let clipped = "x".repeat(64);
    let many = |n: usize, item: &str| vec![item; n].join(",");
    let tags = (0..65).map(|i| format!("\"t{i}\"")).collect::<Vec<_>>().join(",");
    let pairs = (0..65).map(|i| format!("\"k{i}\":\"v\"")).collect::<Vec<_>>().join(",");
    let cases = [
        ("{}".to_owned(), "it has no service".to_owned()),
        (r#"{"service":null}"#.into(), "it has no service".into()),
        (r#"{"service":"orders"}"#.into(), "it has no id".into()),
        (r#"{"service":"","id":"a"}"#.into(), "service name \"\" is empty".into()),
        (r#"{"service":"a","id":""}"#.into(), "instance id \"\" is empty".into()),
        (
            format!(r#"{{"service":"{long}","id":"a"}}"#),
            format!("service name \"{clipped}\" is longer than 512 bytes"),
        ),
        (
            r#"{"service":"a\u0000","id":"a"}"#.into(),
            r#"service name "a\0" holds the control character '\0'"#.into(),
        ),
        (
            r#"{"service":"a\u202e","id":"a"}"#.into(),
            r#"service name "a\u{202e}" holds the control character '\u{202e}'"#.into(),
        ),
        (r#"{"service":"a","id":"a"}"#.into(), "instance of \"a\" has no endpoint".into()),
        (r#"{"service":"a","id":"a","endpoints":null}"#.into(), "instance of \"a\" has no endpoint".into()),
        (r#"{"service":"a","id":"a","endpoints":[]}"#.into(), "instance of \"a\" has no endpoint".into()),
        (
            r#"{"service":"a","id":"a","endpoints":["h:1","h:0"]}"#.into(),
            "address \"h:0\" has a port outside 1 to 65535".into(),
        ),
        (
            r#"{"service":"a","id":"a","endpoints":["h:70000"]}"#.into(),
            "address \"h:70000\" has a port outside 1 to 65535".into(),
        ),
        (
            format!(r#"{{"service":"a","id":"a","endpoints":[{}]}}"#, many(17, "\"h:1\"")),
            "an instance has more than 16 endpoints".into(),
        ),
        (with(r#""weight":1000001"#), "weight 1000001 is not a number from 0 to 1000000".into()),
        (with(r#""weight":-1"#), "weight -1 is not a number from 0 to 1000000".into()),
        (with(r#""weight":"NaN""#), "weight NaN is not a number from 0 to 1000000".into()),
        (with(r#""weight":"inf""#), "weight inf is not a number from 0 to 1000000".into()),
        (with(r#""status":"UP""#), "a status is one of starting, serving, draining, down".into()),
        (with(r#""incarnation":"xyz""#), "an incarnation has 32 hexadecimal digits".into()),
        (with(r#""tags":[""]"#), "tag \"\" must have 1 to 256 bytes".into()),
        (with(&format!(r#""tags":[{tags}]"#)), "an instance has more than 64 tags".into()),
        (with(&format!(r#""metadata":{{{pairs}}}"#)), "metadata has more than 64 entries".into()),
        (with(r#""metadata":{"":"v"}"#), "metadata key \"\" must have 1 to 256 bytes".into()),
        (with(r#""zone":"a\nb""#), r#"zone "a\nb" holds a control character"#.into()),
    ];
    for (text, why) in cases {
        assert_eq!(malformed(&text), format!("malformed record: {why}"), "{text}");
    }
}

#[test]
fn credentials_in_a_record_s_endpoint_are_not_repeated() {
    let message = malformed(r#"{"service":"a","id":"a","endpoints":["http://me:c4n4ry@h:1"]}"#);
    assert_eq!(message, "malformed record: an endpoint must not hold credentials: scheme://host:port");
}

#[test]
fn a_record_that_is_too_large_is_not_written() {
    let pairs = (0..20).map(|i| (format!("k{i}"), "v".repeat(4096)));
    let instance = Instance::builder("orders").id("a1").endpoint("h:1");
    let instance = instance.all_metadata(Metadata::from_pairs(pairs).unwrap()).build().unwrap();
    let message = refused(encode_record(&instance, None));
    assert!(message.starts_with("the record of orders/a1 has 8"), "{message}");
    assert!(message.ends_with(" bytes; at most 65536 are allowed"), "{message}");
}
