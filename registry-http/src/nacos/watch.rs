//! One watch session: a list at once, then one at each interval, and one soon after each push.
//!
//! ```text
//!   Start ─▶ list, Reset ─▶ wait ──interval or push──▶ list ─▶ changes or a sign of life ─▶ wait
//!                                                       └─ failed ─▶ Err, Over
//! ```

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use registry_core::{
    Error, Target,
    backend::{Event, Evidence, WatchStream},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    lists::{Lists, News},
    names::Wanted,
    push::Pushes,
    session::Session,
};

const OPERATION: &str = "watch";
/// Lists are at least so far apart, however many packets claim that something has changed.
const BETWEEN: Duration = Duration::from_millis(200);

pub(crate) fn open(session: Arc<Session>, pushes: Arc<Pushes>, target: Target) -> WatchStream {
    let watcher = Watcher { session, pushes, target, live: None, is_over: false };
    Box::pin(stream::unfold(watcher, |mut watcher| async move {
        if watcher.is_over {
            return None;
        }
        let item = watcher.next().await.map_err(|error| match error.operation() {
            Some(_) => error,
            None => error.with_context(super::NAME, OPERATION),
        });
        watcher.is_over = item.is_err();
        Some((item, watcher))
    }))
}

struct Watcher {
    session: Arc<Session>,
    pushes: Arc<Pushes>,
    target: Target,
    live: Option<Live>,
    is_over: bool,
}

struct Live {
    wanted: Wanted,
    lists: Lists,
    pushed: watch::Receiver<i64>,
    fetched: Instant,
}

impl Watcher {
    async fn next(&mut self) -> Result<Event, Error> {
        let config = self.session.config();
        if let Some(live) = &mut self.live {
            live.due(config.poll).await;
        }
        let live = match &mut self.live {
            Some(live) => live,
            live => {
                let wanted = Wanted::of(config, self.session.namespace(), &self.target)?;
                let pushed = self.pushes.changes(&wanted.place.grouped());
                let lists = Lists::new(self.target.service().clone());
                live.insert(Live { wanted, lists, pushed, fetched: Instant::now() })
            }
        };
        live.fetched = Instant::now();
        let subscription = match config.push {
            true => self.pushes.subscription(&self.session.servers().preferred(), config.client_ip).await,
            false => None,
        };
        let listed = self.session.list(OPERATION, &live.wanted, subscription.as_ref(), None).await?;
        let News { changes, rejected } = live.lists.take_body(listed.api, &listed.answer.body)?;
        let mut event = Event::new(changes, None, Evidence::default());
        event.evidence.endpoint = Some(listed.answer.server);
        event.rejected = rejected;
        Ok(event)
    }
}

impl Live {
    /// Waits until the list is to be fetched again.
    async fn due(&mut self, every: Duration) {
        let pushed = async {
            if self.pushed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep_until(self.fetched + every) => {}
            () = pushed => sleep_until(self.fetched + BETWEEN).await,
        }
    }
}
