//! Many beats with little time, and servers that ask for less.

use std::{collections::HashMap, sync::Mutex};

use super::*;

fn port_of(seen: &Seen) -> u16 {
    let all = format!("{}&{}", seen.target, String::from_utf8_lossy(&seen.body));
    let port = all.split("port=").nth(1).unwrap().split('&').next().unwrap();
    port.parse().unwrap()
}

fn is_beat(seen: &Seen) -> bool {
    seen.target.contains("/beat")
}

fn many(count: u16) -> Vec<Publish> {
    (1..=count).map(|port| record(&format!("i{port}"), port)).collect()
}

#[tokio::test(start_paused = true)]
async fn of_more_than_fit_into_a_renewal_each_gets_its_turn() {
    let beaten: Arc<Mutex<HashMap<u16, Instant>>> = Arc::default();
    let state = Arc::clone(&beaten);
    let fake = Fake::start(move |request| {
        if request.method == "POST" || is_beat(request) {
            state.lock().unwrap().insert(port_of(request), Instant::now());
        }
        Reply::After(Duration::from_millis(50), Box::new(usual(request)))
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    let records = many(2_000);
    for some in records.chunks(500) {
        assert!(lease.publish(some).await.iter().all(Result::is_ok));
    }
    let mut missed = 0;
    for round in 0..12 {
        let began = Instant::now();
        let renewal = lease.renew(began + Duration::from_millis(2500)).await.unwrap();
        assert_eq!(renewal.lost, []);
        missed += renewal.missed.len();
        tokio::time::sleep_until(began + Duration::from_secs(5)).await;
        let oldest = beaten.lock().unwrap().values().map(Instant::elapsed).max().unwrap();
        assert!(oldest < Duration::from_secs(20), "round {round}: {oldest:?} without a beat");
    }
    assert!(missed > 0, "they did not fit");
}

/// As a gateway would do that has a rule for one of them.
#[tokio::test(start_paused = true)]
async fn one_that_is_refused_for_good_costs_the_others_no_beats() {
    const COUNT: u16 = 200;
    for refused in [1, 77, COUNT] {
        let beaten: Arc<Mutex<HashMap<u16, Instant>>> = Arc::default();
        let state = Arc::clone(&beaten);
        let fake = Fake::start(move |request| {
            if is_beat(request) && port_of(request) == refused {
                return Reply::After(Duration::from_millis(5), Box::new(too_much()));
            }
            if request.method == "POST" || is_beat(request) {
                state.lock().unwrap().insert(port_of(request), Instant::now());
            }
            Reply::After(Duration::from_millis(10), Box::new(usual(request)))
        });
        let fake = fake.await;
        let backend = connect(&fake, "?api=v1").await;
        let lease = grant(&backend).await;
        assert!(lease.publish(&many(COUNT)).await.iter().all(Result::is_ok));
        for round in 0..12 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let renewal = lease.renew(soon()).await.unwrap();
            assert_eq!(renewal.lost, []);
            let beaten = beaten.lock().unwrap();
            let others = beaten.iter().filter(|(port, _)| **port != refused);
            let oldest = others.map(|(_, at)| at.elapsed()).max().unwrap();
            assert!(oldest < Duration::from_secs(11), "{refused}, round {round}: {oldest:?} without a beat");
        }
    }
}

fn too_much() -> Reply {
    Reply::status(429, "over").with("Retry-After", &"7")
}

#[tokio::test]
async fn a_server_that_asks_for_less_gets_no_more_of_that_batch() {
    let limit = Arc::new(AtomicUsize::new(usize::MAX));
    let state = Arc::clone(&limit);
    let fake = Fake::start(move |request| {
        let is_over = (request.method == "POST" || is_beat(request))
            && state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        if is_over { too_much() } else { usual(request) }
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    lease.publish(&many(200)).await.into_iter().for_each(|outcome| outcome.unwrap());
    let calls = || fake.seen().iter().filter(|seen| is_beat(seen) || seen.method == "POST").count();
    let before = calls();
    limit.store(20, Ordering::Relaxed);
    let renewal = lease.renew(soon()).await.unwrap();
    assert!(calls() - before <= 20 + 2 * 16, "{} beats", calls() - before);
    assert!(renewal.missed.len() >= 200 - 36, "{}", renewal.missed.len());
    assert_eq!(renewal.lost, []);

    let before = calls();
    limit.store(0, Ordering::Relaxed);
    let error = lease.renew(soon()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    assert!(calls() - before <= 16, "{} beats", calls() - before);

    let before = calls();
    let outcomes = lease.publish(&many(200)).await;
    let kinds = outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err());
    assert!(kinds.clone().all(|error| error.kind() == ErrorKind::RateLimited));
    assert!(kinds.clone().all(|error| error.retry_after().is_some()));
    assert!(calls() - before <= 16, "{} publications", calls() - before);
}
