//! A bare watcher and one of ours, who note when they learn of each revision.

use etcd_client::WatchOptions;
use registry_core::{Client, Upstream};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::stage::{SERVICE, Stage, key, prefix, value};

/// When each revision was seen, in order.
pub(crate) type Seen = Vec<(i64, Instant)>;

/// Both watchers at work.
pub(crate) struct Watchers {
    bare: Watcher,
    ours: Watcher,
    _client: Client,
}

struct Watcher {
    seen: JoinHandle<Seen>,
    /// The revision it has come to; it ends when nobody looks any more.
    reached: watch::Receiver<i64>,
}

impl Watchers {
    /// Starts both; the server tells the one that came first before the other, so rounds alternate.
    ///
    /// `count` instances are there already. On return both have seen a change: the server needs up to 100 ms until
    /// a watch that began in the past is among those it tells at once.
    pub(crate) async fn start(stage: &Stage, count: usize, ours_first: bool) -> Self {
        let client = stage.client().await;
        let from = stage.revision().await + 1;
        let (bare, ours) = if ours_first {
            let ours = ours(&client, count, from).await;
            (bare(stage, from).await, ours)
        } else {
            let bare = bare(stage, from).await;
            (bare, ours(&client, count, from).await)
        };
        let mut watchers = Self { bare, ours, _client: client };
        // The second comes to watches that have caught up.
        for _ in 0..2 {
            let sequence = fastrand::u64(1 << 32..);
            let put = stage.raw().await.put(key(0), value(0, sequence), None).await.unwrap();
            watchers.reach(put.header().unwrap().revision()).await;
        }
        watchers
    }

    /// Waits until both have come to a revision.
    pub(crate) async fn reach(&mut self, revision: i64) {
        for watcher in [&mut self.bare, &mut self.ours] {
            watcher.reached.wait_for(|reached| *reached >= revision).await.unwrap();
        }
    }

    /// What the bare one saw, and what ours saw.
    pub(crate) async fn finish(self) -> (Seen, Seen) {
        let (bare, ours) = (self.bare.seen, self.ours.seen);
        drop((self.bare.reached, self.ours.reached));
        (bare.await.unwrap(), ours.await.unwrap())
    }
}

async fn bare(stage: &Stage, from: i64) -> Watcher {
    let mut raw = stage.raw().await;
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut watch = raw.watch(prefix(), Some(options)).await.unwrap();
    // The answer to the request; what follows are events.
    watch.message().await.unwrap();
    let (reach, reached) = watch::channel(0);
    let seen = tokio::spawn(async move {
        let mut seen = Seen::new();
        loop {
            let message = tokio::select! {
                message = watch.message() => message.unwrap().unwrap(),
                () = reach.closed() => return seen,
            };
            let now = Instant::now();
            let revisions = message.events().iter().filter_map(|event| Some(event.kv()?.mod_revision()));
            seen.extend(revisions.map(|revision| (revision, now)));
            reach.send_replace(seen.last().map_or(0, |(revision, _)| *revision));
        }
    });
    Watcher { seen, reached }
}

async fn ours(client: &Client, count: usize, from: i64) -> Watcher {
    let upstream: Upstream = client.discover(SERVICE).await.unwrap();
    upstream.ready(count).await.unwrap();
    let mut changes = upstream.changes();
    changes.next().await.unwrap();
    let (reach, reached) = watch::channel(0);
    let seen = tokio::spawn(async move {
        let mut seen = Seen::new();
        let mut next = from;
        loop {
            let update = tokio::select! {
                update = changes.next() => update.unwrap(),
                () = reach.closed() => return seen,
            };
            let now = Instant::now();
            let at = update.snapshot.revision().unwrap().cast_signed();
            seen.extend((next..=at).map(|revision| (revision, now)));
            next = next.max(at + 1);
            reach.send_replace(at);
        }
    });
    Watcher { seen, reached }
}
