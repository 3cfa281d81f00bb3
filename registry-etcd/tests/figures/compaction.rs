//! F3: the history that a watch would resume from is compacted while the link is down.

use std::time::Duration;

use registry_bench_support::Bound;
use registry_core::Update;
use registry_testkit::{Etcd, Proxy, eventually};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    sampler::Sampler,
    stage::{SERVICE, bare, client, fill, ids, key, publish, record},
};

const COUNT: usize = 100;
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn history_compacted_during_an_outage_costs_one_list_and_loses_nothing() {
    let etcd = Etcd::start().await.unwrap();
    let proxy = Proxy::start(etcd.address()).await.unwrap();
    let mut writer = bare(etcd.address()).await.unwrap();
    fill(&mut writer, COUNT).await;
    let (client, sessions) = client(proxy.address()).await;
    let upstream = client.discover(SERVICE).await.unwrap();
    upstream.ready_within(COUNT, SOON).await.unwrap();
    let mut changes = upstream.changes();
    changes.next().await.unwrap();
    let sampler = Sampler::start(upstream.clone());
    let (told, mut updates) = mpsc::channel::<Update>(64);
    tokio::spawn(async move {
        while let Some(update) = changes.next().await {
            if told.send(update).await.is_err() {
                break;
            }
        }
    });

    proxy.cut().await;
    let before = sessions.listings();
    for id in ["i000", "i001", "i002"] {
        writer.put(key(id), record(id, 2), None).await.unwrap();
    }
    for id in ["i003", "i004"] {
        writer.delete(key(id), None).await.unwrap();
    }
    for id in ["new0", "new1", "new2", "new3"] {
        writer.put(key(id), record(id, 1), None).await.unwrap();
    }
    // A life that began and ended unseen leaves no trace.
    writer.put(key("ghost"), record("ghost", 1), None).await.unwrap();
    let deleted = writer.delete(key("ghost"), None).await.unwrap();
    writer.compact(deleted.header().unwrap().revision(), None).await.unwrap();
    proxy.restore().await;

    let update = timeout(SOON, updates.recv()).await.unwrap().unwrap();
    let changed: Vec<_> = update.diff.changed.iter().map(|(_, new)| new).collect();
    let difference = [
        (ids(&update.diff.added), vec!["new0", "new1", "new2", "new3"]),
        (ids(&update.diff.removed), vec!["i003", "i004"]),
        (ids(changed), vec!["i000", "i001", "i002"]),
    ];
    let wrong = difference.iter().filter(|(told, expected)| told != expected).count();
    assert_eq!(wrong, 0, "{difference:?}");
    // The watch that follows the list is at work.
    writer.put(key("later"), record("later", 1), None).await.unwrap();
    let update = timeout(SOON, updates.recv()).await.unwrap().unwrap();
    assert_eq!(ids(&update.diff.added), ["later"]);
    let whole = async || (upstream.snapshot().len() == COUNT - 2 + 4 + 1).then_some(());
    eventually("everything is there", SOON, whole).await.unwrap();
    let sampled = sampler.stop().await;
    let lists = (sessions.listings() - before + sessions.lookups()) as u64;
    publish(
        "F3",
        &[
            Bound::exactly("F3", "lists after a compaction", lists, 1, ""),
            Bound::exactly("F3", "updates that tell more or less than the difference", wrong as u64, 0, ""),
            Bound::exactly("F3", "empty snapshots and failed picks", sampled.empty + sampled.failed, 0, ""),
        ],
    );
}
