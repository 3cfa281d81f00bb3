use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Noting(Log);

impl Guard for Noting {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.0.note(&format!("{} trailers", trailers.len()));
    }

    fn ended(self, how: End) {
        self.0.note(&format!("{how:?}"));
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

impl Log {
    fn note(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn frames(frames: Vec<Result<Frame<Bytes>, &'static str>>) -> impl Body<Data = Bytes, Error = &'static str> {
    StreamBody::new(stream::iter(frames))
}

#[tokio::test]
async fn the_guard_hears_of_the_end_with_the_last_byte() {
    let log = Log::default();
    let mut body = Until::new(Full::<Bytes>::from("answer"), Noting(log.clone()));
    assert!(log.read().is_empty());
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(log.read(), ["Complete", "dropped"]);
    assert!(body.frame().await.is_none());
    assert_eq!(log.read().len(), 2);
}

#[tokio::test]
async fn an_empty_body_is_over_at_once() {
    let log = Log::default();
    let _body = Until::new(Empty::<Bytes>::new(), Noting(log.clone()));
    assert_eq!(log.read(), ["Complete", "dropped"]);
}

#[tokio::test]
async fn trailers_are_the_end() {
    let log = Log::default();
    let data = Ok(Frame::data(Bytes::from_static(b"answer")));
    let body = frames(vec![data, Ok(Frame::trailers(HeaderMap::new()))]);
    Until::new(body, Noting(log.clone())).collect().await.unwrap();
    assert_eq!(log.read(), ["0 trailers", "Complete", "dropped"]);
}

#[tokio::test]
async fn a_body_that_fails_or_is_dropped_says_so() {
    let log = Log::default();
    assert!(Until::new(frames(vec![Err("reset")]), Noting(log.clone())).collect().await.is_err());
    assert_eq!(log.read(), ["Failed", "dropped"]);
    let log = Log::default();
    let mut body = Until::new(frames(vec![Ok(Frame::data(Bytes::new())), Err("reset")]), Noting(log.clone()));
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    assert_eq!(log.read(), ["dropped"]);
}
