//! A bounded stream of events that a slow reader can't overrun.
//!
//! Every reader has a queue of its own. When it is full the oldest half makes room and the reader is told how many
//! it missed: state can always be read elsewhere, so a gap costs detail, never truth. Writers never wait.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

/// Events a reader may be behind before it loses some.
pub(crate) const CAPACITY: usize = 1024;

/// The writing side.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    readers: Mutex<Vec<Weak<Mailbox<T>>>>,
    closed: std::sync::atomic::AtomicBool,
}

/// The reading side: yields events, or how many were missed; ends when the feed is closed or dropped.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    mailbox: Arc<Mailbox<T>>,
}

#[derive(Debug)]
struct Mailbox<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<T> {
    Event(T),
    Lagged(u64),
}

impl<T: Clone> Feed<T> {
    pub(crate) fn new() -> Self {
        Self { readers: Mutex::new(Vec::new()), closed: false.into() }
    }

    /// A reader of everything from now on.
    pub(crate) fn subscribe(&self) -> Reader<T> {
        let mut readers = lock(&self.readers);
        let closed = self.closed.load(std::sync::atomic::Ordering::SeqCst);
        let state = State { queue: VecDeque::new(), missed: 0, closed, waker: None };
        let mailbox = Arc::new(Mailbox { state: Mutex::new(state) });
        // Under the lock that closing takes, or a reader could slip in behind it and never end.
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&mailbox));
        Reader { mailbox }
    }

    /// Gives the event to every reader; never waits.
    pub(crate) fn send(&self, event: &T) {
        for mailbox in lock(&self.readers).iter().filter_map(Weak::upgrade) {
            mailbox.edit(|state| {
                if state.queue.len() >= CAPACITY {
                    let dropped = state.queue.drain(..CAPACITY / 2).count();
                    state.missed += dropped as u64;
                }
                state.queue.push_back(event.clone());
            });
        }
    }

    /// Ends every reader once it has read what is queued.
    pub(crate) fn close(&self) {
        self.closed.store(true, std::sync::atomic::Ordering::SeqCst);
        for mailbox in lock(&self.readers).drain(..).filter_map(|reader| reader.upgrade()) {
            mailbox.edit(|state| state.closed = true);
        }
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        for mailbox in lock(&self.readers).drain(..).filter_map(|reader| reader.upgrade()) {
            mailbox.edit(|state| state.closed = true);
        }
    }
}

impl<T> Mailbox<T> {
    fn edit(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Stream for Reader<T> {
    type Item = Item<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.mailbox.state);
        if state.missed > 0 {
            return Poll::Ready(Some(Item::Lagged(std::mem::take(&mut state.missed))));
        }
        if let Some(event) = state.queue.pop_front() {
            return Poll::Ready(Some(Item::Event(event)));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A poisoned lock only means that some reader panicked between two complete edits.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn every_reader_gets_every_event_in_order() {
        let feed = Feed::new();
        let (mut a, mut b) = (feed.subscribe(), feed.subscribe());
        feed.send(&1);
        feed.send(&2);
        feed.close();
        for reader in [&mut a, &mut b] {
            assert_eq!(reader.next().await, Some(Item::Event(1)));
            assert_eq!(reader.next().await, Some(Item::Event(2)));
            assert_eq!(reader.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_missed_and_gets_the_newest() {
        let feed = Feed::new();
        let mut reader = feed.subscribe();
        for event in 0..10_000_usize {
            feed.send(&event);
        }
        let Some(Item::Lagged(missed)) = reader.next().await else { panic!("expected a gap") };
        let mut seen = 0;
        let mut newest = 0;
        feed.close();
        while let Some(Item::Event(event)) = reader.next().await {
            seen += 1;
            newest = event;
        }
        assert_eq!(missed + seen, 10_000);
        assert_eq!(newest, 9_999);
        assert!(seen <= CAPACITY as u64);
    }

    #[tokio::test]
    async fn a_reader_of_a_closed_feed_ends_at_once() {
        let feed = Feed::<u8>::new();
        feed.close();
        assert_eq!(feed.subscribe().next().await, None);
    }
}
