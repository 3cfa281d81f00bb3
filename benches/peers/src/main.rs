//! Picks of other libraries beside ours, in the same process and rounds (P9): `cargo xtask bench --peers`.
//!
//! Each chooses one of N instances and reads a field of it; ours by the policy of the same kind. Only reports: their
//! picks do other things besides, such as the health check of pingora or the readiness of tower's services.

use std::{convert::Infallible, future, net::SocketAddr, process::ExitCode, sync::Arc, task};

use futures::FutureExt;
use pingora_load_balancing::{
    LoadBalancer,
    selection::{Random, RoundRobin},
};
use registry_bench_support::{Bound, Case, CountingAllocator, Rounds, conclude};
use registry_core::{Instance, Target, Upstream, balance::Balance};
use tower::{Service, balance::p2c, discover::ServiceList, load::Constant};
use volo::{
    context::Endpoint,
    discovery::{Instance as VoloInstance, StaticDiscover},
    loadbalance::{LoadBalance, random::WeightedRandomBalance},
    net::Address,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const OURS: [&str; 3] = ["ours: round robin", "ours: random", "ours: weighted"];
const VOLO: &str = "volo WeightedRandomBalance";
const ROUND_ROBIN: &str = "pingora RoundRobin";
const RANDOM: &str = "pingora Random";
const TOWER: &str = "tower p2c Balance";

fn main() -> ExitCode {
    let mut bounds = Vec::new();
    for count in [10, 1_000, 10_000] {
        let rounds = Rounds::on_one_thread(&cases(count));
        rounds.print(&format!("N = {count}"), &[VOLO, ROUND_ROBIN, TOWER]);
        for (ours, peer, limit, unit) in [
            (OURS[2], VOLO, 0.35, "x volo"),
            (OURS[0], ROUND_ROBIN, 0.1, "x pingora"),
            (OURS[1], RANDOM, 0.1, "x pingora"),
            (OURS[1], TOWER, 0.1, "x tower"),
        ] {
            let what = format!("{} beside {peer}, N = {count}", ours.trim_start_matches("ours: "));
            bounds.push(Bound::at_most("P9", what, rounds.ratio(ours, peer), limit, unit).report());
        }
    }
    conclude(&bounds)
}

fn cases(count: usize) -> Vec<Case> {
    let ours = |name, balance: &Balance, weight: fn(usize) -> u32| {
        let target = Target::try_from("orders").expect("a valid name");
        let upstream = Upstream::fixed(target, instances(count, weight), balance);
        Case::new(name, upstream, |upstream: &Upstream| {
            upstream.with_pick(|instance| u64::from(instance.weight().get())).unwrap_or_default()
        })
    };
    vec![
        ours(OURS[0], &Balance::round_robin(), |_| 100),
        ours(OURS[1], &Balance::random(), |_| 100),
        ours(OURS[2], &Balance::weighted_random(), unequal),
        volo(count),
        pingora::<RoundRobin>(ROUND_ROBIN, count),
        pingora::<Random>(RANDOM, count),
        tower(count),
    ]
}

fn unequal(number: usize) -> u32 {
    1 + (number % 7 * 50) as u32
}

fn address(number: usize) -> SocketAddr {
    ([10, 0, (number / 250) as u8, (number % 250 + 1) as u8], 8080).into()
}

fn instances(count: usize, weight: fn(usize) -> u32) -> Vec<Instance> {
    let build = |number: usize| {
        let builder = Instance::builder("orders").id(format!("instance-{number}"));
        let builder = builder.endpoint(&format!("http://{}", address(number)));
        builder.weight(weight(number)).build().expect("a valid instance")
    };
    (0..count).map(build).collect()
}

fn volo(count: usize) -> Case {
    let instance = |number| {
        let address = Address::Ip(address(number));
        Arc::new(VoloInstance { address, weight: unequal(number), tags: Default::default() })
    };
    let discover = StaticDiscover::new((0..count).map(instance).collect());
    let balance = WeightedRandomBalance::with_discover(&discover);
    Case::new(VOLO, (balance, discover, Endpoint::new("orders".into())), |(balance, discover, endpoint)| {
        let picker = balance.get_picker(endpoint, discover).now_or_never();
        match picker.and_then(Result::ok).and_then(|mut picker| picker.next()) {
            Some(Address::Ip(address)) => u64::from(address.port()),
            _ => 0,
        }
    })
}

fn pingora<S>(name: &'static str, count: usize) -> Case
where
    S: pingora_load_balancing::selection::BackendSelection + Send + Sync + 'static,
    S::Iter: pingora_load_balancing::selection::BackendIter,
{
    let balancer = LoadBalancer::<S>::try_from_iter((0..count).map(address)).expect("addresses");
    Case::new(name, balancer, |balancer| {
        let backend = balancer.select(b"", 256);
        backend
            .and_then(|backend| backend.addr.as_inet().map(|address| u64::from(address.port())))
            .unwrap_or(0)
    })
}

/// A service that only knows its instance.
#[derive(Clone)]
struct Knows(Arc<Instance>);

impl Service<()> for Knows {
    type Response = u64;
    type Error = Infallible;
    type Future = future::Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        future::ready(Ok(u64::from(self.0.weight().get())))
    }
}

/// One balancer per thread: it picks by `&mut self`.
fn tower(count: usize) -> Case {
    let services: Vec<Knows> =
        instances(count, |_| 100).into_iter().map(|instance| Knows(Arc::new(instance))).collect();
    Case::with_local(
        TOWER,
        services,
        |services: &Vec<Knows>| {
            let loaded: Vec<_> = services.iter().map(|service| Constant::new(service.clone(), 1)).collect();
            p2c::Balance::<_, ()>::new(ServiceList::new::<()>(loaded))
        },
        |_, balance| {
            let mut context = task::Context::from_waker(task::Waker::noop());
            match balance.poll_ready(&mut context) {
                task::Poll::Ready(Ok(())) => {
                    balance.call(()).now_or_never().and_then(Result::ok).unwrap_or(0)
                }
                _ => 0,
            }
        },
    )
}
