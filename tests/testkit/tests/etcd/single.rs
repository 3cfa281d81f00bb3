//! One node.

use std::time::Duration;

use registry_testkit::{Etcd, Etcdctl, Proxy, TestCa, eventually};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn kill_and_restart_keep_the_data() {
    let etcd = Etcd::start().await.unwrap();
    let ctl = etcd.ctl();
    let lease = ctl.grant_lease(600).await.unwrap();
    ctl.put("a/1", "one").await.unwrap();
    ctl.put_leased("a/2", [0, 255, b'\n'], lease).await.unwrap();
    ctl.put("b", "-").await.unwrap();
    let (before, kept) = (ctl.status().await.unwrap(), ctl.get_prefix("").await.unwrap());
    assert_eq!(kept[1].value, [0, 255, b'\n']);
    assert_eq!((kept[1].lease, kept[0].lease), (lease, 0));

    etcd.kill().await.unwrap();
    assert!(!etcd.is_running());
    let refused = tokio::net::TcpStream::connect(etcd.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    etcd.restart().await.unwrap();

    assert_eq!(ctl.get_prefix("").await.unwrap(), kept);
    assert_eq!(ctl.keys("a/").await.unwrap(), ["a/1", "a/2"]);
    assert_eq!(ctl.status().await.unwrap().cluster, before.cluster);
    assert_eq!(ctl.leases().await.unwrap(), [lease]);
    ctl.revoke_lease(lease).await.unwrap();
    assert_eq!(ctl.keys("").await.unwrap(), ["a/1", "b"]);
    assert_eq!(ctl.delete_prefix("a/").await.unwrap(), 1);
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_wiped_node_is_another_cluster() {
    let etcd = Etcd::start().await.unwrap();
    let before = etcd.ctl().status().await.unwrap();
    etcd.ctl().put("a", "1").await.unwrap();
    assert!(etcd.wipe().await.is_err(), "it runs");
    etcd.kill().await.unwrap();
    etcd.wipe().await.unwrap();
    etcd.restart().await.unwrap();
    let after = etcd.ctl().status().await.unwrap();
    assert_ne!(after.cluster, before.cluster);
    assert!(after.revision <= before.revision);
    assert!(etcd.ctl().keys("").await.unwrap().is_empty());
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_frozen_node_answers_nobody_until_thawed() {
    let etcd = Etcd::start().await.unwrap();
    etcd.freeze().await.unwrap();
    assert!(etcd.is_running());
    etcd.ctl().put("a", "1").await.unwrap_err();
    etcd.thaw().unwrap();
    etcd.ready().await.unwrap();
    etcd.ctl().put("a", "1").await.unwrap();
    etcd.freeze().await.unwrap();
    etcd.kill().await.unwrap();
    assert!(!etcd.is_running());
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn history_can_be_compacted() {
    let etcd = Etcd::start().await.unwrap();
    let ctl = etcd.ctl();
    for value in ["1", "2", "3"] {
        ctl.put("a", value).await.unwrap();
    }
    let revision = ctl.revision().await.unwrap();
    ctl.compact(revision).await.unwrap();
    let error = ctl.run(&["get", "a", "--rev", &(revision - 1).to_string()]).await.unwrap_err();
    assert!(error.output().contains("required revision has been compacted"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn auth_is_on_from_the_start_and_after_a_wipe() {
    let etcd = Etcd::builder().auth(Duration::from_secs(2)).start().await.unwrap();
    for _ in 0..2 {
        let root = etcd.ctl();
        root.add_user("app", "secret", "app/").await.unwrap();
        let app = root.clone().with_user("app", "secret");
        app.put("app/1", "1").await.unwrap();
        let denied = app.put("other", "1").await.unwrap_err();
        assert!(denied.output().contains("permission denied"), "{denied:?}");
        let nobody = root.clone().without_user().put("app/1", "1").await.unwrap_err();
        assert!(nobody.output().contains("user name is empty"), "{nobody:?}");
        root.change_password("app", "other").await.unwrap();
        app.put("app/1", "2").await.unwrap_err();
        etcd.kill().await.unwrap();
        etcd.restart().await.unwrap();
        root.clone().with_user("app", "other").put("app/1", "3").await.unwrap();
        etcd.kill().await.unwrap();
        etcd.wipe().await.unwrap();
        etcd.restart().await.unwrap();
    }
    assert!(!format!("{:?}", etcd.ctl()).contains(Etcdctl::ROOT.1));
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn tls_with_client_certificates_admits_those_who_have_one() {
    let (ca, wrong) = (TestCa::new("right").unwrap(), TestCa::new("wrong").unwrap());
    let etcd = Etcd::builder().tls(&ca).client_certs(&ca).start().await.unwrap();
    let ctl = etcd.ctl();
    ctl.put("a", "1").await.unwrap();
    assert_eq!(ctl.keys("").await.unwrap(), ["a"]);

    let stranger = wrong.client("root").unwrap();
    let (ca, cert, key) = (ca.cert(), stranger.cert(), stranger.key());
    let [ca, cert, key] = [ca, cert, key].map(|path| path.to_str().unwrap());
    ctl.run(&["get", "a", "--cacert", ca, "--cert", cert, "--key", key]).await.unwrap_err();
    let wrong = wrong.cert().to_str().unwrap();
    ctl.run(&["get", "a", "--cacert", wrong]).await.unwrap_err();
    etcd.kill().await.unwrap();
    etcd.restart().await.unwrap();
    assert_eq!(ctl.keys("").await.unwrap(), ["a"]);
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_certificate_names_the_user() {
    let ca = TestCa::new("ca").unwrap();
    let builder = Etcd::builder().tls(&ca).client_certs(&ca).auth(Duration::from_secs(60));
    let etcd = builder.start().await.unwrap();
    // The certificate of `ctl` is root's.
    etcd.ctl().without_user().put("a", "1").await.unwrap();
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_start_that_fails_tells_why() {
    let error = Etcd::builder().arg("--no-such-flag").start().await.unwrap_err();
    assert!(format!("{error:?}").contains("no-such-flag"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_proxy_stands_between() {
    let etcd = Etcd::start().await.unwrap();
    let proxy = Proxy::start(etcd.address()).await.unwrap();
    let ctl = etcd.ctl().via(proxy.address());
    ctl.put("a", "1").await.unwrap();
    proxy.hold();
    ctl.put("a", "2").await.unwrap_err();
    assert_eq!(etcd.ctl().get_prefix("a").await.unwrap()[0].value, b"1");
    proxy.restore().await;
    eventually("a put", LONG, async || ctl.put("a", "3").await.ok()).await.unwrap();
}
