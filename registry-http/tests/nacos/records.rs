//! Records of others, and of the persistent kind.

use std::time::Duration;

use registry_core::{
    ErrorKind, Instance,
    backend::{Lifetime, Presence},
};
use registry_testkit::{NacosLine, eventually};

use super::support::{LINES, View, connect, connect_to, instance, shared};

const SOON: Duration = Duration::from_secs(15);

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn foreign_records_are_read_and_a_bad_one_hides_nobody() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "").await;
        let register = async |address: &str, metadata: &str| {
            let form = format!(
                "namespaceId={}&serviceName=DEFAULT_GROUP%40%40orders&{address}&metadata={metadata}",
                node.namespace
            );
            nacos.api().post("/nacos/v1/ns/instance", form).await.unwrap().success().unwrap();
        };
        register("ip=10.8.3.21&port=8080&clusterName=z1", "gRPC_port%3D9000%2Cversion%3D2.4.1").await;
        register("ip=10.8.3.22&port=8080", "sr.id%3Dbad%2Csr.status%3Dasleep").await;
        register("ip=inventory.internal&port=80", "").await;
        let mut last = None;
        let listed = eventually("all records", SOON, async || {
            let listing = node.lookup().await.ok()?;
            let all = listing.instances.len() == 2;
            last = Some(listing);
            all.then_some(())
        });
        let listed = listed.await;
        assert!(listed.is_ok(), "{last:?}");
        let mut listing = last.unwrap();
        listing.instances.sort_by(|a, b| a.id().cmp(b.id()));
        let shown = |at: usize| -> Vec<String> {
            listing.instances[at].endpoints().iter().map(ToString::to_string).collect()
        };
        assert_eq!(listing.instances[0].id().as_str(), "10.8.3.21:8080#z1");
        assert_eq!(shown(0), ["http://10.8.3.21:8080", "grpc://10.8.3.21:9000"]);
        assert_eq!(
            (listing.instances[0].version(), listing.instances[0].zone()),
            (Some("2.4.1"), Some("z1"))
        );
        assert_eq!(shown(1), ["http://inventory.internal:80"]);
        assert_eq!(listing.rejected.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["bad"]);
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn clusters_and_groups_are_asked_for_by_qualifiers() {
    let nacos = shared(LINES[0]).await;
    let node = connect(&nacos, "?group=blue&cluster=c1").await;
    let lease = node.grant(Duration::from_secs(60)).await;
    node.publish(&lease, &instance("a")).await.unwrap();
    let found = async |qualifiers: &[(&str, &str)]| {
        let target = qualifiers.iter().fold(super::support::target(), |target, (key, value)| {
            target.with_qualifier(key, value).unwrap()
        });
        node.discovery().lookup(&target, &Default::default()).await.unwrap().instances.len()
    };
    for (qualifiers, expected) in
        [(&[][..], 1), (&[("cluster", "c1,c2")], 1), (&[("cluster", "c2")], 0), (&[("group", "green")], 0)]
    {
        let all =
            eventually("the listing", SOON, async || (found(qualifiers).await == expected).then_some(()));
        assert!(all.await.is_ok(), "{qualifiers:?}");
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn persistent_instances_stay_until_they_are_withdrawn_and_do_not_mix_with_the_others() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "?ephemeral=false&poll=1s").await;
        let lease = node.grant(Duration::from_secs(5)).await;
        assert!(matches!(lease.lifetime(), Lifetime::Verified { .. }));
        // The server probes the port; its own is open.
        let url = format!("http://{}", nacos.address());
        let kept = Instance::builder("orders").id("kept").endpoint(url).build().unwrap();
        node.publish(&lease, &kept).await.unwrap();
        let mut view = View::of(node.watch());
        view.shows(&["kept"], SOON).await;
        let present = lease.inspect(&[kept.key()]).await.unwrap();
        assert!(matches!(present[..], [Presence::Ours { .. }]), "{present:?}");

        let other = connect_to(&format!("{}/{}", nacos.url(), node.namespace)).await;
        let ephemeral = other.grant(Duration::from_secs(5)).await;
        let error = other.publish(&ephemeral, &instance("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        assert!(error.to_string().contains("\"ephemeral\""), "{error}");

        lease.withdraw(&[kept.into()]).await.remove(0).unwrap();
        view.shows(&[], SOON).await;
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_persistent_instance_whose_port_is_closed_is_failing_until_it_opens() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "?ephemeral=false").await;
        let lease = node.grant(Duration::from_secs(5)).await;
        // The server probes ports; its own is open. Without anybody healthy all would pass for it.
        let other = Instance::builder("orders").id("other").endpoint(format!("http://{}", nacos.address()));
        node.publish(&lease, &other.build().unwrap()).await.unwrap();
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let closed =
            Instance::builder("orders").id("a").endpoint(format!("http://{address}")).build().unwrap();
        node.publish(&lease, &closed).await.unwrap();
        let seen = async || lease.inspect(&[closed.key()]).await.unwrap().remove(0);
        let failing = async || (seen().await == Presence::Failing).then_some(());
        eventually("the probe has failed", SOON, failing).await.unwrap();
        let error = node.publish(&lease, &closed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{line:?}: {error}");

        let _port = tokio::net::TcpListener::bind(address).await.unwrap();
        let passes = async || node.publish(&lease, &closed).await.ok();
        eventually("the probe passes", Duration::from_secs(40), passes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(matches!(seen().await, Presence::Ours { .. }), "{line:?}");
        lease.revoke().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn where_there_is_no_nacos_nothing_is_taken_for_an_empty_list() {
    for line in LINES {
        let nacos = shared(line).await;
        for options in ["?context_path=/other", "?api=v1&context_path=/other", "?api=v1&context_path=/"] {
            let error = connect(&nacos, options).await.lookup().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{options}: {error:?}");
            assert!(error.to_string().contains("context_path"), "{error}");
        }
        let node = connect(&nacos, "?api=v2").await;
        match line {
            NacosLine::V2 => assert_eq!(node.lookup().await.unwrap().instances, []),
            _ => assert_eq!(node.lookup().await.unwrap_err().kind(), ErrorKind::Protocol),
        }
    }
}

/// Absence is believed in these words only, so that they are held here.
#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn what_servers_say_of_nobody_is_what_is_understood() {
    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain;charset=UTF-8";
    let at = "ip=10.0.0.9&port=80&clusterName=DEFAULT&ephemeral=true";
    let (grouped, plain) =
        ("serviceName=DEFAULT_GROUP%40%40nobody", "serviceName=nobody&groupName=DEFAULT_GROUP");
    let beat = r#"{"clientBeatInterval":5000,"code":20404,"lightBeatEnabled":true}"#;
    let success = r#"{"code":0,"message":"success","data":"ok"}"#;
    let both = [
        ("GET", format!("/nacos/v1/ns/instance/list?{grouped}"), 200, JSON, r#""hosts":[]"#),
        ("PUT", format!("/nacos/v1/ns/instance/beat?{grouped}&{at}"), 200, JSON, beat),
        ("DELETE", format!("/nacos/v1/ns/instance?{grouped}&{at}"), 200, TEXT, "ok"),
    ];
    let of_2 = [
        ("GET", format!("/nacos/v2/ns/instance/list?{plain}"), 200, JSON, r#""hosts":[]"#),
        ("PUT", format!("/nacos/v2/ns/instance/beat?{grouped}&{at}"), 200, JSON, beat),
        ("DELETE", format!("/nacos/v2/ns/instance?{plain}&{at}"), 200, JSON, success),
        // As 1.x answered more.
        (
            "GET",
            format!("/nacos/v1/ns/instance?{grouped}&{at}"),
            404,
            TEXT,
            "no ips found for cluster DEFAULT in service DEFAULT_GROUP@@nobody",
        ),
        (
            "GET",
            format!("/nacos/v3/client/ns/instance/list?{plain}"),
            404,
            JSON,
            r#""status":404,"error":"Not Found""#,
        ),
    ];
    let unknown = r#"{"code":21003,"message":"instance not found","data":null}"#;
    let of_3 = [
        (
            "GET",
            format!("/nacos/v3/client/ns/instance/list?{plain}"),
            200,
            JSON,
            r#"{"code":0,"message":"success","data":[]}"#,
        ),
        ("POST", format!("/nacos/v3/client/ns/instance?{plain}&{at}&heartBeat=true"), 200, JSON, unknown),
        ("DELETE", format!("/nacos/v3/client/ns/instance?{plain}&{at}"), 200, JSON, success),
        ("GET", format!("/nacos/v1/ns/instance?{grouped}&{at}"), 410, JSON, r#""status":410,"error":"Gone""#),
        ("GET", format!("/nacos/v2/ns/instance/list?{plain}"), 410, JSON, r#""status":410,"error":"Gone""#),
    ];
    for line in LINES {
        let nacos = shared(line).await;
        let own = if line == NacosLine::V2 { &of_2[..] } else { &of_3[..] };
        for (method, path, status, kind, said) in both.iter().chain(own) {
            let answer = nacos.api().call(method, path, "").await.unwrap();
            let kind = answer.header("content-type") == Some(*kind);
            assert!(
                answer.status == *status && kind && answer.body.contains(said),
                "{line:?} {method} {path}: {answer:?}"
            );
        }
    }
}
