//! L1 and L2.

use super::*;

fn request(script: Script, at: f64, id: &str, ok: bool) -> Script {
    script.at(at, Observation::Request { caller: "c".into(), instance: key(id), ok })
}

fn ejected(script: Script, at: f64, id: &str) -> Script {
    script.at(at, Observation::Ejected { caller: "c".into(), instance: key(id) })
}

/// Rounds of five requests, of which those to `a` fail.
fn rounds(script: Script, at: f64, rounds: u32) -> Script {
    (0..rounds).fold(script, |script, round| {
        ["a", "b", "c", "d", "e"]
            .iter()
            .fold(script, |script, id| request(script, at + f64::from(round) / 10.0, id, *id != "a"))
    })
}

fn l1(script: &Script) -> Result<Figure, Violation> {
    l1_dead_instance(&script.0, "c", &key("a"), 5)
}

#[test]
fn l1_allows_a_dead_instance_its_share_and_then_one_request_per_ejection() {
    let dead = || ejected(rounds(Script::default(), 1.0, 2), 1.1, "a");
    good(l1(&dead()));
    let probed = || ejected(request(dead(), 31.0, "a", false), 31.0, "a");
    good(l1(&probed()));
    good(l1(&request(probed(), 91.0, "a", false)));
    let twice = request(request(probed(), 50.0, "a", false), 91.0, "a", false);
    bad(l1(&twice), Invariant::L1, "2 requests failed in one ejection");
    let favoured = (0..9).fold(rounds(Script::default(), 1.0, 2), |script, n| {
        request(script, 1.1 + f64::from(n) / 100.0, "a", false)
    });
    bad(l1(&ejected(favoured, 1.2, "a")), Invariant::L1, "11 of the first 19");
    bad(l1(&rounds(Script::default(), 1.0, 2)), Invariant::L1, "not judged");
    bad(l1(&ejected(Script::default(), 1.0, "a")), Invariant::L1, "not judged");
}

#[test]
fn l2_wants_an_instance_for_each_pick_and_few_ejected() {
    let pick = |script: Script, ok| {
        script.at(1.0, Observation::Pick { reader: "c".into(), ok, took: Duration::ZERO })
    };
    let look = |script: Script, ejected, serving| {
        script.at(2.0, Observation::Ejections { caller: "c".into(), ejected, serving })
    };
    let l2 = |script: Script| l2_fail_open(&script.0, "c");
    for (most, of) in [(0, 2), (1, 3), (1, 19), (2, 20), (10, 100)] {
        good(l2(look(pick(Script::default(), true), most, of)));
        bad(l2(look(pick(Script::default(), true), most + 1, of)), Invariant::L2, "are ejected");
    }
    bad(l2(look(pick(Script::default(), false), 1, 5)), Invariant::L2, "nothing was picked");
    bad(l2(pick(Script::default(), true)), Invariant::L2, "not judged");
    bad(l2(look(Script::default(), 1, 5)), Invariant::L2, "not judged");
}
