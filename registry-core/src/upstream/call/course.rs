//! What a call decides: whether to try again, where, and what to say at last.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    CallOptions,
    flight::{Ended, Verdict, later},
};
use crate::{
    Error, ErrorKind, metrics,
    model::{Instance, InstanceKey, Status},
    upstream::{
        AttemptCause, CallError, Exhaustion, FailedAttempt, Picked, TimeLimit, Upstream, unusable::NoneUsable,
    },
};

/// One call: what it has tried, and what it may still try.
pub(super) struct Course<'a, E> {
    upstream: &'a Upstream,
    options: &'a CallOptions,
    /// When the whole call is over.
    end: Option<Instant>,
    started: u32,
    in_flight: u32,
    /// Instances of attempts that failed; with hedging, of those in flight too.
    tried: Vec<InstanceKey>,
    failed: Vec<FailedAttempt<E>>,
    /// The attempt after which no further one is to be made, while others are in flight.
    stopped: Option<(Arc<Instance>, E, Duration)>,
    hedge_at: Option<Instant>,
    /// Numbers of the attempts that are hedges.
    hedges: Vec<u32>,
}

/// What to do next.
pub(super) enum Step<T> {
    Answer(T),
    /// Start an attempt here.
    Another(Picked),
    /// Go on with what is in flight.
    Wait,
}

impl<'a, E> Course<'a, E> {
    pub(super) fn new(upstream: &'a Upstream, options: &'a CallOptions) -> Self {
        let end = options.timeout.map(|timeout| later(Instant::now(), timeout));
        Self {
            upstream,
            options,
            end,
            started: 0,
            in_flight: 0,
            tried: Vec::new(),
            failed: Vec::new(),
            stopped: None,
            hedge_at: None,
            hedges: Vec::new(),
        }
    }

    /// When the whole call is over, if it has a limit.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }

    /// When an attempt may join those in flight.
    pub(super) fn hedge_at(&self) -> Option<Instant> {
        self.hedge_at
    }

    /// Where the first attempt goes. Earns a share of a retry.
    pub(super) async fn first(&mut self) -> Result<Picked, CallError<E>> {
        let (upstream, options) = (self.upstream, self.options);
        let wait = options.timeout.map_or(options.wait, |timeout| timeout.min(options.wait));
        let mut waited = Ok(());
        if !wait.is_zero() && upstream.snapshot().usable_len() == 0 {
            waited = upstream.ready_within(1, wait).await;
        }
        if let Some(limit) = self.time_over(Instant::now()) {
            if let Err(error) = waited {
                tracing::debug!(
                    error = format!("{error:#}"),
                    "the call's time went into waiting for an instance"
                );
            }
            return Err(CallError::TimedOut { limit, attempts: Vec::new() });
        }
        // The error of the wait also says how long it was.
        let picked = self.pick().map_err(|error| CallError::NoInstance(waited.err().unwrap_or(error)))?;
        // Only requests find out whether the ejected are well again, be they all.
        if options.usable_only
            && !picked.is_probe()
            && let Some(none) = self.none_usable()
        {
            return Err(CallError::NoneUsable(none));
        }
        self.upstream.shared.budget.earn(Instant::now());
        Ok(picked)
    }

    /// Notes that an attempt is about to start; its number, from 1.
    pub(super) fn started(&mut self, picked: &Picked) -> u32 {
        self.started += 1;
        self.in_flight += 1;
        if self.options.hedge_delay().is_some() {
            self.note_tried(picked.key());
        }
        let may_grow = self.started < self.options.attempts && self.in_flight <= self.options.hedges;
        self.hedge_at =
            self.options.hedge_delay().filter(|_| may_grow).map(|delay| later(Instant::now(), delay));
        self.started
    }

    /// An attempt has ended: what now?
    pub(super) fn ended<T>(&mut self, ended: Ended<T, E>) -> Result<Step<T>, CallError<E>> {
        self.in_flight -= 1;
        let Ended { number, instance, latency, verdict } = ended;
        metrics::attempted(self.upstream.service(), verdict.word(), latency);
        let (cause, may_repeat) = match verdict {
            Verdict::Answer(answer) => {
                if self.hedges.contains(&number) {
                    metrics::hedge_won(self.upstream.service());
                }
                return Ok(Step::Answer(answer));
            }
            Verdict::Stop(cause) => {
                if let Some((instance, cause, latency)) = self.stopped.take() {
                    self.note_failed(instance, AttemptCause::Failed(cause), latency);
                }
                return Err(self.stop(instance, cause));
            }
            Verdict::Yield(cause) => {
                self.hedge_at = None;
                // The first one's word counts.
                if self.stopped.is_none() {
                    self.stopped = Some((instance, cause, latency));
                } else {
                    self.note_failed(instance, AttemptCause::Failed(cause), latency);
                }
                return self.rest();
            }
            Verdict::Retry(cause) => (AttemptCause::Failed(cause), true),
            Verdict::TimedOut | Verdict::OutOfTime => (AttemptCause::TimedOut, self.options.idempotent),
        };
        let key = instance.key();
        tracing::debug!(instance = %key, ?latency, timeout = matches!(cause, AttemptCause::TimedOut), "attempt failed");
        self.note_tried(key);
        self.note_failed(instance, cause, latency);
        if self.stopped.is_some() {
            return self.rest();
        }
        let because = match self.another(may_repeat) {
            Ok(picked) => {
                metrics::retried(self.upstream.service());
                return Ok(Step::Another(picked));
            }
            Err(_) if self.in_flight > 0 => return Ok(Step::Wait),
            Err(because) => because,
        };
        let attempts = std::mem::take(&mut self.failed);
        Err(match because {
            Refusal::Time(limit) => CallError::TimedOut { limit, attempts },
            Refusal::Exhausted(because) => CallError::Exhausted { attempts, because },
        })
    }

    /// No further attempt is to be made: those in flight may still be answered.
    fn rest<T>(&mut self) -> Result<Step<T>, CallError<E>> {
        match self.stopped.take_if(|_| self.in_flight == 0) {
            Some((instance, cause, _)) => Err(self.stop(instance, cause)),
            None => Ok(Step::Wait),
        }
    }

    fn stop(&mut self, instance: Arc<Instance>, cause: E) -> CallError<E> {
        CallError::Stopped { instance, cause, earlier: std::mem::take(&mut self.failed) }
    }

    /// The attempts in flight are slow: another one joins them, if it may.
    pub(super) fn hedge<T>(&mut self) -> Step<T> {
        self.hedge_at = None;
        if !self.options.may_hedge() {
            return Step::Wait;
        }
        match self.another(true) {
            Ok(picked) => {
                tracing::debug!(instance = %picked.key(), "hedging");
                metrics::hedged(self.upstream.service());
                self.hedges.push(self.started + 1);
                Step::Another(picked)
            }
            Err(_) => Step::Wait,
        }
    }

    /// Another instance, or why there is to be no other attempt.
    fn another(&mut self, may_repeat: bool) -> Result<Picked, Refusal> {
        let now = Instant::now();
        if let Some(limit) = self.time_over(now) {
            return Err(Refusal::Time(limit));
        }
        if let (Some(timeout), false) = (self.options.per_try_timeout, may_repeat) {
            return Err(Refusal::Time(TimeLimit::Attempt(timeout)));
        }
        if self.started >= self.options.attempts {
            return Err(Refusal::Exhausted(Exhaustion::Attempts));
        }
        let budget = &self.upstream.shared.budget;
        if !budget.spend(now) {
            metrics::budget_spent(self.upstream.service());
            return Err(Refusal::Exhausted(Exhaustion::Budget));
        }
        let because = match self.pick() {
            Ok(picked) if self.suits(&picked) => return Ok(picked),
            Ok(_) => Exhaustion::Instances,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "no further attempt");
                // Something was known for the first attempt, so this isn't a view that is yet to come.
                if error.kind() == ErrorKind::NotReady { Exhaustion::Expired } else { Exhaustion::Instances }
            }
        };
        budget.refund(now);
        Err(Refusal::Exhausted(because))
    }

    /// The limit of the whole call, if that is over.
    fn time_over(&self, now: Instant) -> Option<TimeLimit> {
        self.end.filter(|end| now >= *end).and(self.options.timeout).map(TimeLimit::Call)
    }

    fn pick(&self) -> Result<Picked, Error> {
        self.upstream.pick_with(&self.options.context(&self.tried))
    }

    /// Whether to make a further attempt here. One instance isn't asked twice at the same time, nor one that doesn't
    /// serve while another may still answer; but one after the other they are, if there is no other.
    fn suits(&self, picked: &Picked) -> bool {
        let is_repeated = self.in_flight > 0 && self.tried.contains(&picked.key());
        let may_be_any = !self.options.usable_only && self.in_flight == 0;
        let is_usable = picked.status() == Status::Serving || may_be_any;
        !is_repeated && is_usable
    }

    fn note_tried(&mut self, key: InstanceKey) {
        if !self.tried.contains(&key) {
            self.tried.push(key);
        }
    }

    fn note_failed(&mut self, instance: Arc<Instance>, cause: AttemptCause<E>, latency: Duration) {
        self.failed.push(FailedAttempt { instance, cause, latency });
    }

    fn none_usable(&self) -> Option<NoneUsable> {
        let upstream = self.upstream;
        NoneUsable::find(upstream.service(), &upstream.snapshot(), || upstream.shared.standing())
    }
}

/// Why there is no further attempt.
enum Refusal {
    Time(TimeLimit),
    Exhausted(Exhaustion),
}
