use std::time::Duration;

use super::*;
use crate::ErrorKind;

/// Stands in every place where a secret may stand, and must come out of none.
const CANARY: &str = "c4n4ry";

fn url(text: &str) -> RegistryUrl {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refusal(text: &str) -> String {
    let error = text.parse::<RegistryUrl>().expect_err(text);
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
    error.to_string()
}

fn authorities(url: &RegistryUrl) -> Vec<String> {
    url.hosts().iter().map(|host| host.authority(2379)).collect()
}

#[test]
fn every_part_is_read() {
    let url = url(
        "ETCD+TLS://us%65r:p%40ss%3A%2F@10.0.0.1:2379,[fd00::1]:1,[::1],etcd.example/prod/e%20u?ttl=15s&a=b%26c",
    );
    assert_eq!(url.scheme(), "etcd+tls");
    assert!(url.is_tls());
    let credential = url.credential().unwrap();
    assert_eq!((credential.user.as_deref(), credential.secret.expose()), (Some("user"), "p@ss:/"));
    assert_eq!(authorities(&url), ["10.0.0.1:2379", "[fd00::1]:1", "[::1]:2379", "etcd.example:2379"]);
    assert_eq!(url.hosts()[2].port(), None);
    assert_eq!(url.hosts()[1].host(), "fd00::1");
    assert_eq!(url.path(), ["prod", "e u"]);
    assert_eq!(url.options().collect::<Vec<_>>(), [("ttl", "15s"), ("a", "b&c")]);
    assert_eq!(url.option("ttl"), Some("15s"));
    assert_eq!(url.option("none"), None);
}

#[test]
fn parts_can_be_missing() {
    let url = url("memory://");
    assert_eq!((url.scheme(), url.hosts().len(), url.path().len(), url.options().len()), ("memory", 0, 0, 0));
    assert!(url.credential().is_none() && url.user().is_none() && !url.is_tls());
    assert_eq!(self::url("memory:///prod//eu/").path(), ["prod", "eu"], "empty segments are skipped");
    assert_eq!(self::url("etcd://h?").options().len(), 0);
    assert_eq!(self::url("etcd://h?&a=1&&b=&").options().collect::<Vec<_>>(), [("a", "1"), ("b", "")]);
    assert_eq!(self::url("etcd://h?a=b=c").option("a"), Some("b=c"));
    assert_eq!(self::url("etcd://h/a+b?c=d+e").option("c"), Some("d+e"), "a plus is a plus");
}

#[test]
fn user_info_is_a_user_a_password_or_a_token() {
    let both = |text: &str| {
        let url = url(text);
        let secret = url.credential().map(|c| c.secret.expose().to_owned());
        (url.user().map(str::to_owned), secret)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(both("etcd://me@h"), (some("me"), None));
    assert_eq!(both("etcd://me:pw@h"), (some("me"), some("pw")));
    assert_eq!(both("etcd://me:p:w@h"), (some("me"), some("p:w")));
    assert_eq!(both("etcd://me:p@w@h"), (some("me"), some("p@w")), "the last '@' ends it");
    assert_eq!(both("etcd://me:@h"), (some("me"), some("")));
    assert_eq!(both("consul://:token@h"), (None, some("token")));
    assert_eq!(both("etcd://@h"), (None, None));
}

#[test]
fn a_malformed_url_is_refused_and_says_why() {
    let expected = "expected for example etcd://10.0.0.1:2379/prod";
    let cases = [
        ("", format!("the registry URL has no scheme; {expected}")),
        ("10.0.0.1:2379", format!("the registry URL has no scheme; {expected}")),
        ("etcd:/h", format!("the registry URL has no scheme; {expected}")),
        ("://h", "the registry URL has a malformed scheme".into()),
        ("1etcd://h", "the registry URL has a malformed scheme".into()),
        ("et cd://h", "the registry URL has a malformed scheme".into()),
        ("étcd://h", "the registry URL has a malformed scheme".into()),
        ("etcd://h/a#b", "the registry URL has a fragment; write '#' as %23".into()),
        ("etcd://,", "address \"\" has no host".into()),
        ("etcd://a,,b", "address \"\" has no host".into()),
        ("etcd://:2379", "address \":…\" has no host".into()),
        ("etcd://h:", "address \"h:…\" has a port that is not a number".into()),
        ("etcd://h:0", "address \"h:…\" has a port outside 1 to 65535".into()),
        ("etcd://h:65536", "address \"h:…\" has a port outside 1 to 65535".into()),
        ("etcd://h:+80", "address \"h:…\" has a port that is not a number".into()),
        ("etcd://h:8o", "address \"h:…\" has a port that is not a number".into()),
        ("etcd://::1", "address \":…\" holds an IPv6 address without brackets".into()),
        ("etcd://[::1:80", "address \"[::1:80\" opens '[' without closing it".into()),
        ("etcd://[::1]80", "address \"[::1]80\" has text between ']' and the port".into()),
        ("etcd://[::g]:80", "address \"[::g]:80\" has a malformed IPv6 address".into()),
        ("etcd://[10.0.0.1]:80", "address \"[10.0.0.1]:80\" has a malformed IPv6 address".into()),
        ("etcd://a%3Ab", "the registry URL has a malformed IPv6 address".into()),
        ("etcd://a_b-:1", "address \"a_b-:…\" has a host that is not a DNS name".into()),
        ("etcd://a b", "address \"a b\" has a host that is not a DNS name".into()),
        ("etcd://10.0.0.256", "address \"10.0.0.256\" has a malformed IPv4 address".into()),
        ("etcd://h/%", "the path of the registry URL has a '%' without two hexadecimal digits".into()),
        ("etcd://h/%4", "the path of the registry URL has a '%' without two hexadecimal digits".into()),
        ("etcd://h/%zz", "the path of the registry URL has a '%' without two hexadecimal digits".into()),
        ("etcd://h/%ff", "the path of the registry URL is not UTF-8 once decoded".into()),
        ("etcd://h/a%00b", "the path of the registry URL holds a control character".into()),
        ("etcd://h/a%E2%80%AEb", "the path of the registry URL holds a control character".into()),
        ("etcd://h?a=%0A", "the option of the registry URL holds a control character".into()),
        (
            "etcd://u%:p@h",
            "the user name of the registry URL has a '%' without two hexadecimal digits".into(),
        ),
        ("etcd://u:%ff@h", "the password of the registry URL is not UTF-8 once decoded".into()),
        ("etcd://h%/", "the host of the registry URL has a '%' without two hexadecimal digits".into()),
        ("etcd://h?a=1&b", "the registry URL has no value for its option number 2".into()),
        ("etcd://h?a=1&%61=2", "option \"a\" of the registry URL is given twice".into()),
        (&format!("etcd://{}", "h".repeat(8192)), "the registry URL is longer than 8192 bytes".into()),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message, "{text}");
    }
}

#[test]
fn an_unknown_option_is_answered_with_the_valid_ones() {
    let url = url("etcd://h?ttl=1s&tll=2s");
    url.check_options(&["ttl", "tll"]).unwrap();
    let error = url.check_options(&["ttl", "dialect", "keepalive"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        error.to_string(),
        "unknown option \"tll\" in the etcd URL; valid options are dialect, keepalive, ttl"
    );
}

#[test]
fn a_typed_option_that_does_not_parse_names_itself_and_not_its_value() {
    let url = url(&format!("etcd://h?ttl=15s&long=1m%2030s&yes=true&n=7&bad={CANARY}"));
    assert_eq!(url.duration_option("ttl").unwrap(), Some(Duration::from_secs(15)));
    assert_eq!(url.duration_option("long").unwrap(), Some(Duration::from_secs(90)));
    assert_eq!(url.duration_option("none").unwrap(), None);
    assert_eq!(url.bool_option("yes").unwrap(), Some(true));
    assert_eq!(url.parsed_option::<u16>("n", "a port").unwrap(), Some(7));
    assert_eq!(
        url.duration_option("bad").unwrap_err().to_string(),
        "option \"bad\" of the registry URL must be a duration such as 15s or 500ms"
    );
    assert_eq!(
        url.bool_option("bad").unwrap_err().to_string(),
        "option \"bad\" of the registry URL must be true or false"
    );
    assert_eq!(
        url.parsed_option::<u16>("bad", "a port").unwrap_err().to_string(),
        "option \"bad\" of the registry URL must be a port"
    );
}

#[test]
fn a_duration_needs_a_unit_and_must_fit() {
    for value in ["", "15", "-1s", "1.5.5s", "s", "1x", "99999999999999999999s", "1e9s", "NaN"] {
        let url = url(&format!("etcd://h?ttl={value}"));
        assert!(url.duration_option("ttl").is_err(), "{value:?} is no duration");
    }
}

#[test]
fn display_shows_what_is_no_secret() {
    let shown = |text: &str| {
        let url = url(text);
        assert_eq!(format!("{url:?}"), url.to_string());
        url.to_string()
    };
    assert_eq!(
        shown("etcd+tls://me:pw@10.0.0.1:1,[::1]:2,[::2],h/prod/eu?ttl=15s&token=x"),
        "etcd+tls://me:[redacted]@10.0.0.1:1,[::1]:2,[::2],h/prod/eu?ttl=…&token=…"
    );
    assert_eq!(shown("consul://token@h"), "consul://[redacted]@h");
    assert_eq!(shown("consul://:token@h"), "consul://:[redacted]@h");
    assert_eq!(shown("memory:///prod"), "memory:///prod");
}

#[test]
fn no_output_ever_holds_a_secret() {
    let secrets = [
        "etcd://me:{}@h:1",
        "etcd://me:{}@h:1/a/b?x=1",
        "etcd://{}@h:1",
        "etcd://:{}@h:1",
        "etcd://me:x{}@h:1",
        "etcd://me:{}%zz@h:1",
        "etcd://me:{}%ff@h:1",
        "etcd://me:{}%00@h:1",
        "etcd://me:{}@h:0",
        "etcd://me:{}@@h:1",
        "etcd://me:{}@ho st",
        "etcd://me:a,{}@h:1",
        // Characters that had to be encoded: what follows them looks like another part.
        "etcd://me:{}/b@h:1",
        "etcd://me:a/{}@h:1",
        "etcd://me:12/{}@h:1",
        "etcd://me:{}?b@h:1",
        "etcd://me:a?{}@h:1",
        "etcd://me:12?{}@h:1",
        "etcd://me:12?a={}@h:1",
        "etcd://me:12?{}=a@h:1",
        "etcd://me:{}#b@h:1",
        "etcd://me:a#{}@h:1",
        "etcd://h?token={}",
        "etcd://h?token=a&{}",
        "etcd://h?token={}%zz",
        "etcd://h?token={}&token=b",
        "etcd:/me:{}@h",
        "etcd:me:{}@h",
        "me:{}@h://x",
    ];
    for pattern in secrets {
        let text = pattern.replace("{}", CANARY);
        let shown = match text.parse::<RegistryUrl>() {
            Ok(url) => {
                let refused = url.check_options(&[]).err();
                format!("{url} {url:?} {:?} {refused:?}", url.credential())
            }
            Err(error) => format!("{error} {error:#} {error:?}"),
        };
        assert!(!shown.contains(CANARY), "{text} shows {shown}");
    }
}

#[test]
fn an_at_sign_after_the_hosts_must_be_encoded() {
    let message =
        "the registry URL has '@' after its hosts; write '@', '/', '?' and '#' as %40, %2F, %3F and %23";
    assert_eq!(refusal("etcd://me:a/b@h"), message);
    assert_eq!(refusal("etcd://me:a?b@h"), message);
    assert_eq!(url("etcd://h/a%40b?user=me%40corp").option("user"), Some("me@corp"));
}

#[test]
fn a_forgotten_host_does_not_show_the_password_that_stands_in_its_place() {
    for text in ["etcd://me:s3cret", "etcd://me:s3cret:10.0.0.1:2379", "etcd://h,me:s3cret"] {
        let message = refusal(text);
        assert!(!message.contains("s3cret"), "{message}");
    }
    assert!(refusal("etcd://me:p@10.0.0.1:port").contains("10.0.0.1:port"), "what follows an '@' is a host");
}
