use std::sync::Arc;

use super::*;

fn entry(id: usize, beat: u64, registered: u64, more: &str) -> String {
    format!(
        r#"{{"instanceId":"i{id}","app":"ORDERS","status":"UP","leaseInfo":{{"renewalIntervalInSecs":30,
            "registrationTimestamp":{registered},"lastRenewalTimestamp":{beat},"evictionTimestamp":0}},
            "metadata":{{{more}}}}}"#
    )
}

fn body(app: &str, entries: &[String]) -> String {
    let entries = entries.join(",");
    format!(
        r#"{{"applications":{{"apps__hashcode":"X","application":[{{"name":"{app}","instance":[{entries}]}}]}}}}"#
    )
}

fn read(lists: &mut Lists, body: &str) -> Fetched {
    lists.read(body).unwrap().expect("another body")
}

#[test]
fn of_many_whose_beats_came_only_the_one_that_changed_is_decoded() {
    let mut lists = Lists::new();
    let of = |beat: u64, weight: u64| -> Vec<String> {
        let weight = |n: usize| if n == 70 { weight } else { 1 };
        (0..100).map(|n| entry(n, beat, 7, &format!(r#""weight":"{}""#, weight(n)))).collect()
    };
    let first = read(&mut lists, &body("A", &of(1, 1)));
    assert_eq!((first.items.len(), first.decoded), (100, 100));
    let second = read(&mut lists, &body("A", &of(31_000, 2)));
    assert_eq!((second.items.len(), second.decoded), (100, 1));
    let same = |n: usize| Arc::ptr_eq(&first.items[n].1, &second.items[n].1);
    assert!((0..100).all(|n| same(n) == (n != 70)));
    assert!(lists.read(&body("A", &of(31_000, 2))).unwrap().is_none(), "the same body");
    lists.forget();
    let third = read(&mut lists, &body("A", &of(31_000, 2)));
    assert_eq!((third.items.len(), third.decoded), (100, 0));
}

#[test]
fn what_means_something_is_news_wherever_it_stands() {
    let mut lists = Lists::new();
    let decoded = |lists: &mut Lists, app: &str, entry: String| {
        read(lists, &body(app, &[entry, format!(r#"{{"n":{}}}"#, fastrand::u64(..))])).decoded - 1
    };
    assert_eq!(decoded(&mut lists, "A", entry(1, 1, 7, "")), 1);
    assert_eq!(decoded(&mut lists, "A", entry(1, 2, 7, "")), 0);
    assert_eq!(decoded(&mut lists, "A", entry(1, 2, 8, "")), 1, "it registered anew");
    assert_eq!(decoded(&mut lists, "B", entry(1, 2, 8, "")), 1, "another application's");
    let beside = |n: u64| format!(r#""lastRenewalTimestamp":{n},"x":"leaseInfo:{{{n}}}""#);
    assert_eq!(decoded(&mut lists, "B", entry(1, 2, 8, &beside(1))), 1);
    assert_eq!(decoded(&mut lists, "B", entry(1, 2, 8, &beside(2))), 1, "a user's own entry");
    let odd = |n: u64| format!(r#"{{"instanceId":"i","leaseInfo":{{"lastRenewalTimestamp":"{n}}}"}}}}"#);
    assert_eq!((decoded(&mut lists, "B", odd(1)), decoded(&mut lists, "B", odd(2))), (1, 1));
    let none = |n: u64| format!(r#"{{"instanceId":"i{n}","leaseInfo":null}}"#);
    assert_eq!((decoded(&mut lists, "B", none(1)), decoded(&mut lists, "B", none(2))), (1, 1));
}

#[test]
fn a_malformed_body_is_forgotten_and_what_was_known_is_not() {
    let mut lists = Lists::new();
    let good = body("A", &[entry(1, 1, 7, "")]);
    read(&mut lists, &good);
    for _ in 0..2 {
        assert!(lists.read("{\"applications\":{").is_err());
    }
    assert_eq!(read(&mut lists, &good).decoded, 0);
}

#[test]
fn whatever_becomes_of_a_list_it_is_read_as_by_somebody_who_knows_nothing() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut lists = Lists::new();
    // Id, weight, registration, and the digits of the beat.
    let mut fleet: Vec<(usize, u32, u64, u64)> = (0..60).map(|id| (id, 1, 7, 100)).collect();
    let mut next_id = fleet.len();
    for round in 0..400 {
        for _ in 0..rng.usize(0..4) {
            let at = rng.usize(0..=fleet.len());
            match rng.u8(0..8) {
                0 | 1 => {
                    fleet.insert(at, (next_id, 1, 7, 100));
                    next_id += 1;
                }
                2 | 3 if at < fleet.len() => drop(fleet.remove(at)),
                4 | 5 if at < fleet.len() => fleet[at].1 = rng.u32(1..100),
                6 if at < fleet.len() => fleet[at].2 += 1,
                7 if at < fleet.len() => fleet.rotate_left(at),
                _ => {}
            }
        }
        if rng.u8(0..20) == 0 {
            rng.shuffle(&mut fleet);
        }
        fleet.iter_mut().for_each(|one| one.3 += rng.u64(1..200));
        let entries = |fleet: &[(usize, u32, u64, u64)]| -> Vec<String> {
            let one = |(id, weight, registered, beat): &(usize, u32, u64, u64)| {
                entry(*id, *beat, *registered, &format!(r#""weight":"{weight}","n":"}},{{""#))
            };
            fleet.iter().map(one).collect()
        };
        let (a, b) = fleet.split_at(fleet.len() / 3);
        let apps = [("A", a), ("B", b)]
            .map(|(name, part)| format!(r#"{{"name":"{name}","instance":[{}]}}"#, entries(part).join(", ")));
        let text = format!(
            r#"{{"applications":{{"apps__hashcode":"UP_{round}_","application":[{}]}}}}"#,
            apps.join(",")
        );
        let (list, anew) = (read(&mut lists, &text), Fetched::parse(&text).unwrap());
        assert_eq!((&list.hash, &list.items), (&anew.hash, &anew.items), "{text}");
        assert!(list.items.len() == fleet.len() && list.items.iter().all(|(_, one)| one.unread.is_none()));
    }
}

#[test]
fn who_moves_comes_or_goes_costs_nobody_else_a_reading() {
    let mut lists = Lists::new();
    let of = |ids: &[usize]| body("A", &ids.iter().map(|id| entry(*id, 1, 7, "")).collect::<Vec<_>>());
    let decoded = |ids: &[usize], lists: &mut Lists| read(lists, &of(ids)).decoded;
    let mut ids: Vec<usize> = (0..50).collect();
    assert_eq!(decoded(&ids, &mut lists), 50);
    ids.remove(20);
    assert_eq!(decoded(&ids, &mut lists), 0);
    ids.splice(10..10, [100, 101, 102]);
    assert_eq!(decoded(&ids, &mut lists), 3);
    ids.rotate_left(7);
    assert_eq!(decoded(&ids, &mut lists), 0);
    ids.drain(3..9);
    assert_eq!(decoded(&ids, &mut lists), 0);
    ids.reverse();
    assert_eq!(decoded(&ids, &mut lists), 0);
}

#[test]
fn what_is_passed_over_is_json_and_ends_where_it_ends() {
    let mut lists = Lists::new();
    let of = |beat: &str, tail: &str| {
        let entry =
            |n: u8| format!(r#"{{"instanceId":"{n}","leaseInfo":{{"lastRenewalTimestamp":{beat}}}}}"#);
        let entries = format!("{},{}{tail}", entry(1), entry(2));
        format!(
            r#"{{"applications":{{"apps__hashcode":"X","application":[{{"name":"A","instance":[{entries}]}}]}}}}"#
        )
    };
    assert_eq!(read(&mut lists, &of("10", "")).decoded, 2);
    for (beat, tail) in [("01", ""), ("1a", ""), ("", ""), ("-", ""), ("11", ","), ("11", "1"), ("11", ",]")]
    {
        let body = of(beat, tail);
        assert!(
            serde_json::from_str::<serde_json::Value>(&body).is_err() && lists.read(&body).is_err(),
            "{body}"
        );
    }
    for strange in [format!("{}\u{c}", of("11", "")), format!("\u{c}{}", of("11", "")), of("11", "\u{c}")] {
        assert!(lists.read(&strange).is_err(), "a form feed is no white space to JSON");
    }
    assert_eq!(read(&mut lists, &of("11", "")).decoded, 0);
    assert_eq!(read(&mut lists, &of("0", "")).decoded, 0, "of fewer digits");
    assert_eq!(read(&mut lists, &of("12", r#",{"instanceId":"3"}"#)).items.len(), 3);
}
