//! The reflector as a pure transition function: what to do about each input, at each moment.
//!
//! ```text
//!             due                      first event
//!   Waiting ───────► Opening ─────────────────────────► Live
//!      ▲                │ error, end, 5 s                 │ error, end, silence, suspended machine
//!      └── backoff ─────┘                                 │
//!      └── spread 0..min(3 s, ttl/6), then backoff ───────┘
//! ```
//!
//! One watch session at a time. A session is resumed by cursor while its end was mere loss of contact, and opened
//! afresh otherwise; either way what is known is served until the new session's first event is there, and only the
//! difference is published. Errors never change the set: that is [`Guard`]'s, and only answers reach it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    config::{MAX_INSTANCES, ReflectorConfig, ShrinkGuard},
    guard::{Guard, Standing},
    lookups::Lookups,
    reconnect::{Reached, Reconnect, can_resume},
    signal::{Action, Input},
    status::{JUST_AFTER, Limits, Loaded, Moment, Status},
};
use crate::{
    Error, ErrorKind, ViewEvent, ViewState,
    backend::{Capabilities, Change, Consistency, Cursor, Delivery, Event, Listing, Read},
    backoff::BLOCKED_RETRY,
    disk::{SaveSchedule, Stored},
    view::ViewChange,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting { until: Instant },
    Opening { session: u64, until: Instant, resuming: bool },
    Live { session: u64 },
}

/// All that one reflector knows.
#[derive(Clone, Debug)]
pub(super) struct State {
    config: ReflectorConfig,
    limits: Limits,
    polled: bool,
    pub(super) phase: Phase,
    sessions: u64,
    pub(super) cursor: Option<Cursor>,
    /// The endpoint that gave the last list: a second opinion should come from another.
    listed_by: Option<Arc<str>>,
    /// Last item of the live session.
    pub(super) heard: Instant,
    pub(super) guard: Guard,
    /// Raised with everything applied; an answer asked for before is older than what is known.
    pub(super) generation: u64,
    pub(super) lookups: Lookups,
    pub(super) reconnect: Reconnect,
    status: Status,
    told: ViewState,
    disk: Option<Disk>,
    started: Instant,
    pub(super) last: Moment,
    pub(super) rng: fastrand::Rng,
    actions: Vec<Action>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    stored: Option<Stored>,
    saves: SaveSchedule,
}

impl State {
    pub(super) fn new(config: ReflectorConfig, capabilities: &Capabilities, disk: bool, now: Moment) -> Self {
        let (polled, guard) = match (capabilities.delivery, config.shrink_guard) {
            (Delivery::Poll { every }, ShrinkGuard::Hold(hold)) => {
                (true, ShrinkGuard::Hold(hold.max(2 * every)))
            }
            (Delivery::Poll { .. }, guard) => (true, guard),
            (Delivery::Watch | Delivery::LongPoll, guard) => (false, guard),
        };
        Self {
            limits: Limits { proof_within: capabilities.proof_within, max_staleness: config.max_staleness },
            polled,
            phase: Phase::Waiting { until: now.mono },
            sessions: 0,
            cursor: None,
            listed_by: None,
            heard: now.mono,
            guard: Guard::new(guard, config.ttl),
            generation: 0,
            lookups: Lookups::new(config.relist_every),
            reconnect: Reconnect::new(config.ttl),
            status: Status::new(),
            told: ViewState::Loading,
            disk: disk.then(Disk::default),
            started: now.mono,
            last: now,
            rng: config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            actions: if disk { vec![Action::LoadDisk] } else { Vec::new() },
            config,
        }
    }

    /// Takes one input in and says what is to be done about it.
    pub(super) fn step(&mut self, input: Input, now: Moment) -> Vec<Action> {
        self.notice_suspension(now);
        match input {
            Input::Tick => {}
            Input::Watched { session, items } => self.watched(session, items, now),
            Input::Ended { session } => self.ended(session, now),
            Input::Listed { id, answer } => self.listed(id, answer, now),
            Input::DiskLoaded(stored) => {
                if let Some(disk) = &mut self.disk {
                    disk.stored = stored.filter(|stored| !stored.instances.is_empty());
                }
            }
            Input::DiskSaved(saved) => {
                if let Some(disk) = &mut self.disk {
                    disk.saves.end(saved, now.mono);
                }
            }
            Input::Failed(key) => self.guard.fail(&key),
        }
        self.run_timers(now);
        self.publish(now);
        std::mem::take(&mut self.actions)
    }

    /// When time alone changes something.
    pub(super) fn next_deadline(&self, now: Moment) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Waiting { until } | Phase::Opening { until, .. } => until,
            Phase::Live { .. } => self.silent_at(),
        };
        let disk = self.disk.as_ref();
        let waits_for_disk = self.status.loaded == Loaded::No && disk.is_some_and(|d| d.stored.is_some());
        [
            Some(phase),
            self.status.next_edge(self.limits, now),
            self.guard.next_end().filter(|_| self.is_fresh(now)),
            self.lookups.next(self.guard.next_confirm(), self.is_live()),
            waits_for_disk.then(|| self.started + self.config.initial_timeout),
            disk.and_then(|disk| disk.saves.next()).filter(|_| self.status.loaded == Loaded::Registry),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// The state that was last told to subscribers.
    pub(super) fn told(&self) -> ViewState {
        self.told
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// See [`Guard::census`].
    pub(super) fn census(&self) -> [usize; 4] {
        self.guard.census()
    }

    pub(super) fn everything(&self) -> ViewChange {
        self.guard.everything()
    }

    /// What is still to be saved when the reflector ends.
    pub(super) fn unsaved(&self) -> Option<Stored> {
        let disk = self.disk.as_ref()?;
        (self.status.loaded == Loaded::Registry && disk.saves.is_dirty()).then(|| self.to_stored())
    }

    /// Whether a view from disk waits for its hour.
    pub(super) fn may_serve_disk(&self) -> bool {
        self.disk.is_some() && self.status.loaded == Loaded::No
    }

    // === the session ===

    fn open(&mut self, now: Moment) {
        self.sessions += 1;
        let session = self.sessions;
        let until = now.mono + self.config.open_within;
        self.phase = Phase::Opening { session, until, resuming: self.cursor.is_some() };
        self.actions.push(Action::Open { session, cursor: self.cursor.clone() });
    }

    fn watched(&mut self, session: u64, items: Vec<Result<Event, Error>>, now: Moment) {
        for item in items {
            if self.session() != Some(session) {
                return;
            }
            match item.and_then(|event| self.take_event(event, session, now)) {
                Ok(()) => {}
                Err(error) => self.fail_session(error, now),
            }
        }
    }

    fn ended(&mut self, session: u64, now: Moment) {
        if self.session() == Some(session) {
            self.fail_session(Error::new(ErrorKind::Unavailable, "the watch session ended"), now);
        }
    }

    /// Applies one event, or says why the session can't go on.
    fn take_event(&mut self, mut event: Event, session: u64, now: Moment) -> Result<(), Error> {
        if let Phase::Opening { resuming, .. } = self.phase {
            match event.changes.first() {
                Some(Change::Reset(_)) => {}
                Some(Change::Resumed) if resuming => {}
                // A connection that merely lives proves nothing about the list.
                None => return Ok(()),
                Some(_) => {
                    return Err(Error::new(ErrorKind::Protocol, "the watch session didn't open with a list"));
                }
            }
        }
        let lists = event.changes.iter().any(|change| matches!(change, Change::Reset(_)));
        let mut changes = std::mem::take(&mut event.changes);
        match self.guard.standing(&event.evidence) {
            Standing::Current => {
                self.guard.advance(&event.evidence);
                self.status.partial = event.evidence.partial;
            }
            Standing::Older | Standing::Foreign if lists => {
                self.guard.begin_incarnation(&event.evidence, now.mono);
                self.status.partial = event.evidence.partial;
            }
            // The list that is already in the view holds these, or undoes them (N9); the next session goes on from
            // where the view stands, not from here.
            Standing::Older => {
                changes.clear();
                event.cursor = None;
            }
            Standing::Foreign => {
                return Err(Error::new(ErrorKind::Compacted, "the registry's data started anew"));
            }
        }
        self.live(session, event.evidence.age, now);
        self.cursor = event.cursor.or_else(|| self.cursor.take().filter(|_| !lists));
        for change in changes {
            self.generation += 1;
            match change {
                Change::Reset(instances) => {
                    self.guard.list(&instances, &event.rejected, now.mono);
                    self.lookups.listed(now.mono, &mut self.rng);
                    self.listed_by.clone_from(&event.evidence.endpoint);
                    self.status.loaded = Loaded::Registry;
                }
                Change::Resumed => {}
                Change::Upsert(instance) => self.guard.upsert(&instance),
                Change::Remove(key) => self.guard.remove(&key, now.mono),
            }
        }
        self.guard.reject(&event.rejected);
        Ok(())
    }

    fn live(&mut self, session: u64, age: Duration, now: Moment) {
        if matches!(self.phase, Phase::Opening { .. }) {
            self.phase = Phase::Live { session };
            self.reconnect.succeed(now.mono);
            self.status.last_error = None;
        }
        self.heard = now.mono;
        self.prove(age, now);
    }

    fn prove(&mut self, age: Duration, now: Moment) {
        self.status.connected = true;
        self.status.proof = Some(now.earlier(age));
    }

    fn fail_session(&mut self, error: Error, now: Moment) {
        let reached = match self.phase {
            Phase::Live { .. } => Reached::Live,
            Phase::Opening { resuming: true, .. } => Reached::Resuming,
            Phase::Opening { resuming: false, .. } | Phase::Waiting { .. } => Reached::Opening,
        };
        let pause = self.reconnect.fail(&error, reached, now.mono, &mut self.rng);
        self.phase = Phase::Waiting { until: now.mono + pause };
        self.actions.push(Action::Close);
        if !can_resume(&error) {
            self.cursor = None;
        }
        if error.kind() == ErrorKind::NotFound {
            return self.not_found(now);
        }
        // A single failed poll loses nothing that the next one doesn't bring; a broken watch does.
        self.status.connected &= self.polled;
        self.status.last_error = Some(error);
    }

    /// "No such service" is an answer (N7): an implied empty list.
    fn not_found(&mut self, now: Moment) {
        self.generation += 1;
        self.guard.list(&[], &[], now.mono);
        self.status.loaded = Loaded::Registry;
        self.status.last_error = None;
        self.prove(Duration::ZERO, now);
    }

    /// Timers stand still while the machine is suspended, and connections seldom survive it: only the wall shows.
    fn notice_suspension(&mut self, now: Moment) {
        let mono = now.mono.saturating_duration_since(self.last.mono);
        let wall = now.wall.saturating_sub(self.last.wall);
        self.last = now;
        if self.is_live() && wall > mono + self.limits.proof_within {
            self.fail_session(Error::new(ErrorKind::Unavailable, "the machine was suspended"), now);
        }
    }

    // === lookups ===

    fn listed(&mut self, id: u64, answer: Result<Listing, Error>, now: Moment) {
        let Some(asked) = self.lookups.answered(id) else { return };
        let listing = match answer {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => Listing::default(),
            Err(error) => {
                let wished = error.retry_after().unwrap_or_default().min(BLOCKED_RETRY);
                self.lookups.retry(asked, wished, now.mono, &mut self.rng);
                self.status.last_error = Some(error);
                return;
            }
        };
        // Without revisions only the order of asking and applying tells which is older (N10).
        let outdated = !self.guard.is_comparable(&listing.evidence) && asked.generation != self.generation;
        match self.guard.standing(&listing.evidence) {
            Standing::Current if !outdated => {}
            Standing::Foreign if self.is_live() && !asked.confirms => {
                self.lookups.retry(asked, Duration::ZERO, now.mono, &mut self.rng);
                let error = Error::new(ErrorKind::Compacted, "the registry's data started anew");
                return self.fail_session(error, now);
            }
            Standing::Current | Standing::Older | Standing::Foreign => {
                return self.lookups.retry(asked, Duration::ZERO, now.mono, &mut self.rng);
            }
        }
        self.generation += 1;
        self.guard.advance(&listing.evidence);
        if asked.confirms {
            self.guard.confirm(&listing.instances, &listing.rejected, asked.at, now.mono);
        } else {
            self.guard.list(&listing.instances, &listing.rejected, now.mono);
        }
        self.status.partial = listing.evidence.partial;
        self.listed_by.clone_from(&listing.evidence.endpoint);
        self.lookups.listed(now.mono, &mut self.rng);
        self.status.last_error = None;
    }

    // === time ===

    fn run_timers(&mut self, now: Moment) {
        match self.phase {
            Phase::Waiting { until } if now.mono >= until => self.open(now),
            Phase::Opening { until, .. } if now.mono >= until => {
                self.fail_session(
                    Error::new(ErrorKind::Timeout, "the watch session didn't open in time"),
                    now,
                );
            }
            Phase::Live { .. } if now.mono >= self.silent_at() => {
                let error = Error::new(ErrorKind::Timeout, "the watch session gave no sign of life in time");
                self.fail_session(error, now);
            }
            Phase::Waiting { .. } | Phase::Opening { .. } | Phase::Live { .. } => {}
        }
        self.serve_disk(now);
        // A registry that said something odd and fell silent isn't believed before it speaks again.
        if self.is_fresh(now) {
            self.guard.expire(now.mono);
        }
        self.ask(now);
        self.save(now);
    }

    fn ask(&mut self, now: Moment) {
        let confirm_from = self.guard.next_confirm();
        if self.lookups.next(confirm_from, self.is_live()).is_none_or(|at| at > now.mono) {
            return;
        }
        let asked = self.lookups.ask(confirm_from, self.generation, now.mono);
        let read = if asked.confirms {
            Read::new(Consistency::Strong).avoiding(self.listed_by.clone())
        } else {
            Read::default()
        };
        self.actions.push(Action::Lookup { id: asked.id, read });
    }

    fn serve_disk(&mut self, now: Moment) {
        if self.status.loaded != Loaded::No || now.mono < self.started + self.config.initial_timeout {
            return;
        }
        let Some(stored) = self.disk.as_mut().and_then(|disk| disk.stored.take()) else { return };
        self.guard.restore(&stored);
        self.status.proof = Some(Moment { mono: now.mono, wall: stored.written_at });
        self.status.loaded = Loaded::Disk;
    }

    fn save(&mut self, now: Moment) {
        if self.status.loaded != Loaded::Registry {
            return;
        }
        let is_fresh = self.is_fresh(now);
        let Some(disk) = &mut self.disk else { return };
        if disk.saves.next().is_none_or(|at| at > now.mono) {
            return;
        }
        // An unchanged view that nobody proved since would only get the same date again.
        if !disk.saves.is_dirty() && !is_fresh {
            return disk.saves.skip(now.mono);
        }
        disk.saves.begin(now.mono);
        let stored = self.to_stored();
        self.actions.push(Action::SaveDisk(stored));
    }

    fn to_stored(&self) -> Stored {
        Stored {
            instances: self.guard.instances().take(MAX_INSTANCES).cloned().collect(),
            source: self.guard.source().cloned(),
            revision: self.guard.revision(),
            written_at: self.status.proof.map_or(self.last.wall, |proof| proof.wall),
        }
    }

    // === outwards ===

    fn publish(&mut self, now: Moment) {
        let change = self.guard.take_change();
        let is_first = self.told == ViewState::Loading && self.status.loaded != Loaded::No;
        if let Some(disk) = &mut self.disk
            && self.status.loaded == Loaded::Registry
            && (change.is_some() || is_first)
        {
            disk.saves.change(now.mono);
        }
        if let Some(change) = change.or_else(|| is_first.then(|| self.guard.nothing())) {
            self.actions.push(Action::Apply(change));
        }
        self.actions.extend(self.guard.take_events().into_iter().map(Action::Emit));
        self.status.source = self.guard.source().cloned();
        self.status.held = self.guard.held();
        self.status.rejected = self.guard.rejected();
        let state = self.status.state(self.limits, now);
        if state != self.told {
            self.told = state;
            self.actions.extend(
                match state {
                    ViewState::Loading => None,
                    ViewState::Disk => Some(ViewEvent::SourceDegraded),
                    ViewState::Fresh => Some(ViewEvent::Fresh),
                    ViewState::Stale => Some(ViewEvent::Stale),
                    ViewState::Expired => Some(ViewEvent::Expired),
                }
                .map(Action::Emit),
            );
        }
    }

    // === what is ===

    fn session(&self) -> Option<u64> {
        match self.phase {
            Phase::Waiting { .. } => None,
            Phase::Opening { session, .. } | Phase::Live { session } => Some(session),
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.status.state(self.limits, now) == ViewState::Fresh
    }

    fn silent_at(&self) -> Instant {
        self.heard + self.limits.proof_within + JUST_AFTER
    }
}
