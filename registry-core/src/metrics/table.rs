//! Every metric there is, as data. The documentation and the dashboard are checked against it.

/// One metric: its name, what it counts, and which labels it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, as recorders get it.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// The names of its labels; each has few values.
    pub labels: &'static [&'static str],
    /// What it tells, in a few words.
    pub meaning: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in seconds.
    Histogram,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $meaning:literal;)*) => {
        $(pub(super) static $constant: Metric = Metric {
            name: concat!("service_registry_", $name),
            kind: MetricKind::$kind,
            labels: &[$($label),*],
            meaning: $meaning,
        };)*

        /// All metrics, in the order of the table.
        pub static METRICS: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    REGISTRATIONS = Gauge "registrations" ["registry", "service", "phase"]
        "registrations of this process, by phase";
    LEASE_RENEWALS = Counter "lease_renewals_total" ["registry", "result"]
        "renewals of leases that were answered or timed out";
    LEASE_LAST_RENEWAL = Gauge "lease_last_renewal_timestamp_seconds" ["registry"]
        "when a renewal was last confirmed, since the Unix epoch";
    REGISTRATIONS_LOST = Counter "registrations_lost_total" ["registry", "service", "cause"]
        "registrations that others may no longer have seen";
    REGISTRATIONS_RECOVERED = Counter "registrations_recovered_total" ["registry", "service"]
        "registrations that were published again after a loss";
    REGISTRATION_DOWNTIME = Histogram "registration_downtime_seconds" ["registry", "service"]
        "from a loss to the recovery";
    REGISTRATIONS_BLOCKED = Counter "registrations_blocked_total" ["registry", "service", "kind"]
        "registrations that the registry refused";
    DEREGISTRATIONS = Counter "deregistrations_total" ["registry", "service", "outcome"]
        "registrations that were withdrawn";
    KEEPER_RESTARTS = Counter "keeper_restarts_total" ["registry"]
        "restarts of a keeper after a panic";
    VIEWS = Gauge "views" ["service", "state"]
        "views of a service, by state";
    VIEW_LAST_PROOF = Gauge "view_last_proof_timestamp_seconds" ["service"]
        "when the registry last proved the view current, since the Unix epoch";
    VIEW_INSTANCES = Gauge "view_instances" ["service", "status"]
        "known instances, by what they say of themselves";
    VIEW_HELD_INSTANCES = Gauge "view_held_instances" ["service"]
        "instances that a suspicious list lacks and that are kept for now";
    VIEW_UPDATES = Counter "view_updates_total" ["service"]
        "snapshots that were published";
    VIEW_EVENTS = Counter "view_events_total" ["service", "event"]
        "what happened to a view beyond plain changes";
    VIEW_REJECTED_RECORDS = Counter "view_rejected_records_total" ["service"]
        "records that were left out, undecodable or too many";
    VIEW_RELISTS = Counter "view_relists_total" ["service", "result"]
        "lists that were asked for beside the watch";
    VIEW_WATCH_BREAKS = Counter "view_watch_breaks_total" ["service", "kind"]
        "watch sessions that ended, by error kind";
    VIEW_SAVES = Counter "view_saves_total" ["service", "result"]
        "writes of the disk view";
    EJECTIONS = Counter "ejections_total" ["service", "cause"]
        "instances that were ejected, or for longer";
    EJECTED_INSTANCES = Gauge "ejected_instances" ["service"]
        "instances that get no requests for now, as those before failed";
    PANICKING_VIEWS = Gauge "panicking_views" ["service"]
        "views that ignore ejection, as too few instances are usable";
    PICK_ERRORS = Counter "pick_errors_total" ["service", "kind"]
        "picks that found nothing";
    CALLS = Counter "calls_total" ["service", "result"]
        "calls that ended, by how";
    ATTEMPT_DURATION = Histogram "attempt_duration_seconds" ["service", "result"]
        "attempts of calls that ended";
    RETRIES = Counter "retries_total" ["service"]
        "further attempts after one that failed";
    HEDGES = Counter "hedges_total" ["service"]
        "further attempts beside one that was slow";
    HEDGES_WON = Counter "hedges_won_total" ["service"]
        "hedges that answered first";
    RETRY_BUDGET_SPENT = Counter "retry_budget_spent_total" ["service"]
        "retries and hedges that the budget didn't allow";
    DRAINS = Counter "drains_total" ["result"]
        "drains that ended, by how";
    DRAIN_STAGE_DURATION = Histogram "drain_stage_duration_seconds" ["stage"]
        "stages of drains";
    DRAIN_ABORTED = Counter "drain_aborted_total" ["what"]
        "work that was still in flight at the end of a drain";
}
