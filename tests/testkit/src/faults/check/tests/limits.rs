//! H1, H2, S1, S2, X2, and the history itself.

use registry_core::{Error, ErrorKind};

use super::*;
use crate::faults::Resources;

fn attempts(script: Script, clients: u32, spread: f64) -> Script {
    (0..clients).fold(script, |script, client| {
        let at = 10.0 + spread * f64::from(client) / f64::from(clients);
        script.at(at, Observation::Attempt { client: format!("c{client}").into() })
    })
}

#[test]
fn h1_tells_a_herd_from_a_spread() {
    let usable = || Script::default().usable(10.0);
    good(h1_herd(&attempts(usable(), 1000, 3.0).0));
    bad(h1_herd(&attempts(usable(), 1000, 0.5).0), Invariant::H1, "within 100 ms");
    let eager = (0..16).fold(attempts(usable(), 1000, 3.0), |script, count| {
        script.at(14.0 + f64::from(count), Observation::Attempt { client: "c1".into() })
    });
    bad(h1_herd(&eager.0), Invariant::H1, "c1 tried 17 times");
    bad(h1_herd(&usable().0), Invariant::H1, "not judged");
}

#[test]
fn h2_compares_with_the_baseline() {
    let sample = |tasks, descriptors, mib: u64| {
        let resident = mib << 20;
        Observation::Resources(Resources { tasks, descriptors, resident })
    };
    let after = |later| Script::default().at(0.0, sample(100, 50, 200)).at(9.0, later);
    let within = Tolerance::default();
    good(h2_bounded(&after(sample(105, 54, 209)).0, within));
    bad(h2_bounded(&after(sample(106, 50, 200)).0, within), Invariant::H2, "106 tasks");
    bad(h2_bounded(&after(sample(100, 55, 200)).0, within), Invariant::H2, "55 descriptors");
    bad(h2_bounded(&after(sample(100, 50, 211)).0, within), Invariant::H2, "bytes");
    bad(h2_bounded(&Script::default().at(0.0, sample(1, 1, 1)).0, within), Invariant::H2, "not judged");
}

#[tokio::test]
async fn resources_are_counted() {
    let before = Resources::now();
    let held = tokio::spawn(std::future::pending::<()>());
    let file = std::fs::File::open("/dev/null").unwrap();
    let during = Resources::now();
    assert_eq!(during.tasks, before.tasks + 1);
    if cfg!(target_os = "linux") {
        assert!(during.resident > 1 << 20);
        assert!(during.descriptors > 2);
    }
    held.abort();
    drop((held.await, file));
}

#[test]
fn s1_finds_a_secret_in_an_error_without_repeating_it() {
    let call = |message: &'static str| {
        let outcome = Err(Error::new(ErrorKind::Unauthenticated, message));
        Script::default().at(0.0, Observation::Call { what: "register".into(), took: secs(0.1), outcome })
    };
    good(s1_no_secrets(&call("a wrong password").0, &["hunter2"]));
    bad(s1_no_secrets(&call("hunter2 is wrong").0, &["hunter2"]), Invariant::S1, "… is wrong");
    bad(s1_no_secrets(&Script::default().0, &["hunter2"]), Invariant::S1, "not judged");
}

#[test]
fn s2_wants_the_good_kept_and_the_bad_counted() {
    let view = |ids: &[&str], version, rejected| {
        let mut view = View::new("r", version, of(ids), ViewState::Fresh);
        view.rejected = rejected;
        Observation::View(view)
    };
    let good_ones = [key("a")];
    let script = || Script::default().at(0.0, view(&[], 0, 0)).at(1.0, view(&["a"], 1, 2));
    good(s2_hostile_payload(&script().0, "r", &good_ones, 2));
    bad(s2_hostile_payload(&script().0, "r", &good_ones, 3), Invariant::S2, "2 records were counted");
    let left = script().at(2.0, view(&["b"], 2, 2));
    bad(s2_hostile_payload(&left.0, "r", &good_ones, 2), Invariant::S2, "left the view");
    bad(s2_hostile_payload(&script().0, "r", &[key("z")], 2), Invariant::S2, "not judged");
}

#[test]
fn x2_wants_the_right_failure_in_time() {
    let call = |took: f64, outcome| {
        Script::default().at(0.0, Observation::Call { what: "discover".into(), took: secs(took), outcome })
    };
    let not_ready = || Err(Error::new(ErrorKind::NotReady, "nothing was heard"));
    let judge = |script: &Script| x2_cold_start(&script.0, "discover", ErrorKind::NotReady, secs(5.0));
    assert_eq!(good(judge(&call(5.1, not_ready()))), "discover failed after 5.10 s");
    bad(judge(&call(5.6, not_ready())), Invariant::X2, "only after");
    bad(judge(&call(5.0, Ok(()))), Invariant::X2, "succeeded");
    bad(judge(&call(5.0, Err(Error::new(ErrorKind::Closed, "closed")))), Invariant::X2, "Closed");
    bad(judge(&Script::default()), Invariant::X2, "not judged");
}

#[test]
fn samples_that_say_the_same_are_one_entry_and_a_window_cuts_it() {
    let history = Script::default().truth(0.0, 5.0, &["a"]).truth(5.1, 6.0, &["b"]).0;
    let entries = history.entries();
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].count, entries[0].until), (51, secs(5.0)));
    assert!(entries[0].pause >= secs(0.099) && entries[0].pause <= secs(0.101), "{:?}", entries[0].pause);
    let window = history.between(secs(1.0), secs(2.0)).entries();
    assert_eq!((window.len(), window[0].at, window[0].until), (1, secs(1.0), secs(2.0)));
}

#[test]
fn compaction_keeps_what_later_judgements_need() {
    let script =
        Script::default().wanted(0.0, "a").registered(0.0, "a").lost(1.0, "a", 1).truth(0.0, 1.0, &["a"]);
    let script = script.truth(1.1, 2.0, &[]).status(0.0, 2.0, "a", Phase::Lost).usable(2.0);
    script.0.compact();
    assert_eq!(script.0.len(), 5, "{}", script.0);
    let later = script.recovered(3.0, "a", 1).truth(3.0, 3.0, &["a"]).status(3.0, 3.0, "a", Phase::Live);
    good(r4_callback_discipline(&later.0));
    good(r1_reconvergence(&later.0, secs(10.0)));
}

#[test]
fn a_report_can_be_read_and_figures_too() {
    let script =
        Script::default().wanted(0.0, "a").truth(0.0, 1.0, &["a", "b"]).lost(1.5, "a", 1).outage(2.0);
    let report = script.0.to_string();
    for line in ["2 instances orders/a orders/b", "=== outage: cut", "11x", "Lost { epoch: 1"] {
        assert!(report.contains(line), "{line} in\n{report}");
    }
    let figure = Figure::new("back after", secs(0.071)).and("picks", 3_u64).with(&Figure::new("", "fine"));
    assert_eq!(figure.to_string(), "back after 71 ms, picks 3, fine");
}
