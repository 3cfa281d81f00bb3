use registry_core::ErrorKind;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{pause, sleep, timeout},
};

use super::*;
use crate::{
    eureka::{config::EurekaConfig, poll::LONGEST_GAP},
    http::{
        Credentials,
        fake::{Fake, Reply},
    },
};

const PATIENCE: Duration = Duration::from_secs(10);

fn hub(fake: &Fake) -> Arc<Hub> {
    let config: EurekaConfig = format!("eureka://{}", fake.address).parse().unwrap();
    Hub::new(Arc::new(Api::new(&config, Credentials::new(None, None))), Duration::from_millis(100))
}

async fn empty() -> Fake {
    Fake::start(|_| Reply::ok(r#"{"applications":{"apps__hashcode":""}}"#)).await
}

/// Waits for the end of a poll, without listening to it.
async fn over(session: &Session) {
    let end = async {
        while !session.shared.is_over() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, end).await.unwrap();
}

#[tokio::test]
async fn who_follows_a_poll_that_has_just_ended_is_told_why() {
    let fake = Fake::start(|_| Reply::status(401, "")).await;
    let session = hub(&fake).join(None);
    over(&session).await;
    let error = session.follow().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_poll_whose_task_dies_without_a_word_ends_its_watches() {
    let fake = empty().await;
    let mut session = hub(&fake).join(None);
    let (mut rounds, _) = session.follow().unwrap();
    timeout(PATIENCE, rounds.recv()).await.unwrap().unwrap().unwrap();
    Arc::get_mut(&mut session).unwrap().task.abort_all();
    let end = timeout(PATIENCE, async { while !matches!(rounds.recv().await, Err(RecvError::Closed)) {} });
    end.await.expect("whoever listens is told");
    assert_eq!(session.follow().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_poll_that_dies_before_its_first_step_is_over_too() {
    let fake = empty().await;
    let mut session = hub(&fake).join(None);
    Arc::get_mut(&mut session).unwrap().task.abort_all();
    over(&session).await;
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_poll_that_fails_later_keeps_its_last_word_for_those_who_come_too_late() {
    let mut asked = 0;
    let fake = Fake::start(move |_| {
        asked += 1;
        if asked == 1 {
            Reply::ok(r#"{"applications":{"apps__hashcode":""}}"#)
        } else {
            Reply::status(500, "")
        }
    })
    .await;
    let session = hub(&fake).join(None);
    let (mut rounds, latest) = session.follow().unwrap();
    assert!(latest.is_none());
    timeout(PATIENCE, rounds.recv()).await.unwrap().unwrap().unwrap();
    let error = timeout(PATIENCE, rounds.recv()).await.unwrap().unwrap().unwrap_err();
    let after = timeout(PATIENCE, rounds.recv()).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), after), (ErrorKind::Unavailable, RecvError::Closed));
    assert_eq!(session.follow().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_a_failed_poll_knew_is_kept_only_as_long_as_a_delta_can_bring_it_up_to_date() {
    let mut asked = 0;
    let fake = Fake::start(move |_| {
        asked += 1;
        if asked == 1 {
            Reply::ok(
                r#"{"applications":{"apps__hashcode":"UP_1_","application":[{"name":"A","instance":[
                    {"instanceId":"a","app":"A","status":"UP","actionType":"ADDED"}]}]}}"#,
            )
        } else {
            Reply::status(500, "")
        }
    })
    .await;
    let hub = hub(&fake);
    let session = hub.join(None);
    let (mut rounds, _) = session.follow().unwrap();
    let first = timeout(PATIENCE, rounds.recv()).await.unwrap().unwrap().unwrap();
    let record = Arc::downgrade(first.all.records().next().unwrap());
    drop(first);
    timeout(PATIENCE, rounds.recv()).await.unwrap().unwrap().unwrap_err();
    drop((session, rounds));
    pause();
    sleep(LONGEST_GAP - PATIENCE).await;
    assert!(record.upgrade().is_some(), "whoever comes by now needs no list");
    sleep(2 * PATIENCE).await;
    assert!(record.upgrade().is_none(), "nobody came");
    drop(hub);
}
