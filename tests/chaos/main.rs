//! Random faults on a cluster of three, judged by the validators of the fault suite: `cargo xtask chaos`.
//!
//! 100 registrations of five clients, 20 readers, users who register, update, take over and deregister all the time.
//! Each round breaks one thing or two, repairs them, and then everything has to be right again within its bound.
#![cfg(all(feature = "etcd", unix))]
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod plan;
mod round;
mod run;
mod site;
mod truth;
mod world;

use self::plan::Plan;

/// Two, if nobody says: what belongs to every run of all checks.
const MINUTES: u64 = 2;

#[test]
#[ignore = "needs etcd and minutes: cargo xtask chaos"]
fn random_faults_are_survived() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
    };
    let minutes = number("CHAOS_MINUTES").unwrap_or(MINUTES);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let plan = Plan::draw(seed, minutes);
    println!("\n{plan}");
    println!("repeat with: cargo xtask chaos --minutes {minutes} --seed {seed}");
    if std::env::var_os("CHAOS_PLAN").is_some() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let result = runtime.block_on(run::all(&plan, minutes));
    if let Err(failure) = result {
        panic!("{failure}\nrepeat with: cargo xtask chaos --minutes {minutes} --seed {seed}");
    }
}
