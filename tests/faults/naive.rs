//! The proof that the suite can fail: the client that everybody writes first, on the same rows as ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use registry_naive::NaiveFleets;
use registry_testkit::faults::{
    Figure, History, Invariant, Violation, d1_never_wiped, d2_convergence, figure, r1_reconvergence,
    r3_no_false_life, r4_callback_discipline,
};

use crate::{
    etcd::{
        self, Row,
        world::{BACK_WITHIN, READER, TTL},
    },
    live::run::bounded,
};

/// A row, and what the naive way is known to break there; nothing where it gets through.
const KNOWN: &[(&str, &[Invariant])] = &[
    ("row_01_a_killed_etcd_that_comes_back_with_its_data_costs_no_loss", &[Invariant::R1]),
    ("row_01_an_etcd_that_is_down_for_twice_the_ttl_costs_each_registration_one_loss", &[Invariant::R1]),
    ("row_02_a_wiped_etcd_is_filled_again", &[Invariant::R1]),
    ("row_03_an_etcd_frozen_for_twice_the_ttl_costs_each_registration_one_loss", &[Invariant::R1]),
    ("row_04_a_link_cut_longer_than_the_ttl_costs_each_registration_one_loss", &[Invariant::R1]),
    ("row_04_an_isolated_member_that_holds_our_connection_costs_no_loss", &[]),
    ("row_06_a_half_open_link_costs_each_registration_one_loss", &[Invariant::R1, Invariant::R3]),
    ("row_09_a_killed_leader_of_three_costs_no_loss", &[]),
    ("row_09_no_leader_for_twice_the_ttl_costs_each_registration_one_loss", &[Invariant::R1]),
    ("row_10_compaction_while_disconnected_costs_a_new_list_and_no_view", &[Invariant::D2]),
    ("row_15_a_list_that_is_empty_after_a_reconnect_is_held_and_then_believed", &[Invariant::D2]),
];
/// Rows at a time: most of a row is waiting.
const AT_A_TIME: usize = 4;
/// What lies between two samples on a busy machine.
const SLACK: Duration = Duration::from_millis(300);

/// Characters of a violation that a figure shows.
const SHOWN: usize = 40;

/// What came of one row.
struct Told {
    row: u8,
    name: &'static str,
    broken: BTreeSet<Invariant>,
    text: String,
}

#[test]
#[ignore = "needs etcd: cargo xtask matrix --backend naive"]
fn the_naive_way_fails_the_rows_it_is_known_to_fail() {
    let all: BTreeMap<&str, Row> = etcd::all().into_iter().map(|row| (row.name, row)).collect();
    let queue = Mutex::new(KNOWN.iter().map(|(name, _)| all[name]).collect::<Vec<_>>());
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(row) = { queue.lock().unwrap().pop() } {
                    let result = play(row);
                    told.lock().unwrap().push(result);
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    let mut lines: BTreeMap<u8, BTreeSet<&str>> = BTreeMap::new();
    for told in &told {
        println!("{}: {}", told.name, told.text);
        lines.entry(told.row).or_default().insert(&told.text);
    }
    for (row, texts) in lines {
        let texts: Vec<&str> = texts.into_iter().collect();
        figure(row, "naive", "", texts.join("; "));
    }
    for (name, known) in KNOWN {
        let told = told.iter().find(|told| told.name == *name).expect("every row was played");
        let lacking: Vec<_> = known.iter().filter(|invariant| !told.broken.contains(invariant)).collect();
        assert!(lacking.is_empty(), "{name}: the naive way kept {lacking:?}: {}", told.text);
    }
}

/// Plays a row with the naive client on a runtime of its own, and lets all validators speak that judge any story.
fn play(row: Row) -> Told {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let history = History::new();
    let verdict = runtime.block_on(bounded((row.story)(&NaiveFleets, &history)));
    // A story ends at what was broken first; what else was broken by then is in the history.
    let mut violations: Vec<Violation> = verdict.err().into_iter().collect();
    if !violations.is_empty() {
        let others: [Result<Figure, Violation>; 5] = [
            r1_reconvergence(&history, BACK_WITHIN),
            r3_no_false_life(&history, TTL, SLACK),
            r4_callback_discipline(&history),
            d1_never_wiped(&history, READER),
            d2_convergence(&history, READER, BACK_WITHIN),
        ];
        violations.extend(others.into_iter().filter_map(Result::err));
    }
    let broken: BTreeSet<Invariant> = violations.iter().map(|violation| violation.invariant).collect();
    let text = match violations.first() {
        None => "holds".to_owned(),
        // It has no events, so no story of ours can end well for it.
        Some(_) if broken.iter().eq([&Invariant::R4]) => "holds, but tells nobody (R4)".to_owned(),
        Some(first) => {
            let names: Vec<String> = broken.iter().map(ToString::to_string).collect();
            // Enough to see what it is about; the whole is in the violation.
            let what: String = first.what.chars().take(SHOWN).collect();
            format!("fails {}: {what}", names.join(" "))
        }
    };
    let row_number = row.name["row_".len()..][..2].parse().expect("a row's name begins with its number");
    Told { row: row_number, name: row.name, broken, text }
}
