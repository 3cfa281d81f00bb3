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
