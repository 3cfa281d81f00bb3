//! Row 19: many clients, and one server that is killed and comes back. Each client has a door of its own, so that every
//! call is known by its client and its instant.
//!
//! They are as many as [`Site::herd`] says, each with one registration and one watch: a thousand would need more of this
//! machine than the server leaves, and Consul takes at most 200 connections from one address. The thousand are told in
//! process, on a paused clock.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use registry_testkit::{
    Proxy, eventually,
    faults::{Figure, Fleet, FleetFactory, History, Invariant, Policy, Reader, Violation},
};
use service_registry::{Instance, InstanceKey, Phase, ViewState};
use tokio::time::{Instant, sleep};

use super::{
    Place, Site,
    counter::{Arrival, Counter},
    world::{BACK_WITHIN, Must, ensure},
};

/// So many services they have: what one client does wakes those that share its own.
const SERVICES: usize = 10;
/// No stretch of this length may hold more than a tenth of the calls.
const STRETCH: Duration = Duration::from_millis(100);
/// Most attempts of one client until all is well with it; see [`Site::is_attempt`].
const MOST_ATTEMPTS: usize = 15;
/// Most calls of one client until then, with what belongs to its attempts: one look each.
const MOST_CALLS: usize = 2 * MOST_ATTEMPTS;
/// Of the clients' first calls, most in a hundred within a stretch. A beat that failed is tried again within fractions of a
/// second, so that few clients have not called by then; with pauses of 40 ms it is all of them.
const MOST_AT_FIRST: f64 = 75.0;
/// Of all calls that clients make until they are well again, most in a hundred within a stretch: the herd without those
/// who are back. A tenth can't be asked of so few with a time to live of 5 s: whose beat failed tries again within a
/// sixth of that, so that the most even spread has an eighth in each stretch, a beat brings two more calls with it, and
/// chance does the rest (15 to 40 were seen). A tenth of a thousand clients is judged in process.
const MOST_OF_THE_HERD: f64 = 60.0;
/// How long calls are counted after the server is ready.
const COUNTED: Duration = Duration::from_secs(20);
/// How many clients join at a time.
const AT_A_TIME: usize = 4;
/// How often each client is looked at.
const LOOK: Duration = Duration::from_millis(50);

struct Member {
    fleet: Arc<dyn Fleet>,
    reader: Arc<dyn Reader>,
    key: InstanceKey,
    door: Counter,
    link: Proxy,
}

impl Member {
    async fn join(
        number: usize,
        place: &Place<'_>,
        fleets: &dyn FleetFactory,
        history: &History,
    ) -> Result<Self, Violation> {
        let door = Counter::start(place.address()).await.must("door")?;
        let link = Proxy::start(door.address()).await.must("proxy")?;
        let url = place.site.seldom(&place.url_via(&[link.address()]));
        let url = format!("{url}&register_timeout=20s&initial_timeout=20s");
        let fleet = fleets.open(&format!("client {number}"), &url, history).await.must("opening")?;
        let instance = owned(number);
        let key = instance.key();
        fleet.register(instance, Policy::default()).await.must("registering")?;
        let reader = fleet.discover("reader", key.service.as_str()).await.must("discovering")?;
        Ok(Self { fleet, reader, key, door, link })
    }

    fn shown(&self) -> String {
        let (view, phase) = (self.reader.view(), self.fleet.phase(&self.key));
        let epoch = self.fleet.epoch(&self.key);
        format!("{} is {phase:?} in epoch {epoch:?}, sees {:?} {}", self.key, view.state, view.records.len())
    }

    fn is_well(&self, siblings: usize) -> bool {
        let view = self.reader.view();
        let is_seen = view.state == ViewState::Fresh && view.records.len() == siblings;
        is_seen && self.fleet.phase(&self.key) == Some(Phase::Live)
    }
}

fn owned(number: usize) -> Instance {
    let endpoint = format!("http://10.1.0.{}:8080", number + 1);
    let service = format!("s{}", number % SERVICES);
    Instance::builder(service).id(format!("i{number:03}")).endpoint(endpoint).build().unwrap()
}

pub(crate) async fn come_back(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    let (clients, siblings) = (site.herd(), site.herd() / SERVICES);
    // A server that has just started is slow, and this is not what it's asked about.
    let joining = (0..clients).map(|number| Member::join(number, &place, fleets, history));
    let members: Vec<Member> = stream::iter(joining).buffered(AT_A_TIME).try_collect().await?;
    let start = async || members.iter().all(|member| member.is_well(siblings)).then_some(());
    eventually("everybody has everybody", 2 * BACK_WITHIN, start).await.must("the start")?;
    // Who forgets is to be told anew by everybody: one loss each.
    let epoch = if place.bounds.keeps { 0 } else { 1 };
    place.server.kill().await.must("kill")?;
    join_all(members.iter().map(|member| member.link.cut())).await;
    history.outage("killed");
    let killed = Instant::now();
    place.server.restart().await.must("restart")?;
    join_all(members.iter().map(|member| member.link.restore())).await;
    let ready = Instant::now();
    history.usable("restarted");
    let mut unwell = vec![ready; clients];
    while ready.elapsed() < COUNTED {
        for (member, unwell) in members.iter().zip(&mut unwell) {
            let is_served = member.door.is_answered(ready);
            if !is_served || !member.is_well(siblings) || member.fleet.epoch(&member.key) == Some(epoch) {
                *unwell = Instant::now();
            }
        }
        sleep(LOOK).await;
    }
    let back = unwell.iter().max().map_or(Duration::ZERO, |last| *last - ready);
    let late = members.iter().zip(&unwell).filter(|(_, last)| **last - ready > BACK_WITHIN);
    let late: Vec<String> = late.map(|(member, _)| member.shown()).collect();
    if !late.is_empty() {
        let what = format!("the last is back after {back:?}: {}", late.join("; "));
        return Err(Violation::new(Invariant::R1, what));
    }
    let calls: Vec<Vec<Arrival>> = members.iter().map(|member| member.door.arrivals(ready)).collect();
    let until_well = calls.iter().zip(&unwell);
    let until_well: Vec<&[Arrival]> = until_well
        // What made it well came after the last look at which it wasn't.
        .map(|(calls, unwell)| &calls[..calls.partition_point(|call| call.at <= *unwell + LOOK)])
        .collect();
    let attempts = |calls: &[Arrival]| calls.iter().filter(|call| site.is_attempt(&call.target)).count();
    let busiest = until_well.iter().max_by_key(|calls| attempts(calls)).copied().unwrap_or_default();
    let most = attempts(busiest);
    let most_calls = until_well.iter().map(|calls| calls.len()).max().unwrap_or(0);
    let instants = |calls: &[Arrival]| calls.iter().map(|call| call.at).collect::<Vec<_>>();
    let herd: Vec<Instant> = until_well.iter().copied().flat_map(instants).collect();
    let (in_herd, herd) = (herd.len(), densest(herd));
    let share = densest(calls.iter().flat_map(|calls| instants(calls)).collect());
    let first = densest(calls.iter().filter_map(|calls| Some(calls.first()?.at)).collect());
    let quiet = calls.iter().filter(|calls| calls.is_empty()).count();
    join_all(members.iter().map(|member| member.fleet.close())).await;
    let all: usize = calls.iter().map(Vec::len).sum();
    let told = format!(
        "{share:.1} % of {all} calls of {clients} clients in the densest 100 ms, {herd:.0} % of {in_herd} until they \
         were well, {first:.0} % of their first ones, ≤ {most} attempts and {most_calls} calls until well, away for {:.1} s",
        (ready - killed).as_secs_f64(),
    );
    ensure(quiet == 0, format!("{quiet} clients never called: {told}"))?;
    let is_crowd = share > 10.0 || herd > MOST_OF_THE_HERD || first > MOST_AT_FIRST;
    if is_crowd || most > MOST_ATTEMPTS || most_calls > MOST_CALLS {
        let busiest =
            busiest.iter().map(|call| format!("\n{:?} {} {:?}", call.at - ready, call.target, call.status));
        return Err(Violation::new(Invariant::H1, told + &busiest.collect::<String>()));
    }
    Ok(Figure::new("back after", back).and("herd", told))
}

/// How many in a hundred the densest stretch holds.
fn densest(mut calls: Vec<Instant>) -> f64 {
    calls.sort_unstable();
    let (mut most, mut from) = (0, 0);
    for (at, instant) in calls.iter().enumerate() {
        while *instant - calls[from] >= STRETCH {
            from += 1;
        }
        most = most.max(at + 1 - from);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let share = 100.0 * most as f64 / calls.len().max(1) as f64;
    share
}
