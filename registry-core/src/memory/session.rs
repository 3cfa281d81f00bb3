//! The registry's end of a watch: a mailbox per open session.
//!
//! Changes are put into the mailboxes as they are committed, so that faults of delivery (late, doubled, swapped,
//! invented events) hit each session alike and never touch the data.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Operation,
    history::{Commit, Fact, HISTORY},
    store::State,
};
use crate::{
    backend::{Change, Cursor, Event},
    model::ServiceName,
};

/// How many events one session may have waiting: a whole history to catch up with, and as much again meanwhile.
const MAILBOX: usize = 2 * HISTORY;

pub(super) type SessionId = u64;

/// What an open watch does next.
pub(super) enum Step {
    Deliver(Event),
    /// The registry went away.
    Closed,
    /// The mailbox was full.
    Overrun,
    Wait(Option<Instant>),
}

/// The registry's end of one open watch.
pub(super) struct Session {
    service: ServiceName,
    connection: u64,
    mailbox: VecDeque<Letter>,
    /// Held back to be delivered after its successor.
    swapped: Option<Event>,
    overrun: bool,
    /// Where the session stands once everything in the mailbox is delivered; then signs of life move it on.
    delivered: u64,
}

struct Letter {
    due: Instant,
    event: Event,
}

impl State {
    pub(super) fn open_session(
        &mut self,
        service: &ServiceName,
        cursor: Option<&Cursor>,
        now: Instant,
    ) -> SessionId {
        let resumed = cursor.and_then(|cursor| self.resume_point(cursor));
        let mut mailbox = VecDeque::new();
        match resumed {
            Some(from) => {
                let opening = Event::new(vec![Change::Resumed], Some(self.cursor(from)), self.evidence(from));
                mailbox.push_back(Letter { due: now, event: opening });
                let missed = self.history.iter().filter(|commit| commit.revision > from);
                mailbox.extend(
                    missed
                        .filter_map(|commit| self.event_for(service, commit))
                        .map(|event| Letter { due: now, event }),
                );
            }
            None => {
                let (instances, rejected) = self.listing(service);
                let mut event = self.event(vec![Change::Reset(instances)]);
                event.rejected = rejected;
                mailbox.push_back(Letter { due: now, event });
            }
        }
        self.last_session += 1;
        let session = Session {
            service: service.clone(),
            connection: self.connection,
            mailbox,
            swapped: None,
            overrun: false,
            delivered: resumed.unwrap_or(self.revision),
        };
        self.sessions.insert(self.last_session, session);
        self.version += 1;
        self.last_session
    }

    pub(super) fn close_session(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.version += 1;
    }

    pub(super) fn step_session(&mut self, id: SessionId, sign_of_life: Instant, now: Instant) -> Step {
        let (revision, holds) = (self.revision, self.faults.holds(Operation::Watch));
        let next_expiry = self.next_expiry();
        let Some(session) = self.sessions.get_mut(&id) else { return Step::Closed };
        if session.connection != self.connection {
            return Step::Closed;
        }
        if session.overrun {
            return Step::Overrun;
        }
        if holds {
            return Step::Wait(None);
        }
        if session.mailbox.front().is_some_and(|letter| letter.due <= now)
            && let Some(letter) = session.mailbox.pop_front()
        {
            session.delivered = session.delivered.max(letter.event.evidence.revision.unwrap_or_default());
            return Step::Deliver(letter.event);
        }
        if sign_of_life <= now {
            // Its cursor must not run ahead of what is still under way.
            if session.mailbox.is_empty() && session.swapped.is_none() {
                session.delivered = revision;
            }
            let at = session.delivered;
            return Step::Deliver(Event::new(Vec::new(), Some(self.cursor(at)), self.evidence(at)));
        }
        let due = session.mailbox.front().map(|letter| letter.due);
        Step::Wait([due, next_expiry, Some(sign_of_life)].into_iter().flatten().min())
    }

    /// Tells every open session of the service what was committed.
    pub(super) fn announce(&mut self, commit: &Commit, now: Instant) {
        let mut sessions = std::mem::take(&mut self.sessions);
        for session in sessions.values_mut() {
            if let Some(event) = self.event_for(&session.service, commit) {
                self.post(session, event, now);
            }
        }
        self.sessions = sessions;
    }

    /// Tells every open session of the service something that isn't in the data.
    pub(super) fn inject(&mut self, service: &ServiceName, event: &Event, now: Instant) {
        let mut sessions = std::mem::take(&mut self.sessions);
        for session in sessions.values_mut().filter(|session| session.service == *service) {
            self.post(session, event.clone(), now);
        }
        self.sessions = sessions;
        self.version += 1;
    }

    /// Delivers what [`swap`](super::call::Delivery::swap) still holds back.
    pub(super) fn release_swapped(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            if let Some(event) = session.swapped.take() {
                session.push(event, now);
            }
        }
    }

    /// The events of a service in the history, oldest first, as they were delivered.
    pub(super) fn past_events(&self, service: &ServiceName) -> Vec<Event> {
        self.history.iter().filter_map(|commit| self.event_for(service, commit)).collect()
    }

    fn post(&self, session: &mut Session, event: Event, now: Instant) {
        let delivery = &self.faults.delivery;
        let due = now.checked_add(delivery.late).unwrap_or(now + Duration::from_secs(365 * 86_400));
        if delivery.swap {
            match session.swapped.take() {
                None => session.swapped = Some(event),
                Some(held) => {
                    session.push(event, due);
                    session.push(held, due);
                }
            }
            return;
        }
        if delivery.double {
            session.push(event.clone(), due);
        }
        session.push(event, due);
    }

    fn event_for(&self, service: &ServiceName, commit: &Commit) -> Option<Event> {
        let mut changes = Vec::new();
        let mut rejected = Vec::new();
        for fact in commit.facts.iter().filter(|fact| fact.service() == service) {
            match fact {
                Fact::Put(instance) => changes.push(Change::Upsert(Arc::clone(instance))),
                Fact::Gone(key) => changes.push(Change::Remove(key.clone())),
                Fact::Garbage(key) => rejected.push(key.clone()),
            }
        }
        if changes.is_empty() && rejected.is_empty() {
            return None;
        }
        let mut event =
            Event::new(changes, Some(self.cursor(commit.revision)), self.evidence(commit.revision));
        event.rejected = rejected;
        Some(event)
    }
}

impl Session {
    fn push(&mut self, event: Event, due: Instant) {
        if self.mailbox.len() >= MAILBOX {
            // As a real server does: the watcher is told that it missed something, never left with a gap.
            self.overrun = true;
            self.mailbox.clear();
            return;
        }
        self.mailbox.push_back(Letter { due, event });
    }
}
