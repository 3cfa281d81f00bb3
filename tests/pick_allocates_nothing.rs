//! Promise 4: picking is allocation-free, under every policy and in every form. Only the first pick of a
//! thread may set up that thread's random numbers.

use std::time::Duration;

use registry_bench_support::{CountingAllocator, allocations};
use registry_core::{
    Client, Discover, Instance, InstanceKey, MemoryRegistry, SlowStart, Status, Target, Upstream,
    balance::{Balance, Failure, Outcome, PickContext, RingHash},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const POLICIES: [&str; 7] =
    ["round_robin", "random", "weighted_random", "least_request", "peak_ewma", "maglev", "ring_hash"];

fn upstream(balance: &Balance, instances: u32) -> Upstream {
    let instances = (0..instances).map(|id| {
        let builder = Instance::builder("orders").id(format!("i{id}")).endpoint("http://10.0.0.1:80");
        builder.weight(1 + id % 7 * 50).build().expect("a valid instance")
    });
    let upstream = Upstream::fixed(Target::try_from("orders").expect("a valid name"), instances, balance);
    upstream.with_pick(|_| ()).expect("instances to pick");
    upstream
}

/// Runs a pick a thousand times for each policy and size, and fails if any of them allocates.
fn never_allocates(pick: impl Fn(&Upstream, &[InstanceKey])) {
    let policies = POLICIES.map(|policy| policy.parse().expect("a policy of this crate"));
    for balance in policies.into_iter().chain([RingHash::new().bounded_load(1.25).into()]) {
        for instances in [1, 10, 1_000, 10_000] {
            let upstream = upstream(&balance, instances);
            let tried: Vec<_> = upstream.snapshot().iter().take(3).map(|i| i.key()).collect();
            let (count, ()) = allocations(|| (0..1_000).for_each(|_| pick(&upstream, &tried)));
            assert_eq!(count, 0, "{balance:?} of {instances}");
        }
    }
}

#[test]
fn the_counter_counts() {
    let (count, list) = allocations(|| vec![1, 2, 3]);
    assert_eq!((count, list.len()), (1, 3));
}

#[test]
fn a_borrowing_pick_allocates_nothing() {
    never_allocates(|upstream, _| assert_eq!(upstream.with_pick(|i| i.endpoint().port()).unwrap(), 80));
}

#[test]
fn an_owning_pick_allocates_nothing() {
    never_allocates(|upstream, _| drop(upstream.pick().unwrap()));
}

#[test]
fn a_pick_that_reports_a_success_allocates_nothing() {
    never_allocates(|upstream, _| upstream.pick().unwrap().report(Outcome::success()));
}

/// Failures may allocate: they are written down one by one. What they leave behind may not cost the others anything.
///
/// On a paused clock: peak EWMA asks an instance that failed again only once its bad mark has faded, in seconds.
#[tokio::test(start_paused = true)]
async fn successes_are_counted_without_allocating_while_others_fail_and_are_ejected() {
    const BETWEEN_PICKS: Duration = Duration::from_millis(1);
    fastrand::seed(1);
    for balance in POLICIES.map(|policy| policy.parse().expect("a policy of this crate")) {
        for instances in [3, 10, 1_000] {
            let upstream = upstream(&balance, instances);
            let ill = upstream.pick().unwrap().key();
            while !upstream.snapshot().is_ejected(&ill) {
                let picked = upstream.pick().unwrap();
                let is_ill = picked.key() == ill;
                let failed = Outcome::failure(Failure::Connect);
                picked.report(if is_ill { failed } else { Outcome::success() });
                tokio::time::advance(BETWEEN_PICKS).await;
            }
            // The first pick of a thread from another version takes a hold on it.
            drop(upstream.pick().unwrap());
            let (count, ()) = allocations(|| {
                for _ in 0..1_000 {
                    upstream.pick().unwrap().report(Outcome::success());
                    upstream.with_pick(|_| ()).unwrap();
                }
            });
            assert_eq!(count, 0, "{balance:?} of {instances}");
            assert!(upstream.snapshot().is_ejected(&ill), "{balance:?} of {instances}");
        }
    }
}

#[test]
fn a_pick_by_key_allocates_nothing() {
    never_allocates(|upstream, _| {
        let key = PickContext::hash_of("customer 4711");
        upstream.pick_with(&PickContext::new().hash_key(key)).unwrap().report(Outcome::success());
    });
}

#[test]
fn a_pick_that_excludes_what_was_tried_allocates_nothing() {
    never_allocates(|upstream, tried| {
        drop(upstream.pick_with(&PickContext::new().tried(tried).hash_key(7).zone("z1")).unwrap());
    });
}

#[tokio::test(start_paused = true)]
async fn a_pick_that_spills_over_or_meets_a_new_instance_allocates_nothing() {
    let registry = MemoryRegistry::new();
    let owner = Client::from_backend(registry.backend()).await.unwrap();
    let instance = |id: u32| {
        let zone = if id < 10 { "near" } else { "far" };
        let status = if id < 5 { Status::Down } else { Status::Serving };
        let builder = Instance::builder("orders").id(format!("i{id}")).endpoint("http://10.0.0.1:80");
        builder.zone(zone).status(status).weight(1 + id % 7 * 50).build().unwrap()
    };
    let mut standing = Vec::new();
    for id in 0..30 {
        standing.push(owner.register(instance(id)).await.unwrap());
    }
    let slow_start: SlowStart = "on".parse().unwrap();
    for policy in POLICIES {
        let discover = Discover::new(Target::try_from("orders").unwrap()).zone("near").slow_start(slow_start);
        let discover = discover.balance(policy.parse().unwrap());
        let upstream = owner.discover_with(discover).await.unwrap();
        let fresh = owner.register(instance(99)).await.unwrap();
        upstream.ready(26).await.unwrap();
        upstream.with_pick(|_| ()).unwrap();
        let mut spilt = 0;
        let picks = || {
            (0..2_000).for_each(|_| {
                spilt += u32::from(upstream.with_pick(|i| i.zone() == Some("far")).unwrap());
                drop(upstream.pick().unwrap());
            });
        };
        let (count, ()) = allocations(picks);
        assert_eq!(count, 0, "{policy}");
        assert!((400..800).contains(&spilt), "{policy}: {spilt} of 2,000");
        fresh.deregister().await;
    }
}
