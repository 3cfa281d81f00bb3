#![doc = include_str!("metrics.md")]

mod emit;
mod level;
mod table;
#[cfg(test)]
mod tests;
mod views;

use std::time::Duration;

pub use self::table::{METRICS, Metric, MetricKind};
pub(crate) use self::{
    emit::describe,
    level::Level,
    views::{ViewFigures, ViewLevels},
};
use self::{
    emit::{Value, count, observe, set},
    table as t,
};
use crate::{
    DrainReport, DrainStage, EjectionCause, ErrorKind, ViewEvent,
    keeper::{Deregistration, LossCause, Phase, RegistrationEvent},
    model::{InstanceKey, ServiceName},
};

// === the lease keeper ===

/// A renewal was answered, or not in time; `wall` is now.
pub(crate) fn renewed(registry: &'static str, result: Result<(), ErrorKind>, wall: Duration) {
    let labels = [("registry", Value::Word(registry))];
    if result.is_ok() {
        set(&t::LEASE_LAST_RENEWAL, &labels, wall.as_secs_f64());
    }
    count(&t::LEASE_RENEWALS, &[labels[0], ("result", outcome(result))], 1);
}

/// Something happened to a registration.
pub(crate) fn registration(registry: &'static str, key: &InstanceKey, event: &RegistrationEvent) {
    let labels = [("registry", Value::Word(registry)), ("service", Value::Service(&key.service))];
    match event {
        RegistrationEvent::Lost { cause, .. } => {
            let cause = match cause {
                LossCause::Expired => "expired",
                LossCause::Revoked => "revoked",
                LossCause::Missing => "missing",
                LossCause::Superseded => "superseded",
                LossCause::Withheld => "withheld",
                LossCause::Failing => "failing",
            };
            count(&t::REGISTRATIONS_LOST, &[labels[0], labels[1], ("cause", Value::Word(cause))], 1);
        }
        RegistrationEvent::Recovered { downtime, .. } => {
            count(&t::REGISTRATIONS_RECOVERED, &labels, 1);
            observe(&t::REGISTRATION_DOWNTIME, &labels, *downtime);
        }
        RegistrationEvent::Blocked { cause } => {
            let kind = Value::Word(word(cause.kind()));
            count(&t::REGISTRATIONS_BLOCKED, &[labels[0], labels[1], ("kind", kind)], 1);
        }
        RegistrationEvent::Deregistered { outcome } => {
            let outcome = match outcome {
                Deregistration::Confirmed => "confirmed",
                Deregistration::TtlWillExpire => "ttl_will_expire",
            };
            count(&t::DEREGISTRATIONS, &[labels[0], labels[1], ("outcome", Value::Word(outcome))], 1);
        }
        RegistrationEvent::Registered { .. }
        | RegistrationEvent::Suspect
        | RegistrationEvent::Cleared
        | RegistrationEvent::LossLasts { .. }
        | RegistrationEvent::KeeperRestarted
        | RegistrationEvent::Lagged { .. } => {}
    }
}

/// A registration is in this phase, until `level` says otherwise.
pub(crate) fn phase(level: &Level, registry: &'static str, service: &ServiceName, phase: Phase) {
    let word = match phase {
        Phase::Registering => "registering",
        Phase::Live => "live",
        Phase::Suspect => "suspect",
        Phase::Lost => "lost",
        Phase::Blocked => "blocked",
        Phase::Deregistering => "deregistering",
        Phase::Absent => return level.clear(),
    };
    let labels = [
        ("registry", Value::Word(registry)),
        ("service", Value::Service(service)),
        ("phase", Value::Word(word)),
    ];
    level.set(&t::REGISTRATIONS, &labels, 1);
}

/// A keeper's task had panicked and was restarted.
pub(crate) fn keeper_restarted(registry: &'static str) {
    count(&t::KEEPER_RESTARTS, &[("registry", Value::Word(registry))], 1);
}

// === the reflector ===

/// A snapshot was published.
pub(crate) fn view_updated(service: &ServiceName) {
    count(&t::VIEW_UPDATES, &[("service", Value::Service(service))], 1);
}

/// A list was asked for and came, or not.
pub(crate) fn relisted(service: &ServiceName, result: Result<(), ErrorKind>) {
    count(&t::VIEW_RELISTS, &[("service", Value::Service(service)), ("result", outcome(result))], 1);
}

/// A watch session ended, with an error or without.
pub(crate) fn watch_broke(service: &ServiceName, kind: Option<ErrorKind>) {
    let kind = Value::Word(kind.map_or("none", word));
    count(&t::VIEW_WATCH_BREAKS, &[("service", Value::Service(service)), ("kind", kind)], 1);
}

/// The view was saved to disk, or couldn't be.
pub(crate) fn view_saved(service: &ServiceName, saved: bool) {
    let result = Value::Word(if saved { "ok" } else { "failed" });
    count(&t::VIEW_SAVES, &[("service", Value::Service(service)), ("result", result)], 1);
}

/// Something happened to a view.
pub(crate) fn view_event(service: &ServiceName, event: &ViewEvent) {
    let word = match event {
        ViewEvent::Fresh => "fresh",
        ViewEvent::Stale => "stale",
        ViewEvent::Expired => "expired",
        ViewEvent::SourceDegraded => "source_degraded",
        ViewEvent::SuspiciousShrink { .. } => "suspicious_shrink",
        ViewEvent::ShrinkApplied { .. } => "shrink_applied",
        ViewEvent::Rejected { .. } => "rejected",
        ViewEvent::Ejected { .. } => "ejected",
        ViewEvent::Restored { .. } => "restored",
        ViewEvent::PanicBegan { .. } => "panic_began",
        ViewEvent::PanicEnded => "panic_ended",
        ViewEvent::Lagged { .. } => return,
    };
    count(&t::VIEW_EVENTS, &[("service", Value::Service(service)), ("event", Value::Word(word))], 1);
}

// === ejection ===

/// Something happened to who is ejected.
pub(crate) fn ejection(service: &ServiceName, event: &ViewEvent) {
    if let ViewEvent::Ejected { cause, .. } = event {
        let cause = match cause {
            EjectionCause::Consecutive => "consecutive",
            EjectionCause::Share => "share",
            EjectionCause::SuccessRate => "success_rate",
            EjectionCause::Probe => "probe",
        };
        count(&t::EJECTIONS, &[("service", Value::Service(service)), ("cause", Value::Word(cause))], 1);
    }
    view_event(service, event);
}

/// So many instances are ejected, until `level` says otherwise.
pub(crate) fn ejected(level: &Level, service: &ServiceName, instances: usize) {
    level.set(&t::EJECTED_INSTANCES, &[("service", Value::Service(service))], instances);
}

/// Whether ejection is ignored, until `level` says otherwise.
pub(crate) fn panicking(level: &Level, service: &ServiceName, panics: bool) {
    level.set(&t::PANICKING_VIEWS, &[("service", Value::Service(service))], usize::from(panics));
}

// === picks and calls ===

/// There was nothing to pick. Picks that succeed are not counted: that would cost more than the pick.
pub(crate) fn pick_failed(service: &ServiceName, kind: ErrorKind) {
    count(&t::PICK_ERRORS, &[("service", Value::Service(service)), ("kind", Value::Word(word(kind)))], 1);
}

/// A call ended.
pub(crate) fn called(service: &ServiceName, result: &'static str) {
    count(&t::CALLS, &[("service", Value::Service(service)), ("result", Value::Word(result))], 1);
}

/// An attempt of a call ended.
pub(crate) fn attempted(service: &ServiceName, result: &'static str, latency: Duration) {
    observe(
        &t::ATTEMPT_DURATION,
        &[("service", Value::Service(service)), ("result", Value::Word(result))],
        latency,
    );
}

/// A call made another attempt after one that failed.
pub(crate) fn retried(service: &ServiceName) {
    count(&t::RETRIES, &[("service", Value::Service(service))], 1);
}

/// A call made another attempt beside one that was slow.
pub(crate) fn hedged(service: &ServiceName) {
    count(&t::HEDGES, &[("service", Value::Service(service))], 1);
}

/// The answer of a hedge was the first.
pub(crate) fn hedge_won(service: &ServiceName) {
    count(&t::HEDGES_WON, &[("service", Value::Service(service))], 1);
}

/// A retry or a hedge was not made, as the budget was spent.
pub(crate) fn budget_spent(service: &ServiceName) {
    count(&t::RETRY_BUDGET_SPENT, &[("service", Value::Service(service))], 1);
}

// === the drain ===

/// A stage of a drain ended.
pub(crate) fn drain_stage(stage: DrainStage, took: Duration) {
    let stage = match stage {
        DrainStage::Announce => "announce",
        DrainStage::Deregister => "deregister",
        DrainStage::Propagate => "propagate",
        DrainStage::Refuse => "refuse",
        DrainStage::Wait => "wait",
        DrainStage::Stop => "stop",
    };
    observe(&t::DRAIN_STAGE_DURATION, &[("stage", Value::Word(stage))], took);
}

/// A drain ended.
pub(crate) fn drained(report: &DrainReport) {
    let result = if report.is_clean() { "clean" } else { "unclean" };
    count(&t::DRAINS, &[("result", Value::Word(result))], 1);
    for (what, aborted) in [("request", report.in_flight_aborted), ("task", report.tasks_aborted)] {
        count(&t::DRAIN_ABORTED, &[("what", Value::Word(what))], aborted as u64);
    }
}

fn outcome(result: Result<(), ErrorKind>) -> Value<'static> {
    Value::Word(result.map_or_else(word, |()| "ok"))
}

/// Error kinds are few, so they may be labels; messages are not.
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Closed => "closed",
        ErrorKind::Compacted => "compacted",
        ErrorKind::Conflict => "conflict",
        ErrorKind::InvalidArgument => "invalid_argument",
        ErrorKind::LeaseLost => "lease_lost",
        ErrorKind::NoInstance => "no_instance",
        ErrorKind::NotFound => "not_found",
        ErrorKind::NotReady => "not_ready",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::Protocol => "protocol",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Unavailable => "unavailable",
    }
}
