//! New instances get their share little by little.

use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::{
    Status,
    model::{Incarnation, RecordVersion},
    snapshot::Standing,
};

const WINDOW: Duration = Duration::from_secs(30);
const PICKS: usize = 20_000;

/// The picks of a test are the same in every run, as its bounds are four standard deviations and it asks for hundreds.
fn warming(balance: &Balance) -> View {
    fastrand::seed(17);
    View::with(ViewConfig {
        slow_start: SlowStart::Window(WINDOW),
        balance: balance.clone(),
        ..ViewConfig::default()
    })
}

fn upsert(view: &View, instances: impl IntoIterator<Item = Arc<Instance>>) {
    view.apply(&ViewChange { upserts: instances.into_iter().collect(), ..ViewChange::default() });
}

fn with(id: u32, status: Status) -> Arc<Instance> {
    Arc::new(instance(id).to_builder().status(status).build().unwrap())
}

fn published(id: u32, incarnation: u128, epoch: u64) -> Arc<Instance> {
    let version = RecordVersion { incarnation: Incarnation::from_bits(incarnation), epoch, sequence: 1 };
    Arc::new((*instance(id)).clone().with_record_version(Some(version)))
}

/// The part of all picks that one instance gets, in full shares of `n`.
fn share(view: &View, id: u32, n: usize) -> f64 {
    let id = format!("i{id}");
    let hits = (0..PICKS).filter(|_| pick(view).as_deref() == Some(&*id)).count();
    hits as f64 * n as f64 / PICKS as f64
}

fn assert_about(value: f64, expected: f64) {
    assert!((value - expected).abs() < 0.08, "{value} rather than {expected}");
}

fn is_warming(view: &View, id: u32) -> bool {
    let live = view.live();
    let members = live.snapshot.active();
    let at = members.iter().position(|i| *i.id() == *instance(id).id()).unwrap();
    matches!(members.standing(at), Standing::Warming { .. })
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_gets_its_share_little_by_little() {
    for balance in ["round_robin", "random", "weighted_random", "least_request", "peak_ewma"] {
        let view = warming(&balance.parse().unwrap());
        upsert(&view, (0..9).map(instance));
        assert_eq!(view.tick(), None, "what was there before us is warm");
        upsert(&view, [instance(9)]);
        for seconds in [0, 1, 3, 9, 15, 24] {
            let elapsed = Duration::from_secs(seconds);
            advance(elapsed).await;
            let expected = (elapsed.as_secs_f64() / WINDOW.as_secs_f64()).max(0.1);
            assert_about(share(&view, 9, 10), expected);
            // Anew each time.
            view.apply(&ViewChange { removals: vec![instance(9).key()], ..ViewChange::default() });
            upsert(&view, [instance(9)]);
        }
        assert_eq!(view.tick(), Some(Instant::now() + WINDOW));
        advance(WINDOW).await;
        assert_about(share(&view, 9, 10), 1.0);
        assert_eq!(view.tick(), None);
        assert!(!is_warming(&view, 9), "picks needn't look any more");
        assert_about(share(&view, 9, 10), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_restored_updated_doubted_or_registered_anew_goes_on_where_it_was() {
    let view = warming(&Balance::random());
    upsert(&view, (0..9).map(instance));
    upsert(&view, [published(9, 1, 1)]);
    let start = Instant::now();
    let doubted = |keys: Option<Vec<InstanceKey>>| {
        let suspects = keys.map(|keys| Arc::new(keys.into_iter().collect()));
        view.apply(&ViewChange { suspects, ..ViewChange::default() });
    };
    advance(WINDOW / 3).await;
    upsert(&view, [Arc::new(published(9, 1, 1).to_builder().weight(7).build().unwrap())]);
    upsert(&view, [published(9, 1, 2)]);
    doubted(Some(vec![instance(9).key()]));
    doubted(None);
    assert!(view.writer().store.eject([instance(9).key()].into(), true));
    assert!(view.writer().store.eject([].into(), true));
    upsert(&view, [published(9, 1, 3)]);
    assert!(is_warming(&view, 9));
    assert_eq!(view.tick(), Some(start + WINDOW));
    assert_about(share(&view, 9, 10), 1.0 / 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_begins_again_and_so_does_who_was_starting() {
    let view = warming(&Balance::random());
    upsert(&view, (0..8).map(instance).chain([published(8, 1, 1), with(9, Status::Starting)]));
    assert_eq!(view.tick(), None);
    upsert(&view, [published(8, 2, 1)]);
    assert!(is_warming(&view, 8));
    advance(WINDOW / 2).await;
    upsert(&view, [with(9, Status::Serving)]);
    assert!(is_warming(&view, 9) && is_warming(&view, 8));
    upsert(&view, [published(8, 3, 1)]);
    advance(WINDOW / 2).await;
    view.tick();
    assert!(is_warming(&view, 9) && is_warming(&view, 8), "half of their time is left");
    advance(WINDOW / 2).await;
    view.tick();
    assert!(!is_warming(&view, 9) && !is_warming(&view, 8));
}

#[tokio::test(start_paused = true)]
async fn if_all_are_new_all_are_picked_alike() {
    let view = warming(&Balance::random());
    view.apply(&ViewChange::default());
    upsert(&view, (0..10).map(instance));
    (0..10).for_each(|id| assert_about(share(&view, id, 10), 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_key_goes_where_it_belongs() {
    let view = warming(&Balance::random());
    upsert(&view, (0..9).map(instance));
    upsert(&view, [instance(9)]);
    let context = PickContext::new().hash_key(7);
    let is_new = |member: Option<&Member>| *member.unwrap().instance.id() == *instance(9).id();
    let hits = (0..PICKS).filter(|_| view.pick(view.seat(), &context, is_new)).count();
    assert_about(hits as f64 * 10.0 / PICKS as f64, 1.0);
}

#[tokio::test(start_paused = true)]
async fn near_and_far_warm_up_alike() {
    let zone = Some("near".to_owned());
    let slow_start = SlowStart::Window(WINDOW);
    let view = View::with(ViewConfig { zone, slow_start, ..ViewConfig::default() });
    let near = |id| Arc::new(instance(id).to_builder().zone("near").build().unwrap());
    upsert(&view, (0..9).map(near).chain((20..29).map(instance)));
    upsert(&view, [near(9), instance(29)]);
    assert_about(share(&view, 9, 10), 0.1);
    let removals = (0..10).map(|id| near(id).key()).collect();
    view.apply(&ViewChange { removals, ..ViewChange::default() });
    assert_about(share(&view, 29, 10), 0.1);
    advance(WINDOW).await;
    view.tick();
    assert_about(share(&view, 29, 10), 1.0);
}
