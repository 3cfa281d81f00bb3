//! What operators do: disable instances, raise the protection threshold.

use std::time::Duration;

use registry_testkit::{Nacos, NacosLine, eventually};

use super::support::{LINES, Node, View, connect, instance, shared};

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
        // Hidden or not, it is ours to remove.
        lease.revoke().await.unwrap();
        view.shows(&[], SOON).await;
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_reached_protection_threshold_is_no_recovery() {
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
        for _ in 0..3 {
            view.item().await.unwrap().unwrap();
            assert_eq!(view.ids, ["kept"], "{line:?}");
        }
        operate(&nacos, &node, "service", "protectThreshold=0").await;
        for _ in 0..3 {
            view.item().await.unwrap().unwrap();
            assert_eq!(view.ids, ["kept"], "{line:?}");
        }
    }
}
