//! A bare watcher and one of ours, who note when they learn of each revision.

use etcd_client::WatchOptions;
use registry_core::{Client, Upstream};
use tokio::{task::JoinHandle, time::Instant};

use crate::stage::{SERVICE, Stage, prefix};

/// When each revision was seen, in order.
pub(crate) type Seen = Vec<(i64, Instant)>;

/// Both watchers at work until they have seen a certain revision.
pub(crate) struct Watchers {
    bare: JoinHandle<Seen>,
    ours: JoinHandle<Seen>,
    _client: Client,
}

impl Watchers {
    /// Starts both; the server tells the one that came first before the other, so rounds alternate.
    /// `count` instances are there already, and revisions from `from` on are noted until `until`.
    pub(crate) async fn start(stage: &Stage, count: usize, from: i64, until: i64, ours_first: bool) -> Self {
        let client = stage.client().await;
        if ours_first {
            let ours = ours(&client, count, from, until).await;
            let bare = bare(stage, from, until).await;
            return Self { bare, ours, _client: client };
        }
        let bare = bare(stage, from, until).await;
        let ours = ours(&client, count, from, until).await;
        Self { bare, ours, _client: client }
    }

    /// What the bare one saw, and what ours saw.
    pub(crate) async fn finish(self) -> (Seen, Seen) {
        (self.bare.await.unwrap(), self.ours.await.unwrap())
    }
}

async fn bare(stage: &Stage, from: i64, until: i64) -> JoinHandle<Seen> {
    let mut raw = stage.raw().await;
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut watch = raw.watch(prefix(), Some(options)).await.unwrap();
    // The answer to the request; what follows are events.
    watch.message().await.unwrap();
    tokio::spawn(async move {
        let mut seen = Seen::new();
        while let Some(message) = watch.message().await.unwrap() {
            let now = Instant::now();
            let revisions = message.events().iter().filter_map(|event| Some(event.kv()?.mod_revision()));
            seen.extend(revisions.map(|revision| (revision, now)));
            if seen.last().is_some_and(|(revision, _)| *revision >= until) {
                break;
            }
        }
        seen
    })
}

async fn ours(client: &Client, count: usize, from: i64, until: i64) -> JoinHandle<Seen> {
    let upstream: Upstream = client.discover(SERVICE).await.unwrap();
    upstream.ready(count).await.unwrap();
    let mut changes = upstream.changes();
    changes.next().await.unwrap();
    tokio::spawn(async move {
        let mut seen = Seen::new();
        let mut next = from;
        while next <= until {
            let update = changes.next().await.unwrap();
            let now = Instant::now();
            let at = update.snapshot.revision().unwrap().cast_signed();
            seen.extend((next..=at).map(|revision| (revision, now)));
            next = next.max(at + 1);
        }
        seen
    })
}
