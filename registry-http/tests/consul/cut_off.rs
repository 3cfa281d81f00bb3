//! Agents that are no servers, and lose them.

use std::time::Duration;

use registry_core::{ErrorKind, Phase};
use registry_testkit::{Consul, eventually};
use tokio::time::Instant;

use crate::support::{LONG, client, connect, instance, soon, target};

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn an_instance_at_an_agent_that_loses_its_servers_is_lost_and_recovers_with_them() {
    let server = Consul::builder().data().start().await.unwrap();
    let agent = Consul::builder().client_of([&server]).start().await.unwrap();
    let client = client(&agent.url()).await;
    let registration = client.register(instance("orders", "a")).await.unwrap();
    let observer = connect(&format!("{}?wait=1s", server.url())).await;
    observer.finds(&target("orders"), &["a"]).await;
    assert_eq!(registration.phase(), Phase::Live);

    server.kill().await.unwrap();
    let cut = Instant::now();
    let phase = async |wanted, within| {
        let reached =
            eventually("the phase", within, async || (registration.phase() == wanted).then_some(()));
        assert!(reached.await.is_ok(), "{:?} rather than {wanted:?}", registration.phase());
    };
    phase(Phase::Lost, LONG).await;
    // A time to live of 3 s, and the last beat that counted was sent before.
    assert!(cut.elapsed() < Duration::from_secs(6), "{:?}", cut.elapsed());
    // Its agent is well, and takes beats.
    let node = connect(&format!("{}?request_timeout=1s", agent.url())).await;
    let lease = node.grant(30).await;
    assert_eq!(node.publish(&lease, "b").await.unwrap_err().kind().class(), ErrorKind::Unavailable.class());
    // Longer than the loss takes to show.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(registration.phase(), Phase::Lost);

    server.restart().await.unwrap();
    // The agent looks for a server that had failed every 30 s.
    phase(Phase::Live, Duration::from_secs(90)).await;
    observer.finds(&target("orders"), &["a"]).await;
    node.publish(&lease, "b").await.unwrap();
    assert!(lease.renew(soon()).await.unwrap().missed.is_empty());
}
