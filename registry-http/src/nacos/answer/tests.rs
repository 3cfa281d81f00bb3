use super::*;

/// Of 2.5.0 and 3.1.0.
const V1: &str = r#"{"name":"DEFAULT_GROUP@@orders","groupName":"DEFAULT_GROUP","clusters":"","cacheMillis":10000,"hosts":[{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}],"lastRefTime":1795269130214,"checksum":"","allIPs":false,"reachProtectionThreshold":true,"valid":true}"#;
const V3: &str = r#"{"code":0,"message":"success","data":[{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]}"#;

#[test]
fn lists_of_all_versions_are_split_into_their_entries() {
    let v2 = format!(r#"{{"code":0,"message":"success","data":{V1}}}"#);
    for (api, body, is_protected) in [(Api::V1, V1, true), (Api::V2, &*v2, true), (Api::V3, V3, false)] {
        let list = List::parse(api, body.as_bytes()).unwrap();
        let entries = list.entries().unwrap();
        assert_eq!(entries, [br#"{"ip":"10.0.0.1"}"#, br#"{"ip":"10.0.0.2"}"#], "{api:?}");
        assert_eq!(list.is_protected, is_protected, "{api:?}");
    }
}

#[test]
fn a_list_without_hosts_is_empty() {
    for (api, body) in [
        (Api::V1, r#"{"name":"a","hosts":[]}"#),
        (Api::V1, r#"{"name":"a","hosts":null}"#),
        (Api::V2, r#"{"code":0,"data":{"hosts":null}}"#),
        (Api::V3, r#"{"code":0,"data":[]}"#),
    ] {
        let list = List::parse(api, body.as_bytes());
        assert!(list.is_ok_and(|list| list.entries().unwrap().is_empty()), "{body}");
    }
}

#[test]
fn two_answers_that_differ_by_their_time_only_have_the_same_bytes() {
    let later = V1.replace("1795269130214", "1795269130999");
    let bytes = |body: &str| List::parse(Api::V1, body.as_bytes()).unwrap().bytes().to_vec();
    assert_eq!(bytes(V1), bytes(&later));
    assert_ne!(bytes(V1), bytes(&V1.replace("10.0.0.2", "10.0.0.3")));
}

#[test]
fn truncated_and_foreign_bodies_are_protocol_errors() {
    for (api, body) in [
        (Api::V1, &V1[..V1.len() / 2]),
        (Api::V1, "ok"),
        (Api::V1, ""),
        (Api::V1, r#"{"hosts":7}"#),
        (Api::V1, r#"{"name":"a"}"#),
        (Api::V1, r#"{"name":"gw","status":"UP"}"#),
        (Api::V2, r#"{"code":0,"data":{"name":"gw","status":"UP"}}"#),
        (Api::V2, V3),
        (Api::V3, V1),
        (Api::V3, r#"{"code":0,"data":{"hosts":[]}}"#),
        (Api::V3, r#"{"code":0,"data":null}"#),
        (Api::V3, "<html>"),
    ] {
        let error = List::parse(api, body.as_bytes()).and_then(|list| list.entries().map(|_| ()));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Protocol, "{api:?} {body}");
    }
    let error = List::parse(Api::V3, br#"{"code":10001,"message":"access denied","data":null}"#).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn beats_of_all_versions_tell_alive_from_unknown_from_refused() {
    let said = |api, body: &str| beat(api, body.as_bytes());
    let v1 = r#"{"clientBeatInterval":5000,"code":10200,"lightBeatEnabled":true}"#;
    let alive = Beaten::Alive { next: Some(5000) };
    assert_eq!(said(Api::V1, v1).unwrap(), Ok(alive));
    assert_eq!(said(Api::V2, v1).unwrap(), Ok(alive));
    assert_eq!(said(Api::V1, r#"{"clientBeatInterval":5000}"#).unwrap(), Ok(alive));
    assert_eq!(said(Api::V1, &v1.replace("10200", "20404")).unwrap(), Ok(Beaten::Unknown));
    let v3 = r#"{"code":0,"message":"success","data":"ok"}"#;
    assert_eq!(said(Api::V3, v3).unwrap(), Ok(Beaten::Alive { next: None }));
    let unknown = r#"{"code":21003,"message":"instance not found","data":null}"#;
    assert_eq!(said(Api::V3, unknown).unwrap(), Ok(Beaten::Unknown));
    let refused =
        said(Api::V3, r#"{"code":30000,"message":"server error","data":"oops"}"#).unwrap().unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (30000, "server error: \"oops\""));
    assert_eq!(said(Api::V1, "ok").unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn a_refused_write_is_no_success_whatever_its_status() {
    assert_eq!(refusal(Api::V1, b"ok").unwrap(), None);
    assert_eq!(refusal(Api::V3, br#"{"code":0,"message":"success","data":"ok"}"#).unwrap(), None);
    let refused =
        refusal(Api::V3, br#"{"code":21001,"message":"weight error","data":null}"#).unwrap().unwrap();
    assert_eq!((refused.code, refused.message.as_str()), (21001, "weight error"));
    assert_eq!(refusal(Api::V3, b"ok").unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn what_the_first_version_does_not_answer_with_ok_is_no_success() {
    assert_eq!(refusal(Api::V1, b" ok\n").unwrap(), None);
    for body in [&b""[..], b"<html>a proxy</html>", br#"{"code":500,"message":"no"}"#, b"ok?", b"\xff"] {
        assert_eq!(refusal(Api::V1, body).unwrap_err().kind(), ErrorKind::Protocol, "{body:?}");
    }
}
