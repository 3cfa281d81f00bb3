//! One watch session: a list at once, then one at each interval, and one soon after each push.
//!
//! ```text
//!   Start ─▶ list, Reset ─▶ wait ──interval or push──▶ list ─▶ changes or a sign of life ─▶ wait
//!                                                       └─ failed ─▶ Err, Over
//! ```
//!
//! No push makes an interval longer. Nothing tells a service in which nothing happens from one whose packets don't arrive
//! any more, so the interval is what bounds the age of a view, and what proves that the servers are there; Nacos' own
//! clients let it grow to a minute after a push and lose that.
//!
//! - The first interval, and the one after a push, is cut to a half at most, at random, so that watches that begin
//!   together, as all do after a server's restart, or that one push woke, don't ask together for ever.
//! - Packets whose list turns out to bring nothing are believed ever more slowly, until one does: anybody can send them.

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
    eras::Eras,
    lists::{Lists, News},
    names::Wanted,
    push::Pushes,
    session::Session,
};

const OPERATION: &str = "watch";
/// Lists are at least so far apart, however many packets claim that something has changed. Doubled with each that was
/// wrong in a row, up to the interval.
const BETWEEN: Duration = Duration::from_millis(200);
/// How often that doubles at most: the longest interval is 60 s.
const DOUBLINGS: u32 = 9;

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
    /// Of the last list.
    era: u64,
    pushed: watch::Receiver<i64>,
    fetched: Instant,
    /// From that list to the next.
    pause: Duration,
    /// Lists in a row that a push asked for and that brought nothing.
    vain: u32,
}

impl Watcher {
    async fn next(&mut self) -> Result<Event, Error> {
        let config = self.session.config();
        let was_pushed = match &mut self.live {
            Some(live) => live.due(config.poll).await,
            None => false,
        };
        let live = match &mut self.live {
            Some(live) => live,
            live => {
                let wanted = Wanted::of(config, self.session.namespace(), &self.target)?;
                let pushed = self.pushes.changes(&wanted.place.grouped());
                let lists = Lists::new(self.target.service().clone());
                let pause = first_pause(config.poll);
                let era = self.session.era();
                live.insert(Live { wanted, lists, era, pushed, fetched: Instant::now(), pause, vain: 0 })
            }
        };
        live.fetched = Instant::now();
        let subscription = match config.push {
            true => self.pushes.subscription(&self.session.servers().preferred(), config.client_ip).await,
            false => None,
        };
        let listed = self.session.list(OPERATION, &live.wanted, subscription.as_ref(), None).await?;
        let era = self.session.era();
        if std::mem::replace(&mut live.era, era) != era {
            // A session of its own would begin with all there is, too.
            live.lists = Lists::new(self.target.service().clone());
        }
        let News { changes, rejected } = live.lists.take_body(listed.api, &listed.answer.body)?;
        live.vain = if changes.is_empty() { live.vain + u32::from(was_pushed) } else { 0 };
        let mut event = Event::new(changes, None, Evidence::default());
        event.evidence.endpoint = Some(listed.answer.server);
        event.evidence.source = Some(Eras::source(era));
        event.rejected = rejected;
        Ok(event)
    }
}

impl Live {
    /// Waits until the list is to be fetched again; returns whether a push asks for it.
    async fn due(&mut self, every: Duration) -> bool {
        let pushed = async {
            if self.pushed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let polled = self.fetched + std::mem::replace(&mut self.pause, every);
        tokio::select! {
            () = sleep_until(polled) => false,
            () = pushed => {
                let soonest = self.fetched + BETWEEN * 2u32.pow(self.vain.min(DOUBLINGS));
                sleep_until(soonest.min(polled)).await;
                self.pause = first_pause(every);
                true
            }
        }
    }
}

/// The interval after a list that others asked for at the same time.
fn first_pause(every: Duration) -> Duration {
    every.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nacos::NacosConfig;

    fn are_apart(pauses: &[Duration], every: Duration) {
        let mut tenths = [0; 10];
        for pause in pauses {
            assert!(*pause >= every / 2 && *pause <= every, "{pause:?}");
            let tenth = (*pause - every / 2).as_millis() * 10 / (every / 2).as_millis();
            tenths[usize::try_from(tenth).unwrap().min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (50..200).contains(count)), "{tenths:?}");
    }

    #[test]
    fn watches_that_begin_together_part() {
        let every = Duration::from_secs(5);
        are_apart(&(0..1_000).map(|_| first_pause(every)).collect::<Vec<_>>(), every);
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_one_push_woke_together_part_again() {
        let every = Duration::from_secs(5);
        let config: NacosConfig = "nacos://h".parse().unwrap();
        let target = Target::try_from("orders").unwrap();
        let (push, _) = watch::channel(0);
        let mut pauses = Vec::new();
        for _ in 0..1_000 {
            let mut live = Live {
                wanted: Wanted::of(&config, "", &target).unwrap(),
                lists: Lists::new(target.service().clone()),
                era: 0,
                pushed: push.subscribe(),
                fetched: Instant::now(),
                pause: every,
                vain: 0,
            };
            push.send_replace(1);
            assert!(live.due(every).await);
            pauses.push(live.pause);
            live.fetched = Instant::now();
            assert!(!live.due(every).await, "nothing was pushed");
            assert_eq!(live.pause, every, "then at each interval");
        }
        are_apart(&pauses, every);
    }
}
