//! F1: a peer that is still connected and no longer answers.

use std::time::Duration;

use futures_util::StreamExt;
use registry_bench_support::Bound;
use registry_core::{Target, ViewEvent};
use registry_testkit::Etcd;
use tokio::time::{Instant, timeout};

use crate::stage::{SERVICE, backend, bare, client, fill, key, publish, record};

/// What the connection promises while a stream is open: a ping after 10 s of silence, an answer within 5 s.
const PINGS: Duration = Duration::from_secs(15);
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_frozen_server_is_noticed_within_a_ping_and_its_timeout_without_being_asked_for() {
    let etcd = Etcd::start().await.unwrap();
    let mut writer = bare(etcd.address()).await.unwrap();
    fill(&mut writer, 10).await;
    let (client, _sessions) = client(etcd.address()).await;
    let upstream = client.discover(SERVICE).await.unwrap();
    let (mut events, mut changes) = (upstream.events(), upstream.changes());
    changes.next().await.unwrap();
    let target = Target::try_from(SERVICE).unwrap();
    let mut watch = backend(etcd.address()).await.discovery.unwrap().watch(&target, None);
    watch.next().await.unwrap().unwrap();

    // The worst moment: both have just heard of the server.
    writer.put(key("i000"), record("i000", 2), None).await.unwrap();
    changes.next().await.unwrap();
    watch.next().await.unwrap().unwrap();
    let start = Instant::now();
    etcd.freeze().await.unwrap();
    let limit = 2 * PINGS;
    let by_the_backend = async {
        while watch.next().await.is_some_and(|item| item.is_ok()) {}
        start.elapsed()
    };
    let by_the_view = async {
        while events.next().await.is_some_and(|event| event != ViewEvent::Stale) {}
        start.elapsed()
    };
    let both = timeout(limit, async { tokio::join!(by_the_backend, by_the_view) });
    let (stream, view) = both.await.unwrap_or((limit, limit));
    etcd.thaw().unwrap();
    let bound = (PINGS + SLACK).as_secs_f64();
    publish(
        "F1",
        &[
            Bound::at_most("F1", "frozen server: the watch fails after", stream.as_secs_f64(), bound, "s"),
            Bound::at_most("F1", "frozen server: the view is stale after", view.as_secs_f64(), bound, "s"),
        ],
    );
}
