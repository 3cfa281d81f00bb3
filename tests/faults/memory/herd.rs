//! Row 19: a thousand clients and one registry that comes back. The keepers and reflectors are the real ones; each
//! client has a link of its own, so that every arrival is known by its client and its instant.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use registry_core::{Client, Instance, MemoryRegistry, Registration, Upstream, memory::Operation};
use tokio::time::{Instant, sleep};

use super::{
    scripted::Link,
    support::{back_within, client_over, figure, instance, secs},
};

const CLIENTS: usize = 1_000;
/// No stretch of this length may hold more than a tenth of the arrivals.
const STRETCH: Duration = Duration::from_millis(100);
/// Most attempts of one client in the minute after the registry is ready.
const MOST_ATTEMPTS: usize = 15;

struct Herd {
    registry: MemoryRegistry,
    links: Vec<Link>,
    clients: Vec<Client>,
}

impl Herd {
    async fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let registry = MemoryRegistry::new();
        let links: Vec<_> = (0..CLIENTS).map(|_| Link::clear(&registry)).collect();
        let clients = join_all(links.iter().map(|link| client_over(link.backend()))).await;
        Self { registry, links, clients }
    }

    async fn owners(&self) -> Vec<Registration> {
        let register = |(n, client): (usize, &Client)| {
            let (client, instance) = (client.clone(), owned(n));
            async move { client.register(instance).await.unwrap() }
        };
        join_all(self.clients.iter().enumerate().map(register)).await
    }

    async fn readers(&self) -> Vec<Upstream> {
        join_all(self.clients.iter().map(|client| async { client.discover("orders").await.unwrap() })).await
    }

    /// Judges H1 over the minute from `ready` on.
    fn judge(&self, ready: Instant) -> Judged {
        let minute = ready..ready + secs(60);
        let mut all = Vec::new();
        let mut most = 0;
        for link in &self.links {
            let asked: Vec<_> = link.asked().into_iter().filter(|ask| minute.contains(&ask.at)).collect();
            // Renewals and audits of a client that is well again are its ordinary work; the rest is the herd.
            let attempts = asked.iter().filter(|ask| is_attempt(ask.operation)).count();
            most = most.max(attempts);
            all.extend(asked.iter().map(|ask| ask.at));
        }
        Judged { arrivals: all.len(), densest: densest(all), most }
    }

    /// The herd alone, without a call of those who are back: what each asked until it published again.
    fn judge_until_published(&self, ready: Instant) -> Judged {
        let calls: Vec<Vec<Instant>> = self
            .links
            .iter()
            .map(|link| {
                let asked: Vec<_> = link.asked().into_iter().filter(|ask| ask.at >= ready).collect();
                let published = asked.iter().position(|ask| ask.operation == Operation::Publish);
                let until = published.expect("everybody published again");
                asked[..=until].iter().map(|ask| ask.at).collect()
            })
            .collect();
        let most = calls.iter().map(Vec::len).max().unwrap_or(0);
        let all = calls.concat();
        Judged { arrivals: all.len(), densest: densest(all), most }
    }
}

/// How many the densest stretch holds.
fn densest(mut all: Vec<Instant>) -> usize {
    all.sort_unstable();
    let (mut densest, mut from) = (0, 0);
    for (at, instant) in all.iter().enumerate() {
        while *instant - all[from] >= STRETCH {
            from += 1;
        }
        densest = densest.max(at + 1 - from);
    }
    densest
}

struct Judged {
    arrivals: usize,
    densest: usize,
    most: usize,
}

impl Judged {
    fn assert(&self) -> String {
        let Self { arrivals, densest, most } = self;
        assert!(*arrivals >= CLIENTS, "only {arrivals} arrivals: not everybody came back");
        assert!(
            densest * 10 <= *arrivals,
            "H1: one stretch of 100 ms holds {densest} of {arrivals} arrivals"
        );
        assert!(*most <= MOST_ATTEMPTS, "H1: one client made {most} attempts");
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let share = 100.0 * *densest as f64 / *arrivals as f64;
        format!("{share:.1} % of arrivals in the densest 100 ms, ≤ {most} attempts per client")
    }
}

fn is_attempt(operation: Operation) -> bool {
    matches!(operation, Operation::Grant | Operation::Publish | Operation::Watch | Operation::Lookup)
}

fn owned(n: usize) -> Instance {
    instance(&format!("s{}", n % 10), &format!("i{n}"))
}

/// Judges the herd alone, of owners that joined one after another and that an outage made a registry forget.
async fn owners_by_themselves(outage: Duration, seed: u64) {
    let herd = Herd::new(seed).await;
    let joining = herd.clients.iter().enumerate().map(|(n, client)| async move {
        sleep(STRETCH.mul_f64(50.0 * fastrand::f64())).await;
        client.register(owned(n)).await.unwrap()
    });
    let registrations = join_all(joining).await;
    sleep(secs(8)).await;
    herd.registry.faults().unavailable(true);
    sleep(outage).await;
    herd.registry.faults().lose_data();
    herd.registry.faults().heal();
    let ready = Instant::now();
    let back = back_within(&herd.registry, &registrations, secs(10)).await;
    figure(19, &format!("owners, outage of {outage:?}: back after"), back);
    figure(19, "herd of owners", herd.judge_until_published(ready).assert());
}

/// Their claims end one after another, and whose claim has ended publishes anew: each is at the first of his attempts
/// when the registry returns, between what he drew for the first one and the pauses after it.
#[tokio::test(start_paused = true)]
async fn row_19_a_thousand_owners_whose_claims_have_just_ended_are_no_stampede_by_themselves() {
    for (outage, seed) in [(secs(13), 28), (secs(15), 29), (secs(16), 30), (secs(18), 31)] {
        owners_by_themselves(outage, seed).await;
    }
}

/// Nothing dilutes the herd here, and nobody started with another: the beats of a thousand are due one after another, so
/// that in each 100 ms of an outage 20 more of them fail, and 100 try again in the first 100 ms after it. They learn that
/// they are forgotten, and come back within the next 2.5 s, 40 in each 100 ms: with what follows each such beat, a
/// twentieth of all calls is expected in the densest stretch.
#[tokio::test(start_paused = true)]
async fn row_19_a_thousand_owners_that_a_short_outage_forgot_are_no_stampede_by_themselves() {
    for (outage, seed) in [(secs(1), 25), (secs(2), 26), (secs(4), 27)] {
        owners_by_themselves(outage, seed).await;
    }
}

async fn owners_after(outage: Duration, loses_data: bool, seed: u64) -> (Judged, Duration) {
    let herd = Herd::new(seed).await;
    let registrations = herd.owners().await;
    sleep(secs(8)).await;
    herd.registry.faults().unavailable(true);
    sleep(outage).await;
    if loses_data {
        herd.registry.faults().lose_data();
    }
    herd.registry.faults().heal();
    let ready = Instant::now();
    let back = back_within(&herd.registry, &registrations, secs(10)).await;
    tokio::time::sleep_until(ready + secs(60)).await;
    (herd.judge(ready), back)
}

#[tokio::test(start_paused = true)]
async fn row_19_a_thousand_owners_come_back_one_by_one_after_a_long_outage() {
    let (judged, back) = owners_after(secs(40), true, 19).await;
    figure(19, "back after", back);
    figure(19, "herd", judged.assert());
}

#[tokio::test(start_paused = true)]
async fn row_19_a_thousand_owners_come_back_one_by_one_after_a_restart_without_data() {
    let (judged, back) = owners_after(secs(2), true, 20).await;
    figure(19, "back after", back);
    figure(19, "herd", judged.assert());
}

#[tokio::test(start_paused = true)]
async fn row_19_a_thousand_readers_come_back_one_by_one() {
    for (outage, seed) in [(Duration::ZERO, 21), (secs(2), 22), (secs(5), 24), (secs(30), 23)] {
        let herd = Herd::new(seed).await;
        let owner = client_over(herd.registry.backend()).await;
        let _registrations =
            join_all((0..10).map(|n| owner.register(instance("orders", &format!("i{n}"))))).await;
        let upstreams = herd.readers().await;
        sleep(secs(2)).await;
        let faults = herd.registry.faults();
        faults.on(Operation::Watch).unavailable(true);
        sleep(outage).await;
        faults.on(Operation::Watch).unavailable(false);
        let ready = Instant::now();
        sleep(secs(60)).await;
        let fresh = |upstream: &Upstream| upstream.freshness().state == registry_core::ViewState::Fresh;
        assert!(upstreams.iter().all(fresh), "R1: every view is fresh again");
        let mut opened: BTreeMap<Duration, usize> = BTreeMap::new();
        for link in &herd.links {
            let last = link.times(Operation::Watch).last().copied().unwrap();
            *opened.entry(last.saturating_duration_since(ready)).or_default() += 1;
        }
        let last = *opened.keys().last().unwrap();
        assert!(last <= secs(10), "R1: the last reader came back after {last:?}");
        let judged = herd.judge(ready);
        figure(19, &format!("readers, outage of {outage:?}: back after"), last);
        figure(19, "herd of readers", judged.assert());
    }
}
