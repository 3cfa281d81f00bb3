use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use registry_core::Secret;

use super::*;

/// Gives `token-1`, `token-2`, …; fails from `until` on.
#[derive(Debug)]
struct Counter {
    asked: AtomicU32,
    until: u32,
}

#[async_trait]
impl CredentialProvider for Counter {
    async fn credential(&self) -> Result<Credential, Error> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if number > self.until {
            return Err(Error::new(ErrorKind::Unavailable, "out of tokens"));
        }
        let secret = Secret::new(format!("token-{number}"));
        Ok(Credential { user: None, secret, expires_in: Some(Duration::from_secs(100)) })
    }
}

fn counter(until: u32) -> Credentials {
    Credentials::new(None, Some(Arc::new(Counter { asked: AtomicU32::new(0), until })))
}

/// Takes 10 s for every answer but those before `slow_from`.
#[derive(Debug)]
struct Slow {
    counter: Counter,
    slow_from: u32,
}

#[async_trait]
impl CredentialProvider for Slow {
    async fn credential(&self) -> Result<Credential, Error> {
        if self.counter.asked.load(Ordering::SeqCst) + 1 >= self.slow_from {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        self.counter.credential().await
    }
}

fn slow(slow_from: u32) -> (Credentials, Arc<Slow>) {
    let provider = Arc::new(Slow { counter: Counter { asked: AtomicU32::new(0), until: 9 }, slow_from });
    (Credentials::new(None, Some(Arc::clone(&provider) as Arc<dyn CredentialProvider>)), provider)
}

/// Lets what was spawned run as far as it can.
async fn settle() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// What a caller gets who gives up after 3 s.
async fn hasty(credentials: &Credentials) -> Option<String> {
    let current = timeout(Duration::from_secs(3), credentials.current()).await;
    current.ok().map(|current| token(&current.unwrap()))
}

fn token(current: &Current) -> String {
    current.credential.as_ref().unwrap().secret.expose().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_asked_once_and_again_near_the_end_of_its_credential() {
    let credentials = counter(9);
    assert_eq!(token(&credentials.current().await.unwrap()), "token-1");
    tokio::time::advance(Duration::from_secs(70)).await;
    assert_eq!(token(&credentials.current().await.unwrap()), "token-1");
    tokio::time::advance(Duration::from_secs(19)).await;
    assert_eq!(token(&credentials.current().await.unwrap()), "token-1", "nobody waits for the next one");
    settle().await;
    assert_eq!(token(&credentials.current().await.unwrap()), "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_replaced_once_for_all_who_were_refused() {
    let credentials = counter(9);
    let first = credentials.current().await.unwrap();
    tokio::time::advance(REFUSAL_STANDS).await;
    let second = credentials.refused(first.generation).await.unwrap().unwrap();
    assert_eq!(token(&second), "token-2");
    assert_eq!(token(&credentials.refused(first.generation).await.unwrap().unwrap()), "token-2");
    assert!(credentials.refused(second.generation).await.unwrap().is_none(), "asked only just now");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_while_the_credential_works_stops_nobody() {
    let credentials = counter(1);
    credentials.current().await.unwrap();
    tokio::time::advance(Duration::from_secs(90)).await;
    assert_eq!(token(&credentials.current().await.unwrap()), "token-1");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_waited_for_by_nobody_and_outlives_the_call_that_noticed_it() {
    let (credentials, provider) = slow(2);
    assert_eq!(hasty(&credentials).await.as_deref(), Some("token-1"));
    tokio::time::advance(Duration::from_secs(90)).await;
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(hasty(&credentials).await.as_deref(), Some("token-1"));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(hasty(&credentials).await.as_deref(), Some("token-2"));
    assert_eq!(provider.counter.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_provider_slower_than_its_callers_gives_the_first_credential_all_the_same() {
    let (credentials, provider) = slow(1);
    for _ in 0..3 {
        assert_eq!(hasty(&credentials).await, None);
    }
    assert_eq!(hasty(&credentials).await.as_deref(), Some("token-1"), "10 s after the first call");
    assert_eq!(provider.counter.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_a_renewal_that_is_under_way() {
    let (credentials, provider) = slow(2);
    let first = credentials.current().await.unwrap();
    tokio::time::advance(Duration::from_secs(90)).await;
    assert_eq!(hasty(&credentials).await.as_deref(), Some("token-1"));
    let next = credentials.refused(first.generation).await.unwrap().unwrap();
    assert_eq!(token(&next), "token-2");
    assert_eq!(provider.counter.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_any_more_once_the_credentials_are_dropped() {
    let (credentials, provider) = slow(1);
    assert_eq!(hasty(&credentials).await, None);
    drop(credentials);
    settle().await;
    assert_eq!(Arc::strong_count(&provider), 1, "nobody holds it any more");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_tried_again_soon() {
    let credentials = counter(1);
    credentials.current().await.unwrap();
    tokio::time::advance(Duration::from_secs(90)).await;
    let asked = || match &credentials.provider {
        Some(provider) => format!("{provider:?}"),
        None => String::new(),
    };
    for (pause, asked_by_then) in [(0, 2), (1, 2), (RENEWAL_RETRY.as_secs(), 3)] {
        tokio::time::advance(Duration::from_secs(pause)).await;
        assert_eq!(hasty(&credentials).await.as_deref(), Some("token-1"));
        settle().await;
        assert!(asked().contains(&format!("asked: {asked_by_then}")), "{}", asked());
    }
}

/// Gives one that never ends.
#[derive(Debug)]
struct Endless;

#[async_trait]
impl CredentialProvider for Endless {
    async fn credential(&self) -> Result<Credential, Error> {
        Ok(Credential { user: None, secret: Secret::new("endless"), expires_in: Some(Duration::MAX) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_may_say_that_it_never_ends() {
    let credentials = Credentials::new(None, Some(Arc::new(Endless)));
    assert_eq!(hasty(&credentials).await.as_deref(), Some("endless"));
}

#[tokio::test]
async fn without_a_provider_a_refusal_is_final() {
    let fixed = Credential { user: None, secret: Secret::new("fixed"), expires_in: None };
    let credentials = Credentials::new(Some(fixed), None);
    let current = credentials.current().await.unwrap();
    assert_eq!(token(&current), "fixed");
    assert!(credentials.refused(current.generation).await.unwrap().is_none());
    assert!(!format!("{credentials:?}").contains("fixed\""));
}
