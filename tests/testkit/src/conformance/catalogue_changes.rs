//! The list of services while they come and go.
#![expect(missing_docs, reason = "the names of the cases are sentences")]

use futures_util::StreamExt;
use registry_core::backend::CatalogueStream;

use super::{
    Fixture,
    subject::{OURS, Subject, all_ok, instance, publish, record, service, withdraw, within},
};

pub async fn the_catalogue_follows_services_that_come_and_go(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let lease = subject.grant(OURS).await;
    let mut watch = subject.catalogue().watch_services();
    shows(&mut watch, &[]).await;
    let (orders, second) = (instance("orders", "a"), instance("orders", "b"));
    let billing = instance("billing", "a");
    all_ok(&publish(&lease, &[record(OURS, &orders), record(OURS, &second)]).await);
    shows(&mut watch, &["orders"]).await;
    all_ok(&publish(&lease, &[record(OURS, &billing)]).await);
    shows(&mut watch, &["billing", "orders"]).await;
    // A service stays while one instance is left.
    all_ok(&withdraw(&lease, &[orders, billing]).await);
    shows(&mut watch, &["orders"]).await;
    assert_eq!(subject.catalogue().services().await.expect("the registry answers"), [service("orders")]);
    all_ok(&withdraw(&lease, &[second]).await);
    shows(&mut watch, &[]).await;
}

/// Reads until the list is this one.
async fn shows(watch: &mut CatalogueStream, names: &[&str]) {
    let expected: Vec<_> = names.iter().map(|name| service(name)).collect();
    let reading = async {
        loop {
            let list = watch.next().await.expect("the watch goes on").expect("the watch has not failed");
            if list == expected {
                return;
            }
        }
    };
    within(&format!("the list {names:?}"), reading).await;
}
