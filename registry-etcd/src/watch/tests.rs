use etcd_client::proto::{PbKeyValue, PbResponseHeader};

use super::*;

fn put(revision: i64) -> PbEvent {
    let kv = PbKeyValue { key: b"/prod/orders/a".to_vec(), mod_revision: revision, ..PbKeyValue::default() };
    PbEvent { r#type: PUT, kv: Some(kv), prev_kv: None }
}

fn response(revision: i64, events: Vec<PbEvent>) -> PbWatchResponse {
    let header = PbResponseHeader { revision, ..PbResponseHeader::default() };
    PbWatchResponse { header: Some(header), events, ..PbWatchResponse::default() }
}

fn revisions(batch: Option<Vec<PbEvent>>) -> Option<Vec<i64>> {
    Some(batch?.into_iter().map(|event| event.kv.unwrap().mod_revision).collect())
}

#[test]
fn what_the_list_held_is_dropped_and_the_rest_moves_the_cursor() {
    let mut progress = Progress::at(7);
    let batch = progress.take(response(9, vec![put(6), put(7), put(8), put(8)])).unwrap();
    assert_eq!(revisions(batch), Some(vec![8, 8]));
    assert_eq!(progress.revision, 8, "the header may be ahead of the events");
    assert_eq!(revisions(progress.take(response(9, vec![put(8)])).unwrap()), Some(vec![]));
}

#[test]
fn progress_moves_the_cursor_but_hides_no_event_that_comes_after_it() {
    let mut progress = Progress::at(7);
    assert_eq!(revisions(progress.take(response(20, Vec::new())).unwrap()), Some(vec![]));
    assert_eq!(progress.revision, 20);
    let late = progress.take(response(20, vec![put(15)])).unwrap();
    assert_eq!(revisions(late), Some(vec![15]));
    assert_eq!(progress.revision, 20, "a cursor never goes back");
    progress.take(response(5, Vec::new())).unwrap();
    assert_eq!(progress.revision, 20);
}

#[test]
fn fragments_are_one_batch_and_move_the_cursor_only_when_complete() {
    let mut progress = Progress::at(7);
    let part = |events| PbWatchResponse { fragment: true, ..response(9, events) };
    assert_eq!(revisions(progress.take(part(vec![put(8)])).unwrap()), None);
    assert_eq!(revisions(progress.take(part(vec![put(9)])).unwrap()), None);
    assert_eq!(progress.revision, 7);
    let whole = progress.take(response(9, vec![put(9)])).unwrap();
    assert_eq!(revisions(whole), Some(vec![8, 9, 9]));
    assert_eq!(progress.revision, 9);
}

#[test]
fn an_event_without_a_key_is_skipped() {
    let mut progress = Progress::at(7);
    let empty = PbEvent { r#type: 5, kv: None, prev_kv: None };
    assert_eq!(revisions(progress.take(response(9, vec![empty, put(9)])).unwrap()), Some(vec![9]));
}

#[test]
fn a_cancelled_watch_says_why() {
    let mut progress = Progress::at(7);
    let compacted = PbWatchResponse { canceled: true, compact_revision: 12, ..response(20, Vec::new()) };
    assert_eq!(progress.take(compacted).unwrap_err().kind, ErrorKind::Compacted);
    let refused = PbWatchResponse {
        canceled: true,
        cancel_reason: "etcdserver: permission denied".to_owned(),
        ..response(20, Vec::new())
    };
    assert_eq!(progress.take(refused).unwrap_err().kind, ErrorKind::PermissionDenied);
}

#[test]
fn a_cursor_comes_back_as_the_position_it_was_made_of() {
    let position = Position { cluster: 0xfeed, revision: 42 };
    assert_eq!(Position::parse(&position.cursor()), Some(position));
    for other in ["", "/", "feed", "feed/", "feed/0", "feed/-1", "xyz/1", "feed/1/2"] {
        assert_eq!(Position::parse(&Cursor::new(other)), None, "{other}");
    }
}
