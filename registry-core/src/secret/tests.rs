use super::*;

#[test]
fn a_secret_is_shown_only_where_it_is_exposed() {
    let secret = Secret::new("c4n4ry");
    assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "[redacted] [redacted] [redacted]");
    assert_eq!(secret.expose(), "c4n4ry");
    assert_eq!(secret, Secret::new(String::from("c4n4ry")));
    assert_ne!(secret, Secret::new("other"));
}

#[test]
fn a_credential_shows_its_user_and_not_its_secret() {
    let credential = Credential {
        user: Some("me".into()),
        secret: Secret::new("c4n4ry"),
        expires_in: Some(Duration::ZERO),
    };
    let shown = format!("{credential:?} {credential:#?}");
    assert!(shown.contains("me") && !shown.contains("c4n4ry"), "{shown}");
}

#[test]
fn the_next_credential_is_asked_for_well_before_the_end_and_before_the_end_of_time() {
    let of = |expires_in| Credential { user: None, secret: Secret::new("s"), expires_in };
    let now = tokio::time::Instant::now();
    let seconds = Duration::from_secs;
    for (life, from, to) in [
        (seconds(100), seconds(72), seconds(88)),
        (Duration::ZERO, Duration::ZERO, Duration::ZERO),
        (Duration::MAX, Duration::from_secs(200 * 86_400), Credential::LONGEST_LIFE),
    ] {
        let after = of(Some(life)).renew_after().unwrap();
        assert!(after >= from && after <= to, "{life:?}: {after:?}");
        assert!(now.checked_add(after).is_some());
    }
    assert_eq!(of(None).renew_after(), None);
}
