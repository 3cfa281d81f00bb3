use super::*;

#[test]
fn an_endpoint_is_scheme_host_and_port() {
    let cases = [
        ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
        ("10.0.0.7:8080", "tcp://10.0.0.7:8080"),
        ("http://web", "http://web:80"),
        ("https://web/", "https://web:443"),
        ("HTTP://Web.Internal:1", "http://web.internal:1"),
        ("grpc://[::1]:9000", "grpc://[::1]:9000"),
        ("http://[FD00:0:0::1]", "http://[fd00::1]:80"),
        ("grpc+tls://my_app-1.ns.svc.:65535", "grpc+tls://my_app-1.ns.svc.:65535"),
        ("tcp://7f3a12345678:1", "tcp://7f3a12345678:1"),
        ("tcp://123456789012:1", "tcp://123456789012:1"),
        ("tcp://0.0.0.0:1", "tcp://0.0.0.0:1"),
    ];
    for (text, shown) in cases {
        let endpoint: Endpoint = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(endpoint.to_string(), shown);
        assert_eq!(shown.parse::<Endpoint>().unwrap(), endpoint, "what is shown is read back");
    }
}

#[test]
fn its_parts_are_told() {
    let endpoint: Endpoint = "grpc://[::1]:9000".parse().unwrap();
    assert_eq!((endpoint.scheme(), endpoint.host(), endpoint.port()), ("grpc", "::1".to_owned(), 9000));
    assert_eq!(endpoint.authority(), "[::1]:9000");
    assert_eq!(endpoint.socket_addr(), Some("[::1]:9000".parse().unwrap()));
    let named: Endpoint = "http://web:80".parse().unwrap();
    assert_eq!((named.host(), named.ip(), named.socket_addr()), ("web".to_owned(), None, None));
    assert_eq!(named.authority(), "web:80");
    let built = |host| Endpoint::new("grpc", host, 9000).unwrap();
    assert_eq!(built("::1"), endpoint);
    assert_eq!(built("[::1]"), endpoint);
}

#[test]
fn a_malformed_endpoint_is_refused_and_says_why() {
    let label = "x".repeat(64);
    let long = format!("{}x", "a.".repeat(127));
    let not_dns =
        |text: &str| format!("address {:?} has a host that is not a DNS name", &text[..text.len().min(64)]);
    let cases = [
        ("", "endpoint \"\" has no port".to_owned()),
        ("host", "endpoint \"host\" has no port".into()),
        ("grpc://host", "endpoint \"grpc://host\" has no port".into()),
        ("http://", "address \"http://\" has no host".into()),
        ("http://:80", "address \"http://:80\" has no host".into()),
        ("http://h:", "address \"http://h:\" has a port that is not a number".into()),
        ("http://h:0", "address \"http://h:0\" has a port outside 1 to 65535".into()),
        ("http://h:65536", "address \"http://h:65536\" has a port outside 1 to 65535".into()),
        ("http://h:99999999999", "address \"http://h:99999999999\" has a port outside 1 to 65535".into()),
        ("http://h:+80", "address \"http://h:+80\" has a port that is not a number".into()),
        ("http://h:-1", "address \"http://h:-1\" has a port that is not a number".into()),
        ("http://h: 80", "address \"http://h: 80\" has a port that is not a number".into()),
        ("http://h:8o", "address \"http://h:8o\" has a port that is not a number".into()),
        ("http://h:٨٠", "address \"http://h:٨٠\" has a port that is not a number".into()),
        (
            "http://h:80/a",
            "endpoint \"http://h:80/a\" has a path or query; an endpoint is scheme://host:port".into(),
        ),
        (
            "http://h:80//",
            "endpoint \"http://h:80//\" has a path or query; an endpoint is scheme://host:port".into(),
        ),
        (
            "http://h:80?a",
            "endpoint \"http://h:80?a\" has a path or query; an endpoint is scheme://host:port".into(),
        ),
        (
            "http://h:80#a",
            "endpoint \"http://h:80#a\" has a path or query; an endpoint is scheme://host:port".into(),
        ),
        ("http://::1:80", "address \"http://::1:80\" holds an IPv6 address without brackets".into()),
        ("::1", "address \"::1\" holds an IPv6 address without brackets".into()),
        ("http://[::1:80", "address \"http://[::1:80\" opens '[' without closing it".into()),
        ("http://[::1]80", "address \"http://[::1]80\" has text between ']' and the port".into()),
        ("http://[::1]]:80", "address \"http://[::1]]:80\" has text between ']' and the port".into()),
        ("http://[[::1]]:80", "address \"http://[[::1]]:80\" has a malformed IPv6 address".into()),
        ("http://[]:80", "address \"http://[]:80\" has a malformed IPv6 address".into()),
        ("http://[::g]:80", "address \"http://[::g]:80\" has a malformed IPv6 address".into()),
        ("http://[web]:80", "address \"http://[web]:80\" has a malformed IPv6 address".into()),
        ("http://[10.0.0.1]:80", "address \"http://[10.0.0.1]:80\" has a malformed IPv6 address".into()),
        (
            "http://[fe80::1%eth0]:80",
            "address \"http://[fe80::1%eth0]:80\" has a malformed IPv6 address".into(),
        ),
        ("http://10.0.0.256:80", "address \"http://10.0.0.256:80\" has a malformed IPv4 address".into()),
        ("http://10.0.1:80", "address \"http://10.0.1:80\" has a malformed IPv4 address".into()),
        ("http://010.0.0.1:80", "address \"http://010.0.0.1:80\" has a malformed IPv4 address".into()),
        ("http://-a:80", not_dns("http://-a:80")),
        ("http://a-:80", not_dns("http://a-:80")),
        ("http://a..b:80", not_dns("http://a..b:80")),
        ("http://.:80", not_dns("http://.:80")),
        ("http://a b:80", not_dns("http://a b:80")),
        ("http://a%20b:80", not_dns("http://a%20b:80")),
        ("http://bücher:80", "address \"http://bücher:80\" has a host that is not a DNS name".into()),
        ("http://a\0:80", "address \"http://a\\0:80\" has a host that is not a DNS name".into()),
        ("http://a\u{202e}:80", "address \"http://a\\u{202e}:80\" has a host that is not a DNS name".into()),
        (&format!("http://{label}:80"), not_dns(&format!("http://{label}:80"))),
        (&format!("http://{long}:80"), not_dns(&format!("http://{long}:80"))),
        ("://h:80", "endpoint \"://h:80\" has no valid scheme".into()),
        ("1a://h:80", "endpoint \"1a://h:80\" has no valid scheme".into()),
        ("h ttp://h:80", "endpoint \"h ttp://h:80\" has no valid scheme".into()),
        (
            &format!("{}://h:80", "s".repeat(33)),
            format!("endpoint \"{}://h:80\" has no valid scheme", "s".repeat(33)),
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text.parse::<Endpoint>()), message, "{text}");
    }
    assert_eq!(
        refused(Endpoint::new("http", "h", 0)),
        "endpoint \"http://h:0\" has port 0; ports are 1 to 65535"
    );
    assert_eq!(refused(Endpoint::new("", "h", 1)), "endpoint \"://h:1\" has no valid scheme");
    assert_eq!(refused(Endpoint::new("http", "", 1)), "address \"http://:1\" has no host");
    assert_eq!(
        refused(Endpoint::new("http", "h:2", 1)),
        "endpoint \"http://h:2:1\" has a malformed IPv6 address"
    );
}

#[test]
fn credentials_are_refused_without_repeating_them() {
    let texts = [
        "http://me:c4n4ry@h:80",
        "http://me:c4n4ry@h:80/path",
        "me:c4n4ry@x://h:80",
        "http://h:80/@c4n4ry",
        "c4n4ry@h",
    ];
    for text in texts {
        let error = text.parse::<Endpoint>().unwrap_err();
        assert_eq!(error.to_string(), "an endpoint must not hold credentials: scheme://host:port");
        assert!(!format!("{error:?} {error:#}").contains("c4n4ry"));
    }
    let message = refused(Endpoint::new("http", "me:c4n4ry@h", 80));
    assert_eq!(message, "an endpoint must not hold credentials: scheme://host:port");
}
