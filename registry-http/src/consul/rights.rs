//! Whether a list shows all there is.
//!
//! Consul leaves out what the reader may not see. Who gives a token, or asks an agent that has one of its own, is told by
//! a header, save of lists that are streamed. A list that shows some is used; what it showed before and lacks now is asked
//! for (`shown.rs`), and one that hides it is refused. Who is anonymous isn't told: an empty list may be the truth, as the anonymous token may have rights, and it may
//! be all that is shown. Then the agent is asked what may be read, at the path that Consul's own pages ask for the same
//! reason. One that doesn't say is taken for one that hides. Whether a list that shows some shows all, nobody tells who is
//! anonymous: rights to some of the nodes are for tokens.

use http::StatusCode;
use registry_core::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::json;

use super::{error, session::Session};
use crate::http::{Answer, Call};

/// What has to be readable for an empty list to be the truth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed<'a> {
    /// A service at Consul, or what the names of several begin with.
    pub(super) service: &'a str,
    /// Whether entries show the nodes they stand on: these have rights of their own. Rights to all of them are asked for,
    /// as nobody knows on which of them entries would stand.
    pub(super) nodes: bool,
    pub(super) dc: Option<&'a str>,
}

/// Whether the answer says that something was left out.
pub(super) fn is_filtered(answer: &Answer) -> bool {
    has(answer, "x-consul-results-filtered-by-acls", "true")
}

/// Whether something may have been left out without a word.
pub(super) async fn is_mute(session: &Session, answer: &Answer) -> bool {
    has(answer, "x-consul-default-acl-policy", "deny") && !session.has_token().await
}

/// Whether something may have been left out of a list for who has a token, be it without a word.
pub(super) async fn may_hide(session: &Session, answer: &Answer) -> bool {
    let is_streaming = answer.header("x-consul-query-backend") == Some("streaming");
    is_filtered(answer) || is_streaming && is_restrained(session, answer).await
}

/// Whether the reader might ever be hidden something.
pub(super) async fn is_restrained(session: &Session, answer: &Answer) -> bool {
    is_filtered(answer) || has(answer, "x-consul-default-acl-policy", "deny") || session.has_token().await
}

/// The refusal of an answer that hides what was shown before, or may.
pub(super) fn hides(answer: &Answer, operation: &'static str) -> Error {
    denied(answer, operation, "hides what the token could read before")
}

/// Refuses an answer that says that something was left out.
///
/// # Errors
/// [`ErrorKind::PermissionDenied`].
pub(super) fn refuse_filtered(answer: &Answer, operation: &'static str) -> Result<(), Error> {
    match is_filtered(answer) {
        true => Err(denied(answer, operation, "hid what the token may not read")),
        false => Ok(()),
    }
}

/// Refuses an empty answer that may be empty for want of rights.
///
/// # Errors
/// [`ErrorKind::PermissionDenied`]; or what kept the agent from saying what may be read.
pub(super) async fn refuse_hidden(
    session: &Session,
    answer: &Answer,
    operation: &'static str,
    needed: Needed<'_>,
) -> Result<(), Error> {
    let is_told = is_filtered(answer);
    if !is_told && !is_mute(session, answer).await || may_read(session, operation, needed).await? {
        return Ok(());
    }
    let why = match is_told {
        true => "hid what the token may not read",
        false => "may hide services from who gives no token",
    };
    Err(denied(answer, operation, why))
}

pub(super) async fn may_read(
    session: &Session,
    operation: &'static str,
    needed: Needed<'_>,
) -> Result<bool, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Judged {
        allow: bool,
    }
    let read =
        |resource: &str, segment: &str| json!({"Resource": resource, "Access": "read", "Segment": segment});
    let mut questions = vec![read("service", needed.service)];
    if needed.nodes {
        questions.push(read("node", ""));
    }
    let many = questions.len();
    let path = session.path("/v1/internal/acl/authorize", None).maybe_query("dc", needed.dc);
    let body = serde_json::Value::from(questions).to_string().into_bytes();
    let answer = session.call(Call::post(operation, path).json(body).repeatable()).await?;
    match answer.status {
        status if status.is_success() => Ok(serde_json::from_slice::<Vec<Judged>>(&answer.body)
            .is_ok_and(|judged| judged.len() == many && judged.iter().all(|one| one.allow))),
        _ if error::is_bad_token(&answer) => Err(error::refusal(&answer, operation)),
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
        _ => Err(error::refusal(&answer, operation)),
    }
}

fn has(answer: &Answer, name: &str, value: &str) -> bool {
    answer.header(name).is_some_and(|told| told.eq_ignore_ascii_case(value))
}

fn denied(answer: &Answer, operation: &'static str, why: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("{} {why}", answer.server))
        .with_context(super::NAME, operation)
}
