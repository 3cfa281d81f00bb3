//! Two clients of one registry, and what has to be true of them after a story.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use futures_util::future::try_join_all;
use registry_testkit::{Etcdctl, eventually};
use service_registry::{Client, Instance, InstanceKey, Phase, Registration, Upstream, ViewState};
use tokio::time::{Instant, sleep_until};

use crate::{
    recorder::{Losses, Recorder},
    sampler::Sampler,
};

/// The shortest time to live there is, so that the stories are short too.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// What is promised after the registry is usable again.
const BACK_WITHIN: Duration = Duration::from_secs(10);
const COUNT: usize = 100;
const PREFIX: &str = "/stories/orders/";

/// The URL of one or several etcd endpoints, with `user:password` or without.
pub(crate) fn url(user: Option<&str>, endpoints: &[SocketAddr]) -> String {
    let hosts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    format!("etcd://{user}{}/stories?ttl=3s", hosts.join(","))
}

pub(crate) async fn client(url: &str) -> Client {
    service_registry::builder().url(url).build().await.unwrap()
}

pub(crate) fn instance(id: &str) -> Instance {
    Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

/// Waits until `length` after `start`: the outage itself, which no condition can stand for.
pub(crate) async fn outage(start: Instant, length: Duration) {
    sleep_until(start + length).await;
}

/// A client with 100 registrations, and one that reads them.
pub(crate) struct World {
    ctl: Etcdctl,
    writer: Client,
    registrations: Vec<Registration>,
    recorder: Recorder,
    _reader: Client,
    upstream: Upstream,
    sampler: Sampler,
}

impl World {
    /// `ctl` asks the registry itself, past every fault of a link.
    pub(crate) async fn start(writer: &str, reader: &str, ctl: Etcdctl) -> Self {
        let writer = client(writer).await;
        let recorder = Recorder::start(&writer);
        let instances = (0..COUNT).map(|number| instance(&format!("i{number:02}")));
        let registrations = try_join_all(instances.map(|i| writer.register(i))).await.unwrap();
        let reader = client(reader).await;
        let upstream = reader.discover("orders").await.unwrap();
        upstream.ready_within(COUNT, BACK_WITHIN).await.unwrap();
        let sampler = Sampler::start(upstream.clone());
        Self { ctl, writer, registrations, recorder, _reader: reader, upstream, sampler }
    }

    /// Checks everything that is promised after an outage that ended at `usable`.
    pub(crate) async fn assert_recovers(self, story: &str, usable: Instant, expected: Losses) {
        let left = |since: Instant| (usable + BACK_WITHIN).saturating_duration_since(since);
        let back =
            eventually("every registration is back", left(Instant::now()), async || self.is_back().await);
        if let Err(timeout) = back.await {
            let phases: Vec<_> = self.registrations.iter().map(|r| (r.phase(), r.state().cause)).collect();
            panic!("{timeout}; {} in etcd; {:?}", self.stored().await, &phases[..3]);
        }
        let back = usable.elapsed();
        let reads = eventually("the reader is fresh", left(Instant::now()), async || self.reader_is_fresh());
        if let Err(timeout) = reads.await {
            panic!(
                "{timeout}: {} instances, {:?}",
                self.upstream.snapshot().len(),
                self.upstream.freshness()
            );
        }
        let fresh = usable.elapsed();
        // A view that was merely kept has the 100 as well, so a newcomer has to arrive too.
        let newcomer = self.writer.register(instance("newcomer")).await.unwrap();
        self.upstream.ready_within(COUNT + 1, BACK_WITHIN).await.unwrap();
        // As long as a lease that nobody renews, or a second loss, needs to show.
        sleep_until(Instant::now() + TTL + TTL / 2).await;
        assert_eq!(self.is_back().await, Some(()), "all were back, and {} are now", self.stored().await);
        assert_eq!(newcomer.phase(), Phase::Live);
        assert_eq!(self.upstream.snapshot().len(), COUNT + 1);
        let keys: Vec<InstanceKey> = self.registrations.iter().map(Registration::key).collect();
        self.recorder.assert(&keys, expected);
        let samples = self.sampler.assert_never_without().await;
        println!(
            "{story}: back after {back:?}, reader fresh after {fresh:?}, {expected:?}, {samples} samples"
        );
        self.writer.close().await;
    }

    /// Whether all are live and stand in etcd under leases that live.
    async fn is_back(&self) -> Option<()> {
        let live = self.registrations.iter().all(|registration| registration.phase() == Phase::Live);
        (live && self.stored().await == COUNT).then_some(())
    }

    /// How many of the registrations stand in etcd, asked past every link.
    async fn stored(&self) -> usize {
        let (Ok(keys), Ok(leases)) = (self.ctl.get_prefix(PREFIX).await, self.ctl.leases().await) else {
            return 0;
        };
        let leases: HashSet<i64> = leases.into_iter().collect();
        let there: HashSet<String> =
            keys.into_iter().filter(|key| leases.contains(&key.lease)).map(|key| key.key).collect();
        let wanted = |r: &&Registration| there.contains(&format!("{PREFIX}{}", r.instance().id()));
        self.registrations.iter().filter(wanted).count()
    }

    fn reader_is_fresh(&self) -> Option<()> {
        let snapshot = self.upstream.snapshot();
        let all = self.registrations.iter().all(|r| snapshot.get(r.instance().id()).is_some());
        (all && self.upstream.freshness().state == ViewState::Fresh).then_some(())
    }
}
