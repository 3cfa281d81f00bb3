use registry_core::Phase;
use registry_testkit::{Eureka, eventually};
use tokio::runtime::Builder;

use crate::world::{LONG, Provider, instance, lists};

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn who_is_superseded_learns_it_and_doesn_t_keep_his_rival_s_record_alive() {
    let eureka = Eureka::start().await.unwrap();
    let url = eureka.url();
    let first = Provider::start(&url, instance("a")).await;
    let elsewhere = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let second = elsewhere.spawn(async move { Provider::start(&url, instance("a")).await }).await.unwrap();
    let told = eventually("the loss", LONG, async || (!first.told().is_empty()).then(|| first.told()));
    assert_eq!(told.await.unwrap(), ["lost: Superseded"]);
    first.reaches(Phase::Blocked).await;
    assert_eq!(second.registration.phase(), Phase::Live);

    // As a process that is killed: nothing is withdrawn, there are no more beats.
    elsewhere.shutdown_background();
    lists(&eureka, &[]).await;
    assert_eq!(first.told(), ["lost: Superseded"], "he doesn't fight back");
    drop(second);
}
