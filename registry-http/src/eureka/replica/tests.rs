use super::*;

const A: &str = "a:8761";

fn entry(id: &str, status: &str, registered: u64, action: &str) -> String {
    format!(
        r#"{{"instanceId":"{id}","app":"ORDERS","status":"{status}","vipAddress":"orders,ORDERS-v2",
            "leaseInfo":{{"registrationTimestamp":{registered}}},"actionType":"{action}"}}"#
    )
}

fn list(entries: &[String]) -> Fetched {
    let body = format!(
        r#"{{"applications":{{"apps__hashcode":"X","application":[{{"name":"Orders","instance":[{}]}}]}}}}"#,
        entries.join(",")
    );
    Fetched::parse(&body).unwrap()
}

fn replica(entries: &[(&str, u64)]) -> Replica {
    let entries: Vec<_> = entries.iter().map(|(id, at)| entry(id, "UP", *at, "ADDED")).collect();
    Replica::of(list(&entries).items)
}

fn ids(replica: &Replica) -> Vec<&str> {
    let mut ids: Vec<_> = replica.app("ORDERS").map(|record| &*record.id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn the_hash_counts_each_status_by_name() {
    assert_eq!(Replica::default().hash(), "");
    let entries = [
        ("a", "UP"),
        ("b", "DOWN"),
        ("c", "UP"),
        ("d", "OUT_OF_SERVICE"),
        ("e", "SLEEPY"),
        ("f", "STARTING"),
    ];
    let entries: Vec<_> = entries.iter().map(|(id, status)| entry(id, status, 1, "ADDED")).collect();
    let hash = Replica::of(list(&entries).items).hash();
    assert_eq!(hash, "DOWN_1_OUT_OF_SERVICE_1_STARTING_1_UNKNOWN_1_UP_2_");
}

#[test]
fn a_delta_adds_modifies_and_deletes_and_may_say_it_twice() {
    let mut replica = replica(&[("a", 1), ("b", 1)]);
    let delta =
        [entry("b", "DOWN", 1, "MODIFIED"), entry("c", "UP", 2, "ADDED"), entry("a", "UP", 1, "DELETED")];
    for round in 0..2 {
        let changes = replica.apply(list(&delta).items);
        assert_eq!(changes.len(), 3, "each time, for those who learnt otherwise");
        let Change::Put { new, old } = &changes[0] else { panic!("{changes:?}") };
        assert_eq!((new.status, old.as_ref().unwrap().status), ("DOWN", ["UP", "DOWN"][round]));
        assert!(matches!(&changes[2], Change::Gone(record) if &*record.id == "a"));
        assert_eq!((ids(&replica), &*replica.hash()), (vec!["b", "c"], "DOWN_1_UP_1_"));
    }
}

#[test]
fn an_application_without_instances_is_gone() {
    let mut replica = replica(&[("a", 1)]);
    replica.apply(list(&[entry("a", "UP", 1, "DELETED")]).items);
    assert!(replica.apps.is_empty());
}

#[test]
fn an_entry_that_is_no_instance_hides_no_other() {
    let fetched = list(&["7".to_owned(), entry("a", "UP", 1, "ADDED"), "{\"status\":\"UP\"}".to_owned()]);
    let replica = Replica::of(fetched.items);
    assert_eq!((ids(&replica), &*replica.hash()), (vec!["", "a"], "UP_2_"), "one without an id counts");
}

#[test]
fn a_vip_address_is_one_of_several_in_any_case() {
    let replica = replica(&[("a", 1)]);
    let record = replica.records().next().unwrap();
    assert!(record.has_vip("Orders-V2", false) && record.has_vip("orders", false));
    assert!(!record.has_vip("orders-v", false) && !record.has_vip("orders", true));
}

#[test]
fn a_memory_goes_on_while_one_registration_has_its_time() {
    let mut continuity = Continuity::default();
    let source = continuity.judge(&A.into(), &replica(&[("a", 1), ("b", 2)]));
    for next in [vec![("b", 2), ("c", 3)], vec![("a", 4), ("c", 3)], vec![("c", 3)]] {
        assert_eq!(continuity.judge(&A.into(), &replica(&next)), source, "{next:?}");
    }
    let anew = continuity.judge(&A.into(), &replica(&[("a", 5), ("c", 6)]));
    assert_ne!(anew, source, "all of them came anew");
    assert_eq!(continuity.source_of(A), Some(anew));
}

#[test]
fn an_empty_memory_is_not_the_one_that_had_something() {
    let mut continuity = Continuity::default();
    let source = continuity.judge(&A.into(), &replica(&[("a", 1)]));
    let empty = continuity.judge(&A.into(), &Replica::default());
    assert_ne!(empty, source);
    assert_eq!(continuity.judge(&A.into(), &replica(&[("a", 2)])), empty, "it fills again");
}

#[test]
fn two_lives_that_look_alike_are_told_apart() {
    let mut continuity = Continuity::default();
    let mut before = continuity.judge(&A.into(), &Replica::default());
    for at in 1..4 {
        continuity.judge(&A.into(), &replica(&[("a", at)]));
        let now = continuity.judge(&A.into(), &Replica::default());
        assert_ne!(now, before);
        before = now;
    }
}

#[test]
fn another_server_is_another_memory() {
    let mut continuity = Continuity::default();
    assert_eq!(continuity.source_of(A), None);
    let one = continuity.judge(&A.into(), &replica(&[("a", 1)]));
    assert_ne!(continuity.source_of("b:8761"), Some(one.clone()));
    assert_ne!(continuity.judge(&"b:8761".into(), &replica(&[("a", 1)])), one);
}

#[test]
fn a_large_memory_is_recognised_by_a_sample() {
    let many = |from: u64| -> Vec<String> {
        (from..from + 3000).map(|n| entry(&format!("i{n}"), "UP", n + 1, "ADDED")).collect()
    };
    let mut continuity = Continuity::default();
    let source = continuity.judge(&A.into(), &Replica::of(list(&many(0)).items));
    assert_eq!(continuity.judge(&A.into(), &Replica::of(list(&many(1500)).items)), source);
    assert_ne!(continuity.judge(&A.into(), &Replica::of(list(&many(9000)).items)), source);
}
