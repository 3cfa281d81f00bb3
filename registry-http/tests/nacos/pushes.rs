//! Pushes over UDP.

use std::time::Duration;

use super::support::{LINES, View, connect, instance, shared};

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_push_is_seen_long_before_the_next_poll() {
    for line in LINES {
        let nacos = shared(line).await;
        let node = connect(&nacos, "?poll=60s").await;
        let lease = node.grant(Duration::from_secs(60)).await;
        node.publish(&lease, &instance("a")).await.unwrap();
        let mut view = View::of(node.watch());
        // The first list may be from before the publication: even that is found by a push only.
        view.shows(&["a"], Duration::from_secs(15)).await;
        node.publish(&lease, &instance("b")).await.unwrap();
        view.shows(&["a", "b"], Duration::from_secs(15)).await;
        lease.withdraw(&[instance("a").into()]).await.remove(0).unwrap();
        view.shows(&["b"], Duration::from_secs(15)).await;
    }
}
