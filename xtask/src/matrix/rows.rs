//! The faults of the matrix and how each is made: the list a run is held against.

use super::measured::Backend;

/// One row: a fault, and how it is injected on each registry.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Its number, which the names of its tests begin with: `row_03_…`.
    pub(crate) number: u8,
    /// What goes wrong.
    pub(crate) fault: &'static str,
    /// What has to hold.
    pub(crate) holds: &'static str,
    /// How it is made in process; a row without it needs no test there.
    pub(crate) memory: Option<&'static str>,
    /// How it is made with a real etcd; a row without it needs no test there.
    pub(crate) etcd: Option<&'static str>,
    /// How it is made where no other registry can have it.
    pub(crate) consul: Option<&'static str>,
}

/// The rows that are told once for all servers that are spoken to over HTTP.
const OVER_HTTP: &[u8] =
    &[1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 16, 17, 19, 20, 21, 22, 24, 25, 28, 29, 34, 36, 38];
/// A leader and indexes: no other of them has these.
const ON_CONSUL_ALONE: &[u8] = &[9, 26];

impl Fault {
    /// Whether there has to be a test with this backend.
    pub(crate) fn is_asked_of(&self, backend: Backend) -> bool {
        match backend {
            Backend::Memory => self.memory.is_some(),
            Backend::Etcd => self.etcd.is_some(),
            Backend::Consul => OVER_HTTP.contains(&self.number) || ON_CONSUL_ALONE.contains(&self.number),
            Backend::Eureka | Backend::Nacos | Backend::Nacos2 => OVER_HTTP.contains(&self.number),
            Backend::Naive => false,
        }
    }
}

const fn both(
    number: u8,
    fault: &'static str,
    holds: &'static str,
    memory: &'static str,
    etcd: &'static str,
) -> Fault {
    Fault { number, fault, holds, memory: Some(memory), etcd: Some(etcd), consul: None }
}

const fn in_process(number: u8, fault: &'static str, holds: &'static str, memory: &'static str) -> Fault {
    Fault { number, fault, holds, memory: Some(memory), etcd: None, consul: None }
}

/// Needs processes, clocks or connections that are real.
const fn on_etcd(number: u8, fault: &'static str, holds: &'static str, etcd: &'static str) -> Fault {
    Fault { number, fault, holds, memory: None, etcd: Some(etcd), consul: None }
}

const fn on_consul(number: u8, fault: &'static str, holds: &'static str, consul: &'static str) -> Fault {
    Fault { number, fault, holds, memory: None, etcd: None, consul: Some(consul) }
}

/// The faults that the registries of this release can show. Missing numbers belong to other registries (27, 39), or
/// are the random run itself (35).
pub(crate) const FAULTS: &[Fault] = &[
    both(1, "killed, back with its data", "R1 R4 D1 D2 D7", "outage on command", "kill -9, restart"),
    both(2, "back with its data lost", "R1 R6 D1 D2 D3", "store reset", "kill -9, wipe, restart"),
    both(3, "frozen 1 s, L/2, 2 L", "R1 R3 D6 D7", "calls that hang", "SIGSTOP, SIGCONT"),
    both(
        4,
        "partition: all, leader only, one way",
        "R3 R4 R5 D1 D6",
        "outages to 24 h",
        "peer and client proxies",
    ),
    both(5, "slow or lossy link", "R3 D7 H2", "late and lost answers", "proxy: delays, stalls, 1 B/s"),
    both(6, "half-open connection", "R1 R3 D6", "calls and watches that hang", "proxy: hold"),
    both(
        7,
        "accepts and never answers, endless answer",
        "deadlines, H2",
        "calls that hang",
        "a server that is none",
    ),
    in_process(8, "the registry's name does not resolve", "D1 R1", "scripted resolver"),
    both(9, "leader change, no leader", "R1 R3 D5", "short outages", "three members: move, kill the leader"),
    both(10, "compaction while disconnected", "D2 D4", "history cut", "etcdctl compact behind a cut link"),
    both(
        11,
        "credentials expire or are wrong",
        "one refresh, no hot loop, S1",
        "refused calls",
        "tokens of 2 s",
    ),
    on_etcd(12, "our process stopped for 3 L", "R1 R3, one loss", "SIGSTOP to a child process"),
    in_process(13, "suspend, monotonic clock frozen", "R3", "two clocks"),
    in_process(14, "wall clock ±1 h, ±10 y", "no loss", "injected clock"),
    both(15, "empty push", "D1, hold, D8", "scripted watch", "etcdctl del of the whole prefix"),
    in_process(16, "list 80 % short, then full", "hold, no churn", "scripted watch"),
    both(17, "garbage records", "S2 D1", "corpus", "etcdctl put"),
    in_process(18, "instance flaps every 200 ms", "≤ 2 updates per 10 s, L1 H2", "scripted watch"),
    in_process(19, "herd of 1000 clients", "H1 R1", "simulation"),
    both(
        20,
        "application killed without deregister",
        "gone within its TTL, L1",
        "dropped keeper",
        "SIGKILL to a child",
    ),
    both(21, "two processes, one id", "one loss, at most one swap", "two clients", "two clients"),
    in_process(22, "replayed, reordered, repeated events", "D3 D4 D5", "scripted watch"),
    in_process(23, "disk full, torn, foreign, linked", "never fatal, old file intact", "files"),
    both(
        24,
        "all endpoints dead but one",
        "one attempt's time",
        "scripted endpoints",
        "ports without a server",
    ),
    in_process(25, "throttled, with a delay asked for", "obeyed, capped", "refused calls"),
    on_consul(26, "index back, 0, or at once", "a paced watch", "a server that is none"),
    both(28, "operator deletes the record", "back within the audit", "direct delete", "etcdctl del"),
    both(29, "update during an outage", "R1 with the new content", "outage on command", "cut link"),
    in_process(30, "verbs interleaved at every await", "R2 R4", "seeded schedules"),
    in_process(31, "observer panics, blocks, re-enters", "R4", "callbacks"),
    on_etcd(32, "executor blocked for 2 L", "R3, then R1", "busy tasks on every worker"),
    both(
        33,
        "TERM under load, twice, registry away, endless stream",
        "X1, stop ≤ budget",
        "requests to servers that drain",
        "SIGTERM to children that serve, kill -9",
    ),
    on_etcd(34, "wrong or expired certificate, rotation", "typed refusal", "test authority"),
    both(36, "one of many records lost", "R7 R1", "direct delete, refusal", "etcdctl del, put"),
    in_process(37, "renewals answered late, swapped, twice", "R3", "scripted lease"),
    both(38, "registry absent at start", "X2 R1 D1", "outage on command", "port without a server"),
    in_process(40, "most instances fail at once", "L2, panic told", "counting servers"),
];

#[cfg(test)]
mod tests {
    use super::{Backend, FAULTS, ON_CONSUL_ALONE, OVER_HTTP};

    #[test]
    fn every_fault_a_registry_of_this_release_can_show_is_asked_for() {
        let asked: Vec<u8> = FAULTS.iter().map(|fault| fault.number).collect();
        let wanted = (1..=26).chain(28..=34).chain(36..=38).chain([40]);
        assert_eq!(asked, wanted.collect::<Vec<u8>>());
        assert!(FAULTS.iter().all(|fault| Backend::ALL.iter().any(|backend| fault.is_asked_of(*backend))));
        assert!(OVER_HTTP.iter().chain(ON_CONSUL_ALONE).all(|number| asked.contains(number)));
    }
}
