//! Picks of other libraries beside ours, in the same process and rounds (P9): `cargo xtask bench --peers`.
//!
//! Each chooses one of N instances and reads a field of it; ours by the policy of the same kind, and with its release
//! where a policy counts or learns. Only reports: their picks do other things besides, such as the health check of
//! pingora or the readiness of tower's services.

use std::{convert::Infallible, future, net::SocketAddr, process::ExitCode, sync::Arc, task, time::Duration};

use futures::FutureExt;
use pingora_load_balancing::{
    LoadBalancer,
    selection::{Consistent, Random, RoundRobin},
};
use registry_bench_support::{Bound, Case, CountingAllocator, Rounds, conclude};
use registry_core::{
    Instance, Target, Upstream,
    balance::{Balance, Outcome, PickContext},
};
use tokio::runtime::Runtime;
use tower::{
    Service,
    balance::p2c,
    discover::ServiceList,
    load::{CompleteOnResponse, Constant, Load, PeakEwma, PendingRequests},
};
use volo::{
    context::Endpoint,
    discovery::{Instance as VoloInstance, StaticDiscover},
    loadbalance::{LoadBalance, random::WeightedRandomBalance},
    net::Address,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const OURS: [&str; 6] = [
    "ours: round robin",
    "ours: random",
    "ours: weighted",
    "ours: least request",
    "ours: peak EWMA",
    "ours: by key",
];
const VOLO: &str = "volo WeightedRandomBalance";
const ROUND_ROBIN: &str = "pingora RoundRobin";
const RANDOM: &str = "pingora Random";
const KETAMA: &str = "pingora Consistent";
const TOWER: &str = "tower p2c Balance";
const PENDING: &str = "tower p2c PendingRequests";
const EWMA: &str = "tower p2c PeakEwma";

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
            (OURS[3], PENDING, 0.1, "x tower"),
            // Two looks at the clock are half of ours and cost both the same.
            (OURS[4], EWMA, 0.5, "x tower"),
            (OURS[5], KETAMA, 0.2, "x pingora"),
        ] {
            let what = format!("{} beside {peer}, N = {count}", ours.trim_start_matches("ours: "));
            bounds.push(Bound::at_most("P9", what, rounds.ratio(ours, peer), limit, unit).report());
        }
    }
    conclude(&bounds)
}

fn cases(count: usize) -> Vec<Case> {
    let upstream = |balance: &Balance, weight: fn(usize) -> u32| {
        let target = Target::try_from("orders").expect("a valid name");
        Upstream::fixed(target, instances(count, weight), balance)
    };
    let read = |instance: &Instance| u64::from(instance.weight().get());
    let ours = |name, balance: &Balance, weight: fn(usize) -> u32| {
        Case::new(name, upstream(balance, weight), move |upstream: &Upstream| {
            upstream.with_pick(read).unwrap_or_default()
        })
    };
    let learning = Case::new(OURS[4], upstream(&Balance::peak_ewma(), |_| 100), move |upstream| {
        upstream.pick().map_or(0, |picked| {
            let weight = read(&picked);
            picked.report(Outcome::success());
            weight
        })
    });
    let keyed = Case::with_local(
        OURS[5],
        upstream(&Balance::maglev(), |_| 100),
        |_| 0,
        move |upstream, key| {
            *key += 1;
            upstream.pick_with(&PickContext::new().hash_key(*key)).map_or(0, |picked| read(&picked))
        },
    );
    vec![
        ours(OURS[0], &Balance::round_robin(), |_| 100),
        ours(OURS[1], &Balance::random(), |_| 100),
        ours(OURS[2], &Balance::weighted_random(), unequal),
        ours(OURS[3], &Balance::least_request(), |_| 100),
        learning,
        keyed,
        volo(count),
        pingora::<RoundRobin>(ROUND_ROBIN, count),
        pingora::<Random>(RANDOM, count),
        pingora::<Consistent>(KETAMA, count),
        tower(TOWER, count, |service| Constant::new(service, 1)),
        tower(PENDING, count, |service| PendingRequests::new(service, CompleteOnResponse::default())),
        tower(EWMA, count, |service| {
            let (seed, decay) = (Duration::from_millis(30), 10e9);
            PeakEwma::new(service, seed, decay, CompleteOnResponse::default())
        }),
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
    // Only the consistent one looks at the key.
    Case::with_local(
        name,
        balancer,
        |_| 0_u64,
        |balancer, key| {
            *key += 1;
            let backend = balancer.select(&key.to_le_bytes(), 256);
            backend
                .and_then(|backend| backend.addr.as_inet().map(|address| u64::from(address.port())))
                .unwrap_or(0)
        },
    )
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

/// One balancer per thread: it picks by `&mut self`. What a request is counted by ends with its answer.
fn tower<L>(name: &'static str, count: usize, load: impl Fn(Knows) -> L + Send + Sync + 'static) -> Case
where
    L: Load + Service<(), Response = u64, Error = Infallible>,
    L::Metric: PartialOrd + std::fmt::Debug,
    L::Future: Unpin,
{
    let services: Vec<Knows> =
        instances(count, |_| 100).into_iter().map(|instance| Knows(Arc::new(instance))).collect();
    let runtime = Runtime::new().expect("a runtime");
    Case::with_local(
        name,
        (services, runtime),
        move |(services, runtime): &(Vec<Knows>, Runtime)| {
            let _inside = runtime.enter();
            let loaded: Vec<_> = services.iter().map(|service| load(service.clone())).collect();
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
