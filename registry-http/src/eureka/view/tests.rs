use registry_core::{
    Namespace, ServiceName, Target,
    backend::{Event, Evidence},
};
use serde_json::{Value, json};

use super::*;
use crate::eureka::{config::Address, lists::Lists, names::Names, replica::Fetched};

/// Who asks for `store`, by the vip address `shop`.
fn by_vip() -> View {
    let names = Arc::new(Names::new(&Namespace::default()));
    let target = Target::try_from("store").unwrap().with_qualifier("vip", "shop").unwrap();
    View::new(Wanted::of(&names, Address::Host, &target).unwrap())
}

fn by_app(service: &str) -> View {
    let names = Arc::new(Names::new(&Namespace::default()));
    View::new(Wanted::of(&names, Address::Host, &Target::new(ServiceName::new(service).unwrap())).unwrap())
}

fn item(app: &str, id: &str, action: &str) -> Value {
    json!({"instanceId": id, "hostName": app.to_lowercase(), "app": app, "status": "UP", "vipAddress": "shop",
        "port": {"$": 80, "@enabled": "true"}, "actionType": action})
}

/// One that can't be read.
fn broken(app: &str, id: &str) -> Value {
    let mut item = item(app, id, "MODIFIED");
    item["hostName"] = "no host".into();
    item
}

fn body(items: &[Value]) -> String {
    let apps: Vec<_> = items.iter().map(|item| json!({"name": item["app"], "instance": [item]})).collect();
    json!({"applications": {"apps__hashcode": "", "application": apps}}).to_string()
}

fn replica(items: &[(&str, &str)]) -> Replica {
    let items: Vec<_> = items.iter().map(|(app, id)| item(app, id, "ADDED")).collect();
    Replica::of(Fetched::parse(&body(&items)).unwrap().items)
}

/// `id host` of each, sorted.
fn named(instances: &[Arc<Instance>]) -> Vec<String> {
    let name = |instance: &Arc<Instance>| format!("{} {}", instance.id(), instance.endpoint().host());
    let mut named: Vec<_> = instances.iter().map(name).collect();
    named.sort();
    named
}

/// What a delta tells.
fn delta(view: &mut View, replica: &mut Replica, items: &[Value]) -> Vec<String> {
    let changes = replica.apply(Fetched::parse(&body(items)).unwrap().items);
    let mut event = Event::new(Vec::new(), None, Evidence::default());
    view.apply(&changes, replica, &mut event);
    let told = |change: Change| match change {
        Change::Upsert(instance) => format!("+{} {}", instance.id(), instance.endpoint().host()),
        Change::Remove(key) => format!("-{}", key.id),
        Change::Reset(all) => format!("={}", named(&all).join(", ")),
        other => panic!("{other:?}"),
    };
    let rejected = event.rejected.iter().map(|key| format!("?{}", key.id));
    event.changes.into_iter().map(told).chain(rejected).collect()
}

#[test]
fn of_two_applications_that_share_a_vip_address_and_an_id_both_are_found() {
    let found = by_vip().list(&replica(&[("B", "1"), ("A", "1"), ("A", "2")]));
    assert_eq!(named(&found.instances), ["1 a", "1@B b", "2 a"]);
    assert!(found.instances.iter().all(|instance| instance.service().as_str() == "store"));
}

#[test]
fn a_neighbour_that_comes_and_goes_takes_nobody_along() {
    let mut all = replica(&[("B", "1"), ("B", "2")]);
    let mut view = by_vip();
    assert_eq!(named(&view.list(&all).instances), ["1 b", "2 b"]);
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "ADDED")]), ["=1 a, 1@B b, 2 b"]);
    // Each of both may change.
    assert_eq!(delta(&mut view, &mut all, &[item("B", "1", "MODIFIED")]), ["=1 a, 1@B b, 2 b"]);
    assert_eq!(delta(&mut view, &mut all, &[item("B", "2", "MODIFIED")]), ["+2 b"]);
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "DELETED")]), ["-1@B", "=1 b, 2 b"]);
    assert_eq!(delta(&mut view, &mut all, &[item("B", "1", "DELETED")]), ["-1"]);
    assert_eq!(
        delta(&mut view, &mut all, &[item("B", "2", "DELETED"), item("B", "2", "DELETED")]),
        ["-2", "-2"]
    );
}

#[test]
fn the_one_that_was_called_otherwise_leaves_by_that_name() {
    let mut all = replica(&[("A", "1"), ("B", "1"), ("C", "1")]);
    let mut view = by_vip();
    assert_eq!(named(&view.list(&all).instances), ["1 a", "1@B b", "1@C c"]);
    assert_eq!(delta(&mut view, &mut all, &[item("C", "1", "DELETED")]), ["-1@C", "=1 a, 1@B b"]);
    // It leaves the vip address only.
    let mut moved = item("B", "1", "MODIFIED");
    moved["vipAddress"] = "elsewhere".into();
    assert_eq!(delta(&mut view, &mut all, &[moved]), ["-1@B", "=1 a"]);
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "MODIFIED")]), ["+1 a"]);
}

#[test]
fn a_list_after_deltas_knows_who_is_alone_again() {
    let mut all = replica(&[("A", "1")]);
    let mut view = by_vip();
    view.list(&all);
    delta(&mut view, &mut all, &[item("B", "1", "ADDED")]);
    // The list lacks what no delta took away.
    let found = view.list(&replica(&[("A", "1")]));
    assert_eq!(named(&found.instances), ["1 a"]);
    assert!(found.renamed.is_empty(), "it went, and isn't called otherwise");
    let mut event = Event::new(Vec::new(), None, Evidence::default());
    view.reset(&[], &replica(&[("B", "1")]), &mut event);
    assert_eq!(event.changes.len(), 1, "{event:?}");
    assert_eq!(view.holders.by_id.len(), 1);
}

#[test]
fn one_of_ours_keeps_its_id_before_a_foreign_one_of_its_application() {
    let ours = Instance::builder("orders").id("a1").endpoint("http://10.0.0.7:80").build().unwrap();
    let names = Names::new(&Namespace::default());
    let version = registry_core::model::RecordVersion {
        incarnation: registry_core::Incarnation::from_bits(1),
        epoch: 1,
        sequence: 1,
    };
    let marks = codec::Marks { version, dirty: 1, ttl: std::time::Duration::from_secs(30) };
    let ours: Value = serde_json::from_slice(&codec::encode(&names, &ours, &marks).unwrap()).unwrap();
    let both = [item("ORDERS", "a1", "ADDED"), ours["instance"].clone()];
    let apps = json!([{"name": "ORDERS", "instance": both}]);
    let body = json!({"applications": {"apps__hashcode": "UP_2_", "application": apps}}).to_string();
    let found = by_app("orders").list(&Replica::of(Fetched::parse(&body).unwrap().items));
    assert_eq!(named(&found.instances), ["a1 10.0.0.7", "a1@ORDERS orders"]);
}

#[test]
fn whoever_can_t_be_called_otherwise_is_left_out_and_takes_no_other_s_place() {
    let found = by_vip().list(&replica(&[("A", "1"), ("B", "1"), ("C", "1@B")]));
    assert_eq!(named(&found.instances), ["1 a", "1@B c"]);
}

fn items(items: &[Value]) -> Replica {
    Replica::of(Fetched::parse(&body(items)).unwrap().items)
}

fn ids(keys: &[InstanceKey]) -> Vec<&str> {
    keys.iter().map(|key| key.id.as_str()).collect()
}

#[test]
fn a_neighbour_that_was_never_read_goes_without_taking_anybody_along() {
    let mut all = items(&[item("A", "1", "ADDED"), broken("B", "1")]);
    let mut view = by_vip();
    let found = view.list(&all);
    assert_eq!((named(&found.instances), found.rejected.len()), (vec!["1 a".to_owned()], 0));
    assert!(delta(&mut view, &mut all, &[broken("B", "1")]).is_empty(), "the key is another's");
    assert!(delta(&mut view, &mut all, &[item("B", "1", "DELETED")]).is_empty());
    assert_eq!(delta(&mut view, &mut all, &[broken("A", "1")]), ["?1"]);
    assert_eq!(delta(&mut view, &mut all, &[broken("A", "1")]), ["?1"]);
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "DELETED")]), ["-1"]);
}

#[test]
fn the_one_that_is_called_otherwise_is_kept_by_that_name_when_it_turns_malformed() {
    let mut view = by_vip();
    let mut all = replica(&[("A", "1"), ("B", "1")]);
    view.list(&all);
    assert_eq!(delta(&mut view, &mut all, &[broken("B", "1")]), ["=1 a", "?1@B"]);
    assert_eq!(delta(&mut view, &mut all, &[item("B", "1", "MODIFIED")]), ["=1 a, 1@B b"]);
    // By lists as well, with and without deltas between them.
    for _ in 0..2 {
        let found = view.list(&items(&[item("A", "1", "ADDED"), broken("B", "1")]));
        assert_eq!((named(&found.instances), ids(&found.rejected)), (vec!["1 a".to_owned()], vec!["1@B"]));
        assert!(found.renamed.is_empty());
    }
    let mut all = items(&[item("A", "1", "ADDED"), broken("B", "1")]);
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "DELETED")]), ["-1"], "its name stays");
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "ADDED")]), ["+1 a"]);
    assert_eq!(ids(&view.list(&all).rejected), ["1@B"]);
    // Nobody else is called so, and it goes by that name.
    assert_eq!(delta(&mut view, &mut all, &[item("C", "1@B", "ADDED")]), ["=1 a, 1@B@C c", "?1@B"]);
    assert_eq!(delta(&mut view, &mut all, &[item("C", "1@B", "DELETED")]), ["-1@B@C", "=1 a", "?1@B"]);
    let (mut gone, mut left) = (by_vip(), all.clone());
    assert_eq!(ids(&gone.list(&left).rejected).len(), 0, "who never read it knows no name of it");
    assert!(delta(&mut gone, &mut left, &[item("B", "1", "DELETED")]).is_empty());
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "DELETED")]), ["-1"]);
    let found = view.list(&replica(&[("B", "1")]));
    assert_eq!((named(&found.instances), ids(&found.renamed)), (vec!["1 b".to_owned()], vec!["1@B"]));
    let mut all = replica(&[("A", "1"), ("B", "1")]);
    view.list(&all);
    delta(&mut view, &mut all, &[broken("B", "1")]);
    assert_eq!(delta(&mut view, &mut all, &[item("B", "1", "DELETED")]), ["-1@B"]);
}

#[test]
fn nobody_takes_over_the_key_of_one_that_turned_malformed() {
    let mut view = by_vip();
    let mut all = replica(&[("A", "1"), ("B", "1")]);
    view.list(&all);
    assert_eq!(delta(&mut view, &mut all, &[broken("A", "1")]), ["=1@B b", "?1"]);
    assert_eq!(delta(&mut view, &mut all, &[item("0", "1", "ADDED")]), ["=1@0 0, 1@B b", "?1"]);
    assert_eq!(delta(&mut view, &mut all, &[item("0", "1", "DELETED")]), ["-1@0", "=1@B b", "?1"]);
    for _ in 0..2 {
        let found = view.list(&all);
        assert_eq!((named(&found.instances), ids(&found.rejected)), (vec!["1@B b".to_owned()], vec!["1"]));
    }
    assert_eq!(delta(&mut view, &mut all, &[item("A", "1", "DELETED")]), ["-1@B", "=1 b"]);
    let found = view.list(&items(&[item("A", "2", "ADDED"), broken("B", "1")]));
    assert_eq!((named(&found.instances), ids(&found.rejected)), (vec!["2 a".to_owned()], vec!["1"]));
}

#[test]
fn of_a_thousand_of_which_one_changed_one_is_decoded() {
    let list = |changed: u64, beat: u64| {
        let item = |n: u64| {
            let version = if n == 7 { changed } else { 0 };
            json!({"instanceId": format!("i{n}"), "hostName": "h", "app": "ORDERS", "status": "UP",
                "port": {"$": 80, "@enabled": "true"}, "metadata": {"version": version.to_string()},
                "leaseInfo": {"registrationTimestamp": 7, "lastRenewalTimestamp": beat + n}})
        };
        let items: Vec<_> = (0..1000).map(item).collect();
        let apps = json!([{"name": "ORDERS", "instance": items}]);
        json!({"applications": {"apps__hashcode": "UP_1000_", "application": apps}}).to_string()
    };
    let (mut lists, mut view) = (Lists::new(), by_app("orders"));
    let mut look = |body: &str| {
        let list = lists.read(body).unwrap().unwrap();
        (list.decoded, view.list(&Replica::of(list.items)).instances)
    };
    let (decoded, before) = look(&list(0, 1_000));
    assert_eq!((decoded, before.len()), (1000, 1000));
    let (decoded, after) = look(&list(1, 31_000));
    let kept = after.iter().filter(|now| before.iter().any(|then| Arc::ptr_eq(then, now))).count();
    assert_eq!((decoded, after.len(), kept), (1, 1000, 999));
    assert_eq!(after.iter().filter(|instance| instance.version() == Some("1")).count(), 1);
}

#[test]
fn a_list_that_differs_by_what_some_say_tells_those_and_any_other_tells_all() {
    let mut lists = Lists::new();
    let mut view = by_vip();
    let mut all = Replica::default();
    let weighing = |app: &str, id: &str, weight: u32| {
        let mut item = item(app, id, "ADDED");
        item["metadata"] = json!({"weight": weight.to_string()});
        item
    };
    let mut tell = |items: &[Value]| {
        all = all.next(lists.read(&body(items)).unwrap().expect("another body").items);
        let mut event = Event::new(Vec::new(), None, Evidence::default());
        view.reset(&[], &all, &mut event);
        let told = |change: &Change| match change {
            Change::Upsert(instance) => format!("+{} {}", instance.id(), instance.weight()),
            Change::Reset(all) => format!("={}", named(all).join(", ")),
            other => panic!("{other:?}"),
        };
        let rejected = event.rejected.iter().map(|key| format!("?{}", key.id));
        event.changes.iter().map(told).chain(rejected).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(tell(&[weighing("A", "1", 1), weighing("A", "2", 1)]), "=1 a, 2 a");
    assert_eq!(tell(&[weighing("A", "1", 1), weighing("A", "2", 7)]), "+2 7");
    assert_eq!(tell(&[weighing("A", "1", 8), weighing("A", "2", 9)]), "+1 8 +2 9");
    assert_eq!(
        tell(&[weighing("A", "2", 9), weighing("A", "1", 8)]),
        "=1 a, 2 a",
        "nothing new is told again"
    );
    assert_eq!(
        tell(&[weighing("A", "2", 9), weighing("A", "3", 8)]),
        "=2 a, 3 a",
        "another came and one went"
    );
    assert_eq!(tell(&[weighing("A", "2", 9)]), "=2 a");
    assert_eq!(tell(&[weighing("A", "2", 9), weighing("B", "2", 1)]), "=2 a, 2@B b");
    assert_eq!(
        tell(&[weighing("A", "2", 8), weighing("B", "2", 1)]),
        "=2 a, 2@B b",
        "one is called otherwise"
    );
    assert_eq!(tell(&[weighing("A", "2", 7)]), "=2 a");
    assert_eq!(tell(&[broken("A", "2")]), "= ?2");
    assert_eq!(tell(&[weighing("A", "2", 6)]), "=2 a", "it can be read again");
}
