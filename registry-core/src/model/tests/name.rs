use super::*;

/// Bidirectional and control characters that make a log line lie.
const DECEPTIVE: [char; 8] = ['\0', '\n', '\u{7f}', '\u{85}', '\u{61c}', '\u{200e}', '\u{202e}', '\u{2066}'];

#[test]
fn a_strict_name_is_letters_digits_dots_underscores_and_dashes() {
    for name in ["a", "A", "9", "orders", "orders.v2", "or_ders-eu", "a.", "a-", "1.2", &"x".repeat(255)] {
        assert_eq!(ServiceName::new(name).unwrap().as_str(), name);
        assert_eq!(InstanceId::new(name).unwrap().as_str(), name);
        assert_eq!(Namespace::new(name).unwrap().as_str(), name);
    }
}

#[test]
fn a_malformed_name_is_refused_and_says_why() {
    let long = "x".repeat(256);
    let clipped = "x".repeat(64);
    let allowed = "allowed are letters, digits, '.', '_' and '-'";
    let cases = [
        ("", "\"\" is empty".to_owned()),
        (&long, format!("\"{clipped}\" is longer than 255 bytes")),
        ("-a", "\"-a\" must start with a letter or a digit".into()),
        (".a", "\".a\" must start with a letter or a digit".into()),
        ("..", "\"..\" must start with a letter or a digit".into()),
        ("_a", "\"_a\" must start with a letter or a digit".into()),
        ("éa", "\"éa\" must start with a letter or a digit".into()),
        (" a", "\" a\" must start with a letter or a digit".into()),
        ("a/b", format!("\"a/b\" holds '/'; {allowed}")),
        ("a..b", "\"a..b\" holds '..'".into()),
        ("a\0", format!("\"a\\0\" holds '\\0'; {allowed}")),
        ("a\nb", format!("\"a\\nb\" holds '\\n'; {allowed}")),
        ("a\u{202e}b", format!("\"a\\u{{202e}}b\" holds '\\u{{202e}}'; {allowed}")),
        ("aé", format!("\"aé\" holds 'é'; {allowed}")),
        ("a b", format!("\"a b\" holds ' '; {allowed}")),
        ("a:b", format!("\"a:b\" holds ':'; {allowed}")),
        ("a%2Fb", format!("\"a%2Fb\" holds '%'; {allowed}")),
        ("a\\b", format!("\"a\\\\b\" holds '\\\\'; {allowed}")),
    ];
    for (text, why) in cases {
        assert_eq!(refused(ServiceName::new(text)), format!("service name {why}"));
        assert_eq!(refused(text.parse::<ServiceName>()), format!("service name {why}"));
        assert_eq!(refused(InstanceId::new(text)), format!("instance id {why}"));
    }
}

#[test]
fn a_foreign_name_is_any_bounded_text_that_does_not_deceive() {
    for name in ["a/b", "-a", "..", "com.acme.Orders:1.0::provider", "注文", " ", "👩‍💻", &"é".repeat(256)]
    {
        assert_eq!(ServiceName::foreign(name).unwrap().as_str(), name);
        assert_eq!(InstanceId::foreign(name).unwrap().as_str(), name);
    }
    assert_eq!(refused(ServiceName::foreign("")), "service name \"\" is empty");
    let clipped = "é".repeat(64);
    assert_eq!(
        refused(InstanceId::foreign("é".repeat(257))),
        format!("instance id \"{clipped}\" is longer than 512 bytes")
    );
    for bad in DECEPTIVE {
        let text = format!("a{bad}b");
        let message = refused(ServiceName::foreign(&text));
        assert_eq!(message, format!("service name {text:?} holds the control character {bad:?}"));
        assert!(!message.contains(bad), "the message itself must not deceive");
    }
}

#[test]
fn a_namespace_is_names_joined_by_slashes() {
    assert_eq!(Namespace::default().as_str(), "services");
    assert_eq!(Namespace::new("/prod/eu/").unwrap().as_str(), "prod/eu");
    assert_eq!(Namespace::new("a/b/c").unwrap().to_string(), "a/b/c");
    assert_eq!(refused(Namespace::new("")), "namespace \"\" is empty");
    assert_eq!(refused(Namespace::new("//")), "namespace \"\" is empty");
    assert_eq!(refused(Namespace::new("a//b")), "namespace \"\" is empty");
    assert_eq!(refused(Namespace::new("a/../b")), "namespace \"..\" must start with a letter or a digit");
    assert_eq!(refused(Namespace::new("a/b..c")), "namespace \"b..c\" holds '..'");
    let allowed = "allowed are letters, digits, '.', '_' and '-'";
    assert_eq!(refused(Namespace::new("a/b c")), format!("namespace \"b c\" holds ' '; {allowed}"));
    let long = format!("{}/{}", "a".repeat(128), "b".repeat(127));
    assert_eq!(
        refused(Namespace::new(long)),
        format!("namespace \"{}\" is longer than 255 bytes", "a".repeat(64))
    );
}

#[test]
fn a_generated_id_is_strict_and_differs_each_time() {
    let (one, two) = (InstanceId::generate(), InstanceId::generate());
    assert_ne!(one, two);
    assert_eq!(one.as_str().len(), 32);
    assert_eq!(InstanceId::new(one.as_str()).unwrap(), one);
}

#[test]
fn an_incarnation_is_32_hexadecimal_digits() {
    let incarnation = Incarnation::from_bits(0xab);
    assert_eq!(incarnation.to_string(), "000000000000000000000000000000ab");
    assert_eq!(incarnation.to_string().parse::<Incarnation>().unwrap(), incarnation);
    assert_ne!(Incarnation::generate(), Incarnation::generate());
    let digits = "0".repeat(31);
    for bad in [
        "",
        "ab",
        &digits,
        &format!("{digits}g"),
        &format!("+{digits}"),
        &format!("-{digits}"),
        &format!("{digits}é"),
    ] {
        let error = bad.parse::<Incarnation>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{bad:?}");
        assert_eq!(error.to_string(), "an incarnation has 32 hexadecimal digits");
    }
}

#[test]
fn a_key_reads_as_service_and_id() {
    let key = InstanceKey::new(ServiceName::new("orders").unwrap(), InstanceId::new("a1").unwrap());
    assert_eq!(format!("{key} {key:?}"), "orders/a1 orders/a1");
}
