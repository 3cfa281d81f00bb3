//! Each validator on a history that keeps its promise and on ones that don't.

mod balance;
mod discovery;
mod limits;
mod long;
mod registration;

use std::{sync::Arc, time::Duration};

use registry_core::{
    Instance, InstanceKey, LossCause, Phase, RegistrationEvent, ViewState, backend::SourceId,
};

use super::*;
use crate::faults::{Figure, records};

const TTL: Duration = Duration::from_secs(3);

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn instance(id: &str) -> Arc<Instance> {
    Arc::new(Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").build().unwrap())
}

fn key(id: &str) -> InstanceKey {
    instance(id).key()
}

fn of(ids: &[&str]) -> Records {
    records(&ids.iter().map(|id| instance(id)).collect::<Vec<_>>())
}

/// A history written by hand.
#[derive(Default)]
struct Script(History);

impl Script {
    fn at(self, at: f64, what: Observation) -> Self {
        self.0.record_at(secs(at), what);
        self
    }

    fn wanted(self, at: f64, id: &str) -> Self {
        self.at(at, Observation::Wanted { client: "c".into(), instance: instance(id) })
    }

    fn unwanted(self, at: f64, id: &str, confirmed: bool) -> Self {
        self.at(at, Observation::Unwanted { client: "c".into(), key: key(id), confirmed })
    }

    fn gone(self, at: f64, id: &str) -> Self {
        self.at(at, Observation::Gone { key: key(id), why: "deleted".into() })
    }

    fn outage(self, at: f64) -> Self {
        self.at(at, Observation::Outage("cut".into()))
    }

    fn usable(self, at: f64) -> Self {
        self.at(at, Observation::Usable("healed".into()))
    }

    /// Samples each 0.1 s, from and to included.
    fn truth(mut self, from: f64, to: f64, ids: &[&str]) -> Self {
        for at in steps(from, to) {
            self = self.at(at, Observation::Truth(of(ids)));
        }
        self
    }

    fn status(mut self, from: f64, to: f64, id: &str, phase: Phase) -> Self {
        for at in steps(from, to) {
            self = self.at(at, Observation::Status { client: "c".into(), key: key(id), phase });
        }
        self
    }

    fn view(mut self, from: f64, to: f64, version: u64, ids: &[&str], state: ViewState) -> Self {
        for at in steps(from, to) {
            let mut view = View::new("r", version, of(ids), state);
            view.revision = Some(version);
            self = self.at(at, Observation::View(view));
        }
        self
    }

    fn pick(self, at: f64, ok: bool, took: f64) -> Self {
        self.at(at, Observation::Pick { reader: "r".into(), ok, took: secs(took) })
    }

    fn event(self, at: f64, id: &str, event: RegistrationEvent) -> Self {
        self.at(at, Observation::Event { client: "c".into(), key: key(id), event })
    }

    fn registered(self, at: f64, id: &str) -> Self {
        self.event(at, id, RegistrationEvent::Registered { epoch: 1 })
    }

    fn lost(self, at: f64, id: &str, epoch: u64) -> Self {
        self.event(at, id, RegistrationEvent::Lost { epoch, cause: LossCause::Expired, last_ok_age: TTL })
    }

    fn recovered(self, at: f64, id: &str, old_epoch: u64) -> Self {
        let event = RegistrationEvent::Recovered { old_epoch, epoch: old_epoch + 1, downtime: TTL };
        self.event(at, id, event)
    }
}

fn steps(from: f64, to: f64) -> impl Iterator<Item = f64> {
    let count = ((to - from) * 10.0).round() as u32;
    (0..=count).map(move |step| from + f64::from(step) / 10.0)
}

#[track_caller]
fn good(verdict: Result<Figure, Violation>) -> String {
    verdict.unwrap_or_else(|violation| panic!("{violation}")).to_string()
}

#[track_caller]
fn bad(verdict: Result<Figure, Violation>, invariant: Invariant, says: &str) {
    let violation = verdict.expect_err("it is violated");
    assert_eq!(violation.invariant, invariant);
    assert!(violation.to_string().contains(says), "{violation}");
}
