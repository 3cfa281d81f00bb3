use std::fmt::Write as _;

use registry_core::{ErrorKind, Status};

use super::*;
use crate::nacos::{answer::List, api::Api};

/// Instances as `id`, `id!` unhealthy, `id?` broken, `id?!` both.
fn body(all: &str, is_protected: bool) -> String {
    let entry = |name: &str| {
        let id = name.trim_end_matches(['!', '?']);
        let port = 1000 + u32::from(id.as_bytes()[0]);
        let weight = if name.contains('?') { -1 } else { 1 };
        let healthy = !name.ends_with('!');
        format!(
            r#"{{"ip":"10.0.0.7","port":{port},"weight":{weight},"healthy":{healthy},"metadata":{{"sr.id":"{id}"}}}}"#
        )
    };
    let hosts: Vec<String> = all.split_whitespace().map(entry).collect();
    format!(r#"{{"hosts":[{}],"reachProtectionThreshold":{is_protected}}}"#, hosts.join(","))
}

fn take(lists: &mut Lists, all: &str, is_protected: bool) -> String {
    let body = body(all, is_protected);
    let news = lists.take(&List::parse(Api::V1, body.as_bytes()).unwrap()).unwrap();
    let mut told = String::new();
    for change in &news.changes {
        match change {
            Change::Reset(all) => {
                let ids: Vec<_> = all.iter().map(|instance| instance.id().as_str()).collect();
                write!(told, "={}", ids.join(",")).unwrap();
            }
            Change::Upsert(instance) => write!(told, "+{}", instance.id()).unwrap(),
            Change::Remove(key) => write!(told, "-{}", key.id).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    for key in &news.rejected {
        write!(told, "?{}", key.id).unwrap();
    }
    told
}

fn lists() -> Lists {
    Lists::new(ServiceName::new("orders").unwrap())
}

#[test]
fn the_first_list_is_a_reset_and_the_same_again_is_nothing() {
    let mut lists = lists();
    assert_eq!(take(&mut lists, "", false), "=");
    assert_eq!(take(&mut lists, "", false), "");
    assert_eq!(take(&mut lists, "a b", false), "+a+b");
    assert_eq!(take(&mut lists, "b a", false), "", "in another order");
}

#[test]
fn whoever_is_missing_is_implied_and_whoever_is_unhealthy_is_removed() {
    let mut lists = lists();
    take(&mut lists, "a b c", false);
    assert_eq!(take(&mut lists, "a b! c", false), "-b");
    assert_eq!(take(&mut lists, "a b! c", false), "");
    assert_eq!(take(&mut lists, "a b c", false), "+b");
    assert_eq!(take(&mut lists, "a b", false), "=a,b");
    take(&mut lists, "a b c d", false);
    assert_eq!(take(&mut lists, "a b c!", false), "-c=a,b", "one is removed, and one is missing");
    // Removals of one list come in any order.
    assert_eq!(take(&mut lists, "a! b!", false).len(), "-a-b".len());
    assert_eq!(take(&mut lists, "a! b!", false), "");
}

#[test]
fn a_protected_list_is_taken_at_its_word_whatever_came_before() {
    let mut lists = lists();
    take(&mut lists, "a b c!", false);
    assert_eq!(take(&mut lists, "a b c", true), "=a,b,c", "c is called healthy like everybody");
    assert_eq!(take(&mut lists, "a b c", true), "");
    assert_eq!(take(&mut lists, "a b c d", true), "+d");
    assert_eq!(take(&mut lists, "a b c! d", false), "-c=a,b,d", "c is called unhealthy again");
    assert_eq!(take(&mut lists, "a b c! d", false), "");
}

#[test]
fn a_protected_list_at_the_start_is_all_there_is() {
    let mut lists = lists();
    assert_eq!(take(&mut lists, "a b", true), "=a,b");
    assert_eq!(take(&mut lists, "a b!", false), "-b=a");
}

#[test]
fn a_broken_entry_is_rejected_and_hides_nobody() {
    let mut lists = lists();
    assert_eq!(take(&mut lists, "a b? c", false), "=a,c?b");
    assert_eq!(take(&mut lists, "a b c", false), "+b");
    assert_eq!(take(&mut lists, "a? b c", false), "?a");
}

#[test]
fn a_broken_entry_that_is_deleted_is_gone() {
    let mut lists = lists();
    take(&mut lists, "a b c!", false);
    assert_eq!(take(&mut lists, "a? b c!", false), "?a");
    assert_eq!(take(&mut lists, "b c!", false), "=b", "what was kept of it is not");
    assert_eq!(take(&mut lists, "b", false), "", "nobody had the hidden one");
    take(&mut lists, "b c!", false);
    assert_eq!(take(&mut lists, "b c", false), "+c", "it is shown, and nobody goes");
}

#[test]
fn a_broken_entry_that_nobody_should_use_is_hidden() {
    let mut lists = lists();
    take(&mut lists, "a b c", false);
    assert_eq!(take(&mut lists, "a?! b c", false), "-a");
    assert_eq!(take(&mut lists, "a?! b? c", false), "?b");
    assert_eq!(take(&mut lists, "a? b?! c", false), "-b?a", "what was kept of it is not");
    assert_eq!(take(&mut lists, "a b c", false), "+a+b");
}

#[test]
fn a_first_list_of_any_version_is_read_as_its_entries_are_found() {
    for all in ["", "a", "a b! c?"] {
        let v1 = body(all, true);
        let v2 = format!(r#"{{"code":0,"message":"success","data":{v1}}}"#);
        let hosts = &v1[v1.find('[').unwrap()..=v1.rfind(']').unwrap()];
        let v3 = format!(r#"{{"code":0,"message":"success","data":{hosts}}}"#);
        for (api, body) in [(Api::V1, v1.as_str()), (Api::V2, &v2), (Api::V3, &v3)] {
            let (mut found, mut listed) = (lists(), lists());
            let news = found.take_first(api, body.as_bytes());
            let usual = listed.take(&List::parse(api, body.as_bytes()).unwrap()).unwrap();
            assert_eq!(format!("{news:?}"), format!("{:?}", Some(usual)), "{api:?} {all}");
            assert_eq!(found.is_protected, api != Api::V3);
        }
    }
}

#[test]
fn what_a_list_brings_depends_on_what_it_says_and_not_on_how_its_entries_are_found() {
    let spaced = |all: &str, is_protected| body(all, is_protected).replace("\"hosts\":[", "\"hosts\" : [ ");
    let cut_off = |all: &str, is_protected| body(all, is_protected).replace(']', "");
    let elsewhere =
        |all: &str, is_protected| format!(r#"{{"a":{{"hosts":[7]}},{}"#, &body(all, is_protected)[1..]);
    let mut random = fastrand::Rng::with_seed(7);
    let (mut found, mut read) = (lists(), lists());
    let mut told = 0;
    for _ in 0..2_000 {
        let names = ["a", "b", "c", "d", "e"].map(|name| (name, ["", "", "", "!", "?"][random.usize(..5)]));
        let mut names: Vec<_> = names.iter().map(|(name, mark)| format!("{name}{mark}")).collect();
        names.truncate(random.usize(2..=5));
        if random.u8(..4) == 0 {
            random.shuffle(&mut names);
        }
        let (all, is_protected) = (names.join(" "), random.u8(..8) == 0);
        let body = match random.u8(..6) {
            0 => spaced(&all, is_protected),
            1 => cut_off(&all, is_protected),
            2 => elsewhere(&all, is_protected),
            _ => body(&all, is_protected),
        };
        // The same may be told again.
        for _ in 0..2 {
            let one = found.take_body(Api::V1, body.as_bytes());
            let other = List::parse(Api::V1, body.as_bytes()).and_then(|list| read.take(&list));
            let changes =
                |news: Result<News, Error>| news.map(|news| news.changes).map_err(|error| error.kind());
            let (one, other) = (changes(one), changes(other));
            told += usize::from(one.as_ref().is_ok_and(|changes| !changes.is_empty()));
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "{body}");
        }
    }
    assert!(told > 500, "{told}");
}

#[test]
fn a_malformed_list_teaches_nothing() {
    let mut lists = lists();
    take(&mut lists, "a", false);
    assert!(lists.take(&List::of_info(r#"{"hosts":7}"#).unwrap()).is_err());
    assert_eq!(take(&mut lists, "a b", false), "+b");
}

#[test]
fn what_is_white_space_to_others_than_json_makes_no_list() {
    let entry = body("a", false);
    let entry = &entry[entry.find("[").unwrap() + 1..entry.rfind("]").unwrap()];
    for hosts in [
        // Without the bracket that ends it, save as something else's.
        "\u{c}\u{c} [1,2]".to_owned(),
        format!("[\u{c}{entry}]"),
        format!("[{entry}\u{c}]"),
        format!("[{entry},\u{c}7]"),
        format!("[{entry}]\u{c}"),
    ] {
        let body = match hosts.starts_with('[') {
            true => format!(r#"{{"hosts":{hosts}}}"#),
            false => format!(r#"{{"hosts":[{hosts}}}"#),
        };
        let mut lists = lists();
        assert!(lists.take_first(Api::V1, body.as_bytes()).is_none(), "{body:?}");
        assert_eq!(lists.take_body(Api::V1, body.as_bytes()).unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(take(&mut lists, "a", false), "=a", "nothing was learnt of {body:?}");
        assert!(lists.take_body(Api::V1, body.as_bytes()).is_err(), "{body:?}");
    }
}

#[test]
fn of_two_records_with_one_id_the_later_of_one_life_counts() {
    let entry = |port: u16, by: &str| {
        format!(r#"{{"ip":"10.0.0.7","port":{port},"metadata":{{"sr.id":"a","sr.by":"{by}"}}}}"#)
    };
    let life = "0".repeat(31);
    for (first, second, winner) in [("1/1/1", "1/1/2", 2), ("1/2/1", "1/1/9", 1), ("1/1/1", "2/9/9", 1)] {
        let body = format!(
            r#"{{"hosts":[{},{}]}}"#,
            entry(1, &format!("{life}{first}")),
            entry(2, &format!("{life}{second}"))
        );
        let news = lists().take(&List::of_info(&body).unwrap()).unwrap();
        let [Change::Reset(all)] = &news.changes[..] else { panic!("{news:?}") };
        assert_eq!((all.len(), all[0].endpoint().port(), all[0].status()), (1, winner, Status::Serving));
    }
}

#[test]
fn an_id_at_two_addresses_is_there_while_one_of_them_is_usable() {
    let entry = |port: u16, healthy: bool| {
        format!(r#"{{"ip":"10.0.0.7","port":{port},"healthy":{healthy},"metadata":{{"sr.id":"a"}}}}"#)
    };
    let mut lists = lists();
    let mut news = |hosts: &[String]| {
        let body = format!(r#"{{"hosts":[{}]}}"#, hosts.join(","));
        lists.take(&List::of_info(&body).unwrap()).unwrap()
    };
    news(&[entry(1, true), entry(2, true)]);
    let news = news(&[entry(1, false), entry(2, true)]);
    let [Change::Upsert(other)] = &news.changes[..] else { panic!("{news:?}") };
    assert_eq!(other.endpoint().port(), 2);
}
