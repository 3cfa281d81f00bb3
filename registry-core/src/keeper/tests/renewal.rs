//! Renewing in time: outages that are short enough, late and swapped answers, what the registry asks for.

use std::time::Duration;

use super::{
    super::{
        input::{Call, Input, Reply},
        phase::Phase,
    },
    model::{Fault, Landing},
    sim::{Sim, TTL, Traffic, config, key, millis, secs},
};
use crate::{
    Capabilities,
    backend::{Lifetime, Renewal},
};

#[test]
fn a_first_registration_is_live_after_three_round_trips() {
    let mut sim = Sim::new(1);
    sim.register("a");
    let took = sim.assert_back_within(secs(1));
    assert!(took <= millis(20), "took {took:?}");
    assert_eq!(sim.told("a"), ["registered 1"]);
}

#[test]
fn r4_a_quiet_day_tells_nothing_and_costs_one_renewal_per_period() {
    let mut sim = Sim::settled(2, &["a", "b", "c"]);
    sim.run(secs(86_400));
    assert_eq!(sim.told("a"), ["registered 1"]);
    let renewals = sim.registry.count("renew");
    assert!((86_400 / 5..=86_400 * 10 / 44).contains(&renewals), "{renewals} renewals a day");
    let audits = sim.registry.count("inspect");
    assert!((86_400 / 72..=86_400 / 47).contains(&audits), "{audits} audits a day");
}

/// Every kind of outage shorter than half the time to live, beginning at every phase of the renewal's cycle.
fn never_lost(fault: Fault, ttl: Duration, capabilities: &Capabilities) {
    for phase in 0..16 {
        let own = crate::keeper::KeeperConfig { ttl, ..config(phase) };
        let mut sim = Sim::with(own, capabilities.clone());
        sim.register("a");
        sim.run(secs(20));
        sim.run((ttl / 3).mul_f64(phase as f64 / 16.0));
        sim.outage(fault, ttl / 2 - millis(1));
        sim.run(2 * ttl);
        assert_eq!(sim.count("lost"), 0, "a time to live of {ttl:?}, phase {phase}: {:?}", sim.told("a"));
        assert_eq!(sim.phase("a"), Phase::Live);
        assert_eq!(sim.count("suspect"), sim.count("cleared"));
    }
}

#[test]
fn r1_an_outage_shorter_than_half_the_time_to_live_never_reports_lost() {
    for ttl in [3, 6, 10, 15, 31, 120].map(secs) {
        for fault in [Fault::Down, Fault::Hang(Landing::Never), Fault::Hang(Landing::AtOnce)] {
            never_lost(fault, ttl, &Capabilities::session());
            never_lost(fault, ttl, &Capabilities::heartbeat());
        }
    }
}

#[test]
fn an_instance_whose_beat_is_missed_for_less_than_half_the_time_to_live_is_not_lost() {
    for phase in 0..50 {
        let mut sim = Sim::heartbeat(phase);
        ["a", "b"].into_iter().for_each(|id| sim.register(id));
        sim.run(secs(20) + millis(100) * u32::try_from(phase).unwrap());
        sim.registry.mute.insert(key("a"));
        sim.run(TTL / 2 - millis(1));
        sim.registry.mute.clear();
        sim.run(2 * TTL);
        assert_eq!(sim.count("lost"), 0, "phase {phase}");
        assert_eq!(sim.phase("a"), Phase::Live);
        assert_eq!(sim.told("b"), ["registered 1"]);
    }
}

#[test]
fn r7_an_instance_whose_beats_stay_unanswered_is_lost_alone() {
    let mut sim = Sim::heartbeat(4);
    ["a", "b"].into_iter().for_each(|id| sim.register(id));
    sim.run(secs(20));
    sim.registry.mute.insert(key("a"));
    sim.run(secs(20));
    assert_eq!(sim.told("a")[1..3], ["suspect", "lost 1 Expired"]);
    assert_eq!(sim.told("b"), ["registered 1"]);
    sim.registry.mute.clear();
    sim.assert_back_within(secs(10));
    assert_eq!(sim.told("b"), ["registered 1"]);
}

#[test]
fn a_denied_beat_that_overtook_a_publication_says_nothing_of_it() {
    let mut sim = Sim::heartbeat(9);
    sim.register("b");
    sim.run(secs(20));
    let renew_at = sim.lives[0].keeper.tenure().unwrap().renew_at.unwrap();
    sim.run(renew_at.saturating_duration_since(sim.base) - sim.now - millis(50));
    sim.registry.latency = millis(300);
    sim.register("a");
    sim.run(millis(100));
    let beat = sim.lives[0].pending.iter().find(|(_, pending)| matches!(pending.call, Call::Renew { .. }));
    let op = *beat.unwrap().0;
    sim.run(millis(520));
    assert_eq!(sim.told("a"), ["registered 1"], "the publication was answered before the beat");
    // Sent after the publication, answered before that reached the registry.
    let mut renewal = Renewal::granted(TTL);
    renewal.lost.push(key("a"));
    sim.deliver(Traffic::Answer { life: 0, op, reply: Reply::Renewed(Ok(renewal)) });
    sim.run(secs(1));
    assert_eq!(sim.told("a"), ["registered 1"]);
    // Who is really gone is denied by the next beat.
    sim.registry.latency = millis(1);
    sim.registry.records.remove(&key("a"));
    sim.run(secs(6));
    assert_eq!(sim.told("a")[1], "lost 1 Missing");
    assert_eq!(sim.told("b"), ["registered 1"]);
}

#[test]
fn r3_a_renewal_counts_from_the_instant_it_was_sent() {
    let mut sim = Sim::settled(5, &["a"]);
    sim.run(secs(3));
    // The next answers travel for a second each way.
    sim.registry.latency = millis(1_000);
    sim.run(secs(10));
    let sent = sim.lives[0].keeper.tenure().unwrap().sent;
    let safe = sim.lives[0].keeper.entry(&key("a")).unwrap().safe.unwrap();
    assert_eq!(safe, sent + TTL.mul_f64(0.98));
    let (proof, _) = *sim.lives[0].proofs.values().next_back().unwrap();
    assert_eq!(sent, sim.base + proof);
    assert_eq!(sim.phase("a"), Phase::Live);
}

#[test]
fn r3_an_answer_after_its_deadline_counts_for_nothing() {
    let mut sim = Sim::settled(6, &["a"]);
    sim.run(secs(3));
    // Slower than any attempt may take: the registry renews, but nobody learns of it in time.
    sim.registry.latency = millis(1_300);
    sim.run(secs(20));
    assert_eq!(sim.told("a")[..3], ["registered 1", "suspect", "lost 1 Expired"]);
}

#[test]
fn r3_answers_to_calls_nobody_waits_for_are_ignored_even_if_they_say_yes() {
    let mut sim = Sim::settled(7, &["a"]);
    sim.run(secs(2));
    let before = sim.lives[0].keeper.tenure().unwrap().sent;
    for op in 0..50 {
        sim.step(0, Input::Reply { op, reply: Reply::Renewed(Ok(Renewal::granted(TTL))) });
    }
    assert_eq!(sim.lives[0].keeper.tenure().unwrap().sent, before);
}

#[test]
fn r3_answers_in_the_wrong_order_after_their_deadlines_never_prolong_the_claim() {
    let mut sim = Sim::settled(8, &["a"]);
    sim.run(secs(6));
    let safe = sim.lives[0].keeper.tenure().unwrap().safe().unwrap();
    sim.fault(Fault::Hang(Landing::AtOnce));
    sim.run(secs(12));
    // Every answer that was missed comes now, the newest first; the one still waited for isn't among them.
    for op in (1..sim.oldest_call()).rev() {
        sim.step(0, Input::Reply { op, reply: Reply::Renewed(Ok(Renewal::granted(TTL))) });
    }
    sim.run(secs(10));
    assert_eq!(sim.base + sim.when("lost").unwrap(), safe);
    sim.fault(Fault::None);
    sim.assert_back_within(secs(10));
}

#[test]
fn the_registry_may_shorten_the_time_to_live_at_any_renewal() {
    for shorter in [secs(9), secs(3), secs(2), millis(700), millis(1)] {
        let mut sim = Sim::settled(9, &["a"]);
        sim.registry.renewed_ttl = Some(shorter);
        sim.run(secs(30));
        sim.registry.fault = Fault::Hang(Landing::Never);
        sim.run(secs(20));
        assert_eq!(sim.phase("a"), Phase::Lost, "{shorter:?}");
        sim.registry.renewed_ttl = None;
        sim.fault(Fault::None);
        sim.assert_back_within(secs(10));
    }
}

#[test]
fn a_wish_of_the_registry_for_the_next_renewal_is_kept_within_reason() {
    for (wish, least, most) in
        [(millis(0), 100, 600), (secs(3), 31, 34), (secs(60), 20, 24), (secs(100_000), 20, 24)]
    {
        let mut sim = Sim::settled(10, &["a"]);
        sim.registry.renew_after = Some(wish);
        sim.run(secs(5));
        let before = sim.registry.count("renew");
        sim.run(secs(100));
        let renewals = sim.registry.count("renew") - before;
        assert!((least..=most).contains(&renewals), "{wish:?}: {renewals} renewals in 100 s");
        assert_eq!(sim.count("lost"), 0);
    }
}

#[test]
fn a_throttled_renewal_waits_as_asked_but_never_until_it_is_too_late() {
    let mut sim = Sim::settled(11, &["a"]);
    sim.fault(Fault::Throttled(Some(secs(60))));
    sim.run(secs(7));
    let asked = sim.registry.count("renew");
    assert!(asked <= 3, "{asked} renewals in 7 s although the registry asks for less");
    sim.fault(Fault::None);
    sim.run(secs(30));
    assert_eq!(sim.count("lost"), 0);
}

#[test]
fn a_grant_that_is_too_short_is_blocked_and_given_back() {
    let mut sim = Sim::new(12);
    sim.registry.lifetime = Lifetime::Leased { ttl: secs(2) };
    sim.register("a");
    sim.run(secs(300));
    assert_eq!(sim.told("a"), ["blocked"]);
    assert!(sim.registry.count("grant") <= 8, "{} grants in 5 min", sim.registry.count("grant"));
    assert_eq!(sim.registry.leases(), 0);
    sim.registry.lifetime = Lifetime::Leased { ttl: TTL };
    sim.assert_back_within(secs(75));
}

#[test]
fn a_grant_answered_later_than_it_lasts_is_not_claimed() {
    let own = crate::keeper::KeeperConfig { ttl: secs(3), ..config(13) };
    let mut sim = Sim::with(own, Capabilities::session());
    sim.registry.latency = millis(1_480);
    sim.register("a");
    sim.run(secs(60));
    assert_eq!(sim.count("lost"), 0);
    sim.registry.latency = millis(2);
    sim.assert_back_within(secs(10));
}

#[test]
fn records_that_live_without_renewal_are_looked_at_or_left_alone() {
    let mut sim = Sim::new(14);
    sim.registry.lifetime = Lifetime::Verified { every: secs(10) };
    sim.register("a");
    sim.run(secs(600));
    assert_eq!((sim.phase("a"), sim.registry.count("renew")), (Phase::Live, 0));
    assert!((50..=80).contains(&sim.registry.count("inspect")));
    sim.registry.delete(&key("a"), sim.now);
    sim.run(secs(13));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Missing", "recovered 2"]);

    let mut sim = Sim::with(config(15), {
        let mut c = Capabilities::session();
        c.audit = false;
        c
    });
    sim.registry.lifetime = Lifetime::Permanent;
    sim.register("a");
    sim.run(secs(86_400));
    assert_eq!(sim.phase("a"), Phase::Live);
    assert_eq!(sim.registry.arrivals.len(), 2, "a grant and a publication");
    sim.outage(Fault::Down, secs(3_600));
    assert_eq!(sim.phase("a"), Phase::Live);
}

#[test]
fn a_renewal_never_waits_for_a_publication() {
    let mut sim = Sim::settled(16, &["a"]);
    sim.run(secs(4));
    sim.update("a", "second");
    sim.run(secs(2));
    // One call of each kind may be on its way at once.
    let calls: Vec<_> = sim.lives[0].keeper.in_flight.values().collect();
    assert!(calls.len() <= 2);
    assert_eq!(sim.count("suspect"), 0);
}

#[test]
fn an_attempt_that_fails_in_the_very_instant_it_was_due_is_not_repeated_in_it() {
    for seed in 0..20 {
        let own = crate::keeper::KeeperConfig { ttl: secs(90), ..config(seed) };
        let mut sim = Sim::with(own, Capabilities::session());
        sim.registry.latency = Duration::ZERO;
        sim.register("a");
        sim.run(secs(1));
        sim.outage(Fault::Down, secs(120));
        sim.assert_back_within(secs(10));
    }
}
