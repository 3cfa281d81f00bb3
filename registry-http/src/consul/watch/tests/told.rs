//! What answers say of themselves, and how many may be waited for.

use super::*;

#[tokio::test]
async fn how_old_an_answer_is_counts() {
    for (contact, cached, age) in [(1500, 1, 1500), (1500, 9, 9000), (0, 9, 9000)] {
        let fake =
            lists(move |_, _| list(5, &[]).with("X-Consul-LastContact", &contact).with("Age", &cached)).await;
        let listing = discovery(&fake, "").lookup(&target(), &Read::default()).await.unwrap();
        assert_eq!(listing.evidence.age, Duration::from_millis(age));
        assert_eq!(listing.evidence.endpoint.as_deref(), Some(fake.address.as_str()));
    }
}

#[tokio::test]
async fn a_list_of_one_who_knows_no_leader_is_as_old_as_the_last_one_that_did() {
    let hold = Duration::from_millis(200);
    let fake = lists(move |read, _| {
        let answer = list(5, &[entry("a", 1)]).with("X-Consul-LastContact", &0);
        match read {
            1 => answer.with("X-Consul-KnownLeader", &"true"),
            2 | 3 => Reply::After(hold, Box::new(answer.with("X-Consul-KnownLeader", &"false"))),
            _ => answer,
        }
    })
    .await;
    let mut stream = watch(&fake, "");
    let mut ages = Vec::new();
    for _ in 0..4 {
        ages.push(stream.next().await.unwrap().unwrap().evidence.age);
    }
    assert_eq!((ages[0], ages[3]), (Duration::ZERO, Duration::ZERO), "{ages:?}");
    assert!(ages[1] >= hold && ages[2] >= 2 * hold, "{ages:?}");
}

#[tokio::test]
async fn one_watch_too_many_reads_at_an_interval_until_there_is_room() {
    let fake = lists(|_, seen| match seen.target.contains("index=") {
        true => Reply::After(Duration::from_millis(300), Box::new(list(5, &[entry("a", 1)]))),
        false => list(5, &[entry("a", 1)]),
    })
    .await;
    let config: ConsulConfig = format!("consul://{}?wait=1s", fake.address).parse().unwrap();
    let session = Session::new(config, None);
    let names = Names::new(&Namespace::default());
    let mut stream = ConsulDiscovery::new(Arc::clone(&session), names).watch(&target(), None);
    next(&mut stream).await;
    let all = u32::try_from(session.polls.available_permits()).unwrap();
    assert_eq!(all, 128, "as documented");
    let taken = session.polls.try_acquire_many(all).unwrap();
    let asked = Instant::now();
    next(&mut stream).await;
    // Ten seconds, or what a hold would have taken.
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    drop(taken);
    next(&mut stream).await;
    let waits: Vec<bool> = reads(&fake).iter().map(|read| read.contains("index=")).collect();
    assert_eq!(waits, [false, false, true]);
}
