//! F2: a server that is killed and comes back.

use std::time::Duration;

use registry_bench_support::Bound;
use registry_core::ViewEvent;
use registry_testkit::{Etcd, eventually};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    sampler::Sampler,
    sessions::Began,
    stage::{SERVICE, bare, client, fill, key, publish, record},
};

/// Long enough for a loop without a pause to be seen as one.
const OUTAGE: Duration = Duration::from_secs(3);
/// Far more than a backoff from 50 ms × 1.6 draws in that time, far less than a loop without a pause.
const MOST_ATTEMPTS: u64 = 20;
/// What is promised after the server is usable, with the pauses that protect it.
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_killed_server_is_noticed_at_once_and_the_watch_resumes_where_it_broke() {
    let etcd = Etcd::start().await.unwrap();
    let mut writer = bare(etcd.address()).await.unwrap();
    fill(&mut writer, 10).await;
    let (client, sessions) = client(etcd.address()).await;
    let upstream = client.discover(SERVICE).await.unwrap();
    let mut events = upstream.events();
    writer.put(key("i000"), record("i000", 2), None).await.unwrap();
    let last = writer.get("nothing", None).await.unwrap().header().unwrap().revision();
    let seen = async || (upstream.snapshot().revision() == u64::try_from(last).ok()).then_some(());
    eventually("the last change is seen", BACK_WITHIN, seen).await.unwrap();
    let sampler = Sampler::start(upstream.clone());

    let start = Instant::now();
    let noticed = tokio::spawn(async move {
        while events.next().await.is_some_and(|event| event != ViewEvent::Stale) {}
        start.elapsed()
    });
    etcd.kill().await.unwrap();
    let noticed = timeout(BACK_WITHIN, noticed).await.unwrap().unwrap();
    sleep_until(start + OUTAGE).await;
    let attempts = sessions.all().len() as u64 - 1;

    etcd.launch().await.unwrap();
    let mut writer = loop {
        match timeout(Duration::from_millis(200), bare(etcd.address())).await {
            Ok(Ok(client)) => break client,
            _ => sleep(Duration::from_millis(5)).await,
        }
    };
    let usable = Instant::now();
    writer.put(key("late"), record("late", 1), None).await.unwrap();
    let resumed = eventually("a session that goes on", BACK_WITHIN, async || {
        let began = |session: &crate::sessions::Session| session.began.is_some();
        sessions.all().into_iter().skip(1).find(began)
    });
    let resumed = resumed.await.unwrap();
    let (began, how) = resumed.began.unwrap();
    let count = async || (upstream.snapshot().len() == 11).then_some(());
    eventually("what was written meanwhile arrives", BACK_WITHIN, count).await.unwrap();
    let sampled = sampler.stop().await;

    assert_eq!(how, Began::Resuming, "nothing is listed again");
    let cursor = resumed.cursor.expect("it resumes from a cursor");
    let ends_at = cursor.as_str().rsplit('/').next().and_then(|revision| revision.parse().ok());
    assert_eq!(ends_at, Some(last), "it resumes behind the last revision that was delivered");
    let total = began.saturating_duration_since(usable);
    // An attempt that was under way when the server became usable is not older than that.
    let own = began - resumed.opened.max(usable).min(began);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    publish(
        "F2",
        &[
            Bound::at_most("F2", "killed server: noticed after", ms(noticed), 50.0, "ms"),
            Bound::exactly("F2", "killed server: failed picks", sampled.failed + sampled.empty, 0, ""),
            Bound::at_most("F2", "resumed, from the first attempt on a usable server", ms(own), 250.0, "ms"),
            Bound::at_most("F2", "resumed, with the pause that spreads a herd", ms(total), 250.0, "ms")
                .report(),
            Bound::at_most("F2", "attempts in an outage of 3 s", attempts as f64, MOST_ATTEMPTS as f64, ""),
        ],
    );
}
