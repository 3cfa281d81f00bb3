//! Finding what stands there. These cases run on backends without a `Registry` too.
#![expect(missing_docs, reason = "the names of the cases are sentences")]

use std::time::Duration;

use registry_core::{Instance, InstanceBuilder, InstanceId, Metadata, Status, backend::Change};

use super::{
    Fixture,
    subject::{Subject, endpoint, instance, service, weighing},
};

/// Of a value of metadata.
const LONGEST_VALUE: usize = 4096;
/// What a sign of life may be late by on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

pub async fn a_published_instance_is_found_with_all_its_fields(fixture: &impl Fixture) {
    let full = Instance::builder("orders")
        .id("a1")
        .endpoint("http://10.0.0.7:8080")
        .endpoint("grpc://[2001:db8::7]:9090")
        .endpoint("tcp://host.internal:7")
        .version("2.4.1")
        .zone("z1")
        .group("blue")
        .tag("canary")
        .tag("eu")
        .weight(250)
        .status(Status::Draining)
        .metadata("team", "core")
        .metadata("rack", "17")
        .build()
        .expect("an instance");
    let bare = instance("orders", "a2");
    let all = [full, bare];
    Subject::with_standing(fixture, all.to_vec()).await.finds(&service("orders"), &all).await;
}

pub async fn a_lookup_of_an_unknown_service_is_empty(fixture: &impl Fixture) {
    let subject = Subject::with_standing(fixture, vec![instance("orders", "a1")]).await;
    subject.finds(&service("orders"), &[instance("orders", "a1")]).await;
    assert_eq!(subject.lookup(&service("billing")).await, []);
}

pub async fn a_prefix_of_a_name_is_another_service(fixture: &impl Fixture) {
    let names = ["order", "orders", "orders-2", "orders.eu", "orders2"];
    let standing: Vec<_> = names.iter().map(|name| instance(name, "a1")).collect();
    let subject = Subject::with_standing(fixture, standing).await;
    for name in names {
        subject.finds(&service(name), &[instance(name, "a1")]).await;
    }
    assert_eq!(subject.lookup(&service("ord")).await, []);
    let mut watch = subject.watch(&service("orders"), None);
    watch.opened_as(&subject, |watch| watch.view.len() == 1).await;
}

pub async fn one_id_in_two_services_is_two_instances(fixture: &impl Fixture) {
    let orders = weighing("a1", 1);
    let billing = instance("billing", "a1").to_builder().weight(2).build().expect("an instance");
    let subject = Subject::with_standing(fixture, vec![orders.clone(), billing.clone()]).await;
    subject.finds(&service("orders"), &[orders]).await;
    subject.finds(&service("billing"), &[billing]).await;
}

pub async fn a_batch_of_300_is_published_and_found(fixture: &impl Fixture) {
    let all: Vec<_> = (0..300).map(|n| weighing(&format!("i{n:03}"), n)).collect();
    let subject = Subject::with_standing(fixture, all.clone()).await;
    subject.finds(&service("orders"), &all).await;
    let mut watch = subject.watch(&service("orders"), None);
    watch.opened_as(&subject, |watch| watch.view.len() == 300).await;
}

pub async fn ids_and_metadata_with_unusual_characters_survive(fixture: &impl Fixture) {
    let mut long = "x".repeat(LONGEST_VALUE);
    let ids = ["10.0.0.7:8080", "[::1]:9000", "a/b", "a%2Fb", "a b", "..", "größe", "漢字🦀", "A1", "a1"];
    let names = ["orders", "group@@orders/v1 ü", "..", "Orders"];
    let empty = Subject::open(fixture).await;
    // As long as the registry takes: some have little room beside the rest.
    let fits = |long: &str| {
        let registry = empty.backend.registry.as_ref();
        let all = names.iter().flat_map(|name| ids.iter().map(move |id| strange(name, id, long)));
        registry.is_none_or(|registry| all.into_iter().all(|instance| registry.check(&instance).is_ok()))
    };
    while !fits(&long) {
        assert!(!long.is_empty(), "the registry takes nothing unusual at all");
        long.truncate(long.len() / 2);
    }
    let all = |name: &str| ids.map(|id| strange(name, id, &long)).to_vec();
    let subject = Subject::with_standing(fixture, names.into_iter().flat_map(all).collect()).await;
    for name in names {
        subject.finds(&service(name), &all(name)).await;
        let mut watch = subject.watch(&service(name), None);
        let opening = watch.opened_as(&subject, |watch| watch.view.len() == ids.len()).await;
        let Some(Change::Reset(list)) = opening.changes.first() else { panic!("no reset: {opening:?}") };
        if list.len() < ids.len() {
            // From a cache; what came after it was told by key and weight.
            continue;
        }
        for instance in all(name) {
            assert!(list.iter().any(|listed| **listed == instance), "{} is in the reset", instance.key());
        }
    }
}

fn strange(name: &str, id: &str, long: &str) -> Instance {
    let values = [
        ("empty", ""),
        ("lines", "one\ntwo\r\n\ttab"),
        ("nul", "a\0b"),
        ("quotes", r#""quoted" \ and {"json":1}"#),
        ("scripts", "größe 漢字 🦀 e\u{301}"),
        ("separators", "a=b;c,d&e|f/g%2Fh"),
        ("key with spaces/ü=1", "value"),
        ("long", long),
    ];
    InstanceBuilder::of(service(name))
        .parsed_id(InstanceId::foreign(id).expect("an id"))
        .endpoint(endpoint(id))
        .zone("zone / ü")
        .tag("a,b=c")
        .all_metadata(Metadata::from_pairs(values).expect("metadata"))
        .build()
        .expect("an instance")
}

pub async fn a_watch_opens_with_a_reset(fixture: &impl Fixture) {
    let subject = Subject::with_standing(fixture, vec![weighing("a", 1), weighing("b", 2)]).await;
    for (name, expected) in [("orders", [("a", 1), ("b", 2)].as_slice()), ("billing", &[])] {
        let mut watch = subject.watch(&service(name), None);
        let opening = watch.opened_as(&subject, |watch| watch.is_showing(expected)).await;
        assert!(matches!(opening.changes.first(), Some(Change::Reset(_))), "{name} opens with {opening:?}");
    }
}

pub async fn an_idle_watch_gives_signs_of_life(fixture: &impl Fixture) {
    let subject = Subject::with_standing(fixture, vec![weighing("a", 1)]).await;
    let limit = subject.backend.capabilities.proof_within + SLACK;
    let mut watch = subject.watch(&service("orders"), None);
    watch.opened_as(&subject, |watch| watch.is_showing(&[("a", 1)])).await;
    for _ in 0..2 {
        watch.event(limit).await;
        assert!(watch.is_showing(&[("a", 1)]), "{watch:?}");
    }
}
