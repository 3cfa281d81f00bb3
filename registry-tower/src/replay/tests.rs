use std::collections::VecDeque;

use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;

use super::*;

/// A body of frames that come one by one; ready when they were sent.
struct Slow(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

fn slow() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Slow) {
    let (sender, receiver) = mpsc::channel(8);
    (sender, Slow(receiver))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn text<B: Body<Data = Bytes, Error = BoxError>>(body: B) -> Result<String, BoxError> {
    Ok(String::from_utf8(body.collect().await?.to_bytes().into())?)
}

#[tokio::test]
async fn what_was_sent_is_sent_again_and_the_rest_follows() {
    let (sender, body) = slow();
    let origin = Replay::new(body, 1024);
    let mut first = origin.again().unwrap();
    sender.send(data("one ")).await.unwrap();
    assert!(first.frame().await.unwrap().is_ok());
    drop(first);
    let second = origin.again().unwrap();
    sender.send(data("two")).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "7".parse().unwrap());
    sender.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(sender);
    for attempt in [second, origin.again().unwrap()] {
        let collected = attempt.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "one two");
    }
}

#[tokio::test]
async fn past_the_limit_the_present_attempt_goes_on_and_no_other_begins() {
    let (sender, body) = slow();
    let origin = Replay::new(body, 4);
    let mut present = origin.again().unwrap();
    let mut behind = origin.again().unwrap();
    for part in ["four", "more"] {
        sender.send(data(part)).await.unwrap();
        assert!(present.frame().await.unwrap().is_ok());
    }
    assert!(origin.again().is_none());
    assert!(behind.frame().await.unwrap().is_err(), "it would miss what is gone");
    sender.send(data("!")).await.unwrap();
    drop(sender);
    assert_eq!(text(present).await.unwrap(), "!");
}

#[tokio::test]
async fn a_body_as_long_as_the_limit_is_kept_however_it_came_but_not_endlessly_many_parts() {
    for (parts, is_kept) in [(PARTS, true), (PARTS + 1, false)] {
        let frames = futures_util::stream::iter((0..parts).map(|_| data("four")));
        let origin = Replay::new(http_body_util::StreamBody::new(frames), 4 * parts);
        assert_eq!(text(origin.again().unwrap()).await.unwrap().len(), 4 * parts);
        assert_eq!(origin.is_replayable(), is_kept, "{parts}");
    }
}

#[tokio::test]
async fn of_two_attempts_that_wait_both_hear_of_the_next_part() {
    let (sender, body) = slow();
    let origin = Replay::new(body, 1024);
    let (mut one, mut other) = (origin.again().unwrap(), origin.again().unwrap());
    let reading = tokio::spawn(async move { one.frame().await.is_some() });
    let also = tokio::spawn(async move { other.frame().await.is_some() });
    tokio::task::yield_now().await;
    sender.send(data("part")).await.unwrap();
    assert!(reading.await.unwrap() && also.await.unwrap());
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_the_waiting_to_the_other() {
    let (sender, body) = slow();
    let origin = Replay::new(body, 1024);
    let (mut stays, mut goes) = (origin.again().unwrap(), origin.again().unwrap());
    let reading = tokio::spawn(async move { stays.frame().await.is_some() });
    tokio::task::yield_now().await;
    // It is the last to poll, so the body would wake it and nobody else.
    assert!(goes.frame().now_or_never().is_none());
    drop(goes);
    tokio::task::yield_now().await;
    sender.send(data("part")).await.unwrap();
    assert!(reading.await.unwrap());
}

#[tokio::test]
async fn a_body_that_fails_is_not_sent_again() {
    let (sender, body) = slow();
    let origin = Replay::new(body, 1024);
    let attempt = origin.again().unwrap();
    sender.send(Err("the disk is gone".into())).await.unwrap();
    assert_eq!(text(attempt).await.unwrap_err().to_string(), "the disk is gone");
    assert!(origin.again().is_none());
}

#[tokio::test]
async fn its_length_is_known_if_the_bodys_is() {
    let origin = Replay::new(Full::new(Bytes::from_static(b"question")), 1024);
    let mut attempt = origin.again().unwrap();
    assert_eq!(attempt.size_hint().exact(), Some(8));
    assert!(!attempt.is_end_stream());
    assert!(attempt.frame().await.unwrap().is_ok());
    assert_eq!((attempt.size_hint().exact(), attempt.is_end_stream()), (Some(0), true));
    let again = origin.again().unwrap();
    assert_eq!((again.size_hint().exact(), again.is_end_stream()), (Some(8), false));
    assert!(Replay::new(Full::new(Bytes::new()), 0).is_end_stream());
}

#[tokio::test]
async fn data_in_pieces_is_one_part() {
    let pieces: VecDeque<u8> = b"pieces".iter().copied().collect();
    let origin = Replay::new(Full::new(pieces), 1024);
    for _ in 0..2 {
        assert_eq!(origin.again().unwrap().collect().await.unwrap().to_bytes(), "pieces");
    }
}
