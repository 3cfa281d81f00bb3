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

#[tokio::test]
async fn without_a_provider_a_refusal_is_final() {
    let fixed = Credential { user: None, secret: Secret::new("fixed"), expires_in: None };
    let credentials = Credentials::new(Some(fixed), None);
    let current = credentials.current().await.unwrap();
    assert_eq!(token(&current), "fixed");
    assert!(credentials.refused(current.generation).await.unwrap().is_none());
    assert!(!format!("{credentials:?}").contains("fixed\""));
}
