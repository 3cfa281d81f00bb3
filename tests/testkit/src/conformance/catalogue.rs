//! Which services stand there. These cases run on backends without a `Registry` too.
#![expect(missing_docs, reason = "the names of the cases are sentences")]

use futures_util::StreamExt;
use registry_core::ServiceName;

use super::{
    DEADLINE, Fixture,
    subject::{Subject, instance, service, within},
};
use crate::eventually;

/// Services in an order that isn't theirs, one of them with two instances.
const STANDING: [(&str, &str); 4] = [("orders", "a"), ("billing", "a"), ("orders", "b"), ("order", "a")];
const NAMES: [&str; 3] = ["billing", "order", "orders"];

fn names() -> Vec<ServiceName> {
    NAMES.map(service).to_vec()
}

async fn standing(fixture: &impl Fixture) -> Subject {
    Subject::with_standing(fixture, STANDING.map(|(name, id)| instance(name, id)).to_vec()).await
}

pub async fn the_catalogue_lists_services_with_instances(fixture: &impl Fixture) {
    let subject = standing(fixture).await;
    let mut last = Vec::new();
    let listed = eventually("the list of services", DEADLINE, async || {
        last = subject.catalogue().services().await.expect("the registry answers");
        (last == names()).then_some(())
    });
    let listed = listed.await;
    assert!(listed.is_ok(), "the catalogue lists {last:?}");
}

pub async fn a_watched_catalogue_opens_with_the_complete_list(fixture: &impl Fixture) {
    let subject = standing(fixture).await;
    let mut watch = subject.catalogue().watch_services();
    let first = within("the opening list", watch.next()).await;
    assert_eq!(first.expect("the watch goes on").expect("the watch has not failed"), names());
}
