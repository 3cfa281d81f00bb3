//! What operators do: disable instances, raise the protection threshold.

use std::time::Duration;

use futures_util::StreamExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::{Client, ClientConfig, Phase, RegistrationEvent, Status, backend::Presence};
use registry_http::nacos::NacosConnector;
use registry_testkit::{Nacos, NacosLine, eventually};

use super::support::{LINES, Node, View, connect, connect_to, instance, shared};

const SOON: Duration = Duration::from_secs(15);

/// Sets something of an instance or a service, as the console does.
async fn operate(nacos: &Nacos, node: &Node, what: &str, set: &str) {
    let root = match nacos.line() {
        NacosLine::V2 => "/nacos/v1/ns",
        _ => "/nacos/v3/admin/ns",
    };
    let path = format!(
        "{root}/{what}?namespaceId={}&groupName=DEFAULT_GROUP&serviceName=orders&{set}",
        node.namespace
    );
    nacos.api().put(&path, "").await.unwrap().success().unwrap();
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn an_instance_that_an_operator_disables_stays_away_whatever_is_registered() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "?poll=1s").await;
        let lease = node.grant(Duration::from_secs(60)).await;
        for id in ["a", "b"] {
            node.publish(&lease, &instance(id)).await.unwrap();
        }
        let mut view = View::of(node.watch());
        view.shows(&["a", "b"], SOON).await;
        let port = instance("a").endpoint().port();
        let address = format!("ip=10.0.0.7&port={port}&clusterName=DEFAULT&ephemeral=true&weight=1");
        operate(&nacos, &node, "instance", &format!("{address}&enabled=false")).await;
        view.shows(&["b"], SOON).await;
        node.publish(&lease, &instance("a")).await.unwrap();
        let renewal = lease.renew(tokio::time::Instant::now() + Duration::from_secs(2)).await.unwrap();
        assert_eq!(renewal.lost, [], "it is registered, if hidden");
        for _ in 0..3 {
            view.item().await.unwrap().unwrap();
            assert_eq!(view.ids, ["b"], "{line:?}");
        }
        // For so long what was written counts more than what a list says.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let keys = ["a", "b"].map(|id| instance(id).key());
        let seen = lease.inspect(&keys).await.unwrap();
        assert!(matches!(seen[..], [Presence::Ours { .. }, Presence::Ours { .. }]), "{line:?}: {seen:?}");
        // Hidden or not, it is ours to remove.
        lease.revoke().await.unwrap();
        view.shows(&[], SOON).await;
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn below_the_protection_threshold_a_watch_and_a_look_use_all_that_are_listed() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "?poll=1s").await;
        let lease = node.grant(Duration::from_secs(60)).await;
        node.publish(&lease, &instance("kept")).await.unwrap();
        // Somebody who is silent, and unhealthy soon, but not deleted.
        let form = format!(
            "namespaceId={}&groupName=DEFAULT_GROUP&serviceName=orders&ip=10.0.0.9&port=80&metadata={}",
            node.namespace,
            "%7B%22preserved.heart.beat.interval%22%3A%22500%22%2C%22preserved.heart.beat.timeout%22%3A%221000%22%2C%22preserved.ip.delete.timeout%22%3A%22600000%22%7D"
        );
        nacos.api().post("/nacos/v1/ns/instance", form).await.unwrap().success().unwrap();
        let mut view = View::of(node.watch());
        view.shows(&["10.0.0.9:80", "kept"], SOON).await;
        view.shows(&["kept"], SOON).await;

        operate(&nacos, &node, "service", "protectThreshold=0.9").await;
        let path = format!("/nacos/v1/ns/instance/list?namespaceId={}&serviceName=orders", node.namespace);
        let protected = async || {
            let list = nacos.api().get(&path).await.ok()?.json();
            (list["reachProtectionThreshold"] == true).then(|| list["hosts"].as_array().unwrap().len())
        };
        assert_eq!(eventually("protection", SOON, protected).await.unwrap(), 2);
        let looked = async || {
            let mut ids: Vec<String> =
                node.lookup().await.unwrap().instances.iter().map(|one| one.id().to_string()).collect();
            ids.sort();
            ids
        };
        view.shows(&["10.0.0.9:80", "kept"], SOON).await;
        for _ in 0..3 {
            view.item().await.unwrap().unwrap();
            assert_eq!(view.ids, ["10.0.0.9:80", "kept"], "{line:?}");
            assert_eq!(looked().await, view.ids, "{line:?}");
        }
        operate(&nacos, &node, "service", "protectThreshold=0").await;
        view.shows(&["kept"], SOON).await;
        for _ in 0..3 {
            view.item().await.unwrap().unwrap();
            assert_eq!(view.ids, ["kept"], "{line:?}");
            assert_eq!(looked().await, view.ids, "{line:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn an_operators_weight_counts() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "").await;
        let lease = node.grant(Duration::from_secs(60)).await;
        let heavy = instance("a").to_builder().weight(250).build().unwrap();
        node.publish(&lease, &heavy).await.unwrap();
        let weighs = async |weight: u32| {
            let listed = eventually("the weight", SOON, async || {
                let listing = node.lookup().await.ok()?;
                (listing.instances.len() == 1 && listing.instances[0].weight().get() == weight).then_some(())
            });
            assert!(listed.await.is_ok(), "{line:?}: {weight}");
        };
        weighs(250).await;
        let port = heavy.endpoint().port();
        let metadata = "%7B%22sr.id%22%3A%22a%22%7D";
        let address =
            format!("ip=10.0.0.7&port={port}&clusterName=DEFAULT&ephemeral=true&metadata={metadata}");
        operate(&nacos, &node, "instance", &format!("{address}&enabled=true&weight=0.5")).await;
        weighs(50).await;
        lease.revoke().await.unwrap();
    }
}

/// The records of the service, as a list shows them.
async fn listed(nacos: &Nacos, node: &Node) -> Vec<serde_json::Value> {
    let path = format!("/nacos/v1/ns/instance/list?namespaceId={}&serviceName=orders", node.namespace);
    let list = nacos.api().get(&path).await.unwrap().json();
    list["hosts"].as_array().unwrap().clone()
}

/// Turns the console's switch of the only instance, which sends all that the list shows.
async fn switch(nacos: &Nacos, node: &Node, weight: f64) {
    let shown = listed(nacos, node).await.remove(0);
    let metadata = shown["metadata"].to_string();
    let metadata = utf8_percent_encode(&metadata, NON_ALPHANUMERIC);
    let set = format!(
        "ip=10.0.0.7&port={}&clusterName=DEFAULT&ephemeral=true&enabled=true&weight={weight}&metadata={metadata}",
        shown["port"]
    );
    operate(nacos, node, "instance", &set).await;
}

/// A client that looks at its records often.
async fn watchful(nacos: &Nacos, node: &Node) -> Client {
    let mut config = ClientConfig::default();
    (config.ttl, config.audit) = (Duration::from_secs(6), Duration::from_secs(5));
    let url = format!("{}/{}?poll=1s", nacos.url(), node.namespace);
    Client::builder().config(config).connector(NacosConnector::new()).url(&url).build().await.unwrap()
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_switch_in_the_console_freezes_no_record_and_is_no_rival_to_the_next_life() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "").await;
        let saying = |said: &str| instance("a").to_builder().metadata("said", said).build().unwrap();
        let shows = async |said: &str| {
            let shown = eventually("the list", SOON, async || {
                let all = listed(&nacos, &node).await;
                (all.len() == 1 && all[0]["metadata"]["said"] == said).then_some(())
            });
            assert!(shown.await.is_ok(), "{line:?}: {said}: {:?}", listed(&nacos, &node).await);
        };
        let nobody = async || {
            let gone = async || listed(&nacos, &node).await.is_empty().then_some(());
            eventually("nobody", SOON, gone).await.unwrap();
        };
        let first = watchful(&nacos, &node).await;
        let registration = first.register(saying("one")).await.unwrap();
        shows("one").await;
        switch(&nacos, &node, 0.5).await;
        registration.update(saying("two")).unwrap();
        shows("two").await;
        assert_eq!(listed(&nacos, &node).await[0]["weight"], 0.5, "{line:?}: the operator's");
        switch(&nacos, &node, 0.5).await;
        first.close().await;
        nobody().await;

        let second = watchful(&nacos, &node).await;
        let registration = second.register(saying("three")).await.unwrap();
        let mut events = registration.events();
        shows("three").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(registration.phase(), Phase::Live, "{line:?}");
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            assert!(!matches!(event, RegistrationEvent::Lost { .. }), "{line:?}: {event:?}");
        }
        switch(&nacos, &node, 0.5).await;
        registration.set_status(Status::Draining).unwrap();
        let draining = eventually("the status", SOON, async || {
            let all = listed(&nacos, &node).await;
            (all.len() == 1 && all[0]["metadata"]["sr.status"] == "draining").then_some(())
        });
        draining.await.unwrap();
        second.close().await;
        nobody().await;
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn the_next_life_leaves_nothing_behind_whatever_an_edit_shows_of_it() {
    for line in LINES {
        let nacos = shared(line).await;
        let url = |namespace: &str| format!("{}/{namespace}", nacos.url());
        let node = connect(&nacos, "").await;
        let lease = node.grant(Duration::from_secs(60)).await;
        node.publish(&lease, &instance("a")).await.unwrap();
        let is_listed = async || (listed(&nacos, &node).await.len() == 1).then_some(());
        eventually("the record", SOON, is_listed).await.unwrap();
        switch(&nacos, &node, 1.0).await;
        lease.revoke().await.unwrap();
        let next = connect_to(&url(&node.namespace)).await;
        let lease = next.grant(Duration::from_secs(60)).await;
        next.publish(&lease, &instance("a")).await.unwrap();
        eventually("the record", SOON, is_listed).await.unwrap();
        // For so long what was written counts more than what a list says.
        tokio::time::sleep(Duration::from_secs(3)).await;
        lease.withdraw(&[instance("a").into()]).await.remove(0).unwrap();
        let gone = async || listed(&nacos, &node).await.is_empty().then_some(());
        eventually("nobody", SOON, gone).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn whoever_drains_weighs_nothing_for_other_fleets() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "").await;
        let lease = node.grant(Duration::from_secs(60)).await;
        let draining = instance("a").to_builder().weight(250).status(Status::Draining).build().unwrap();
        node.publish(&lease, &draining).await.unwrap();
        let path = format!("/nacos/v1/ns/instance/list?namespaceId={}&serviceName=orders", node.namespace);
        let record = async || {
            let list = nacos.api().get(&path).await.ok()?.json();
            list["hosts"].as_array()?.first().cloned()
        };
        let record = eventually("the record", SOON, record).await.unwrap();
        assert_eq!(
            (&record["weight"], &record["enabled"]),
            (&0.0.into(), &true.into()),
            "{line:?}: {record}"
        );
        let read = node.lookup().await.unwrap().instances.remove(0);
        assert_eq!((read.status(), read.weight().get()), (Status::Draining, 250));
        lease.revoke().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn without_light_beats_all_stay_and_nobody_comes_back_who_was_removed() {
    let nacos = Nacos::start(NacosLine::V2).await.unwrap();
    nacos
        .api()
        .put("/nacos/v1/ns/operator/switches?entry=lightBeatEnabled&value=false", "")
        .await
        .unwrap()
        .success()
        .unwrap();
    let node = connect(&nacos, "").await;
    let lease = node.grant(Duration::from_secs(60)).await;
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let soon = || tokio::time::Instant::now() + Duration::from_secs(5);
    for _ in 0..10 {
        for id in ids {
            node.publish(&lease, &instance(id)).await.unwrap();
        }
        assert_eq!(lease.renew(soon()).await.unwrap().lost, []);
        let gone: Vec<_> = ids.iter().map(|id| std::sync::Arc::new(instance(id))).collect();
        let renewals = async {
            for _ in 0..5 {
                assert_eq!(lease.renew(soon()).await.unwrap().lost, []);
            }
        };
        let removal = async { assert!(lease.withdraw(&gone).await.iter().all(Result::is_ok)) };
        tokio::join!(renewals, removal);
    }
    // Longer than lists lag behind.
    let end = tokio::time::Instant::now() + Duration::from_secs(3);
    let path = format!("/nacos/v1/ns/instance/list?namespaceId={}&serviceName=orders", node.namespace);
    let listed = async || nacos.api().get(&path).await.unwrap().json()["hosts"].as_array().unwrap().len();
    eventually("nobody is left", SOON, async || (listed().await == 0).then_some(())).await.unwrap();
    while tokio::time::Instant::now() < end {
        assert_eq!(listed().await, 0, "a ghost");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // A server that forgot everything is told everything by the next beat.
    node.publish(&lease, &instance("a")).await.unwrap();
    assert_eq!(lease.renew(soon()).await.unwrap().lost, []);
    nacos.kill().await.unwrap();
    nacos.restart().await.unwrap();
    let renewed = eventually("an answer to a beat", SOON, async || lease.renew(soon()).await.ok());
    assert_eq!(renewed.await.unwrap().lost, []);
    let back = async || {
        let listing = node.lookup().await.ok()?;
        (listing.instances.len() == 1 && listing.instances[0].id().as_str() == "a").then_some(())
    };
    eventually("the whole record is back", SOON, back).await.unwrap();
}
