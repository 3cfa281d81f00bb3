//! The conformance suite on every backend of this repository.

use registry_core::{Backend, MemoryRegistry, StaticRegistry};
#[cfg(all(feature = "nacos", unix))]
use registry_testkit::NacosLine;
use registry_testkit::{conformance, conformance::Stage};

#[cfg(all(feature = "consul", unix))]
mod consul_server;
#[cfg(all(feature = "etcd", unix))]
mod etcd_server;
#[cfg(all(feature = "eureka", unix))]
mod eureka_server;
#[cfg(all(feature = "nacos", unix))]
mod nacos_server;

conformance!(memory: in_process; all; paused);
conformance!(static_list: fixed; discovery, catalogue; paused);
#[cfg(all(feature = "etcd", unix))]
conformance!(etcd: etcd_server::EtcdServer::start().await; all; ignore = "needs etcd: cargo xtask servers");
#[cfg(all(feature = "consul", unix))]
conformance!(consul: consul_server::ConsulServer::start().await;
    discovery, registry, changes, lease, catalogue, catalogue_changes; ignore = "needs consul: cargo xtask servers");
// All but `session`: a lease is one thing per instance.
#[cfg(all(feature = "eureka", unix))]
conformance!(
    eureka: eureka_server::EurekaServer::start().await;
    discovery, registry, changes, lease, catalogue, catalogue_changes;
    ignore = "needs eureka: cargo xtask servers"
);
#[cfg(all(feature = "nacos", unix))]
conformance!(nacos3: nacos_server::NacosServer::start(NacosLine::V3, "").await;
    discovery, registry, changes, lease, catalogue, catalogue_changes; ignore = "needs nacos: cargo xtask servers");
// Without what it still has of v1: no pushes, no word of protection.
#[cfg(all(feature = "nacos", unix))]
conformance!(nacos3_v3: nacos_server::NacosServer::start(NacosLine::V3, "?api=v3").await;
    discovery, registry, changes, lease, catalogue, catalogue_changes; ignore = "needs nacos: cargo xtask servers");
#[cfg(all(feature = "nacos", unix))]
conformance!(nacos2: nacos_server::NacosServer::start(NacosLine::V2, "").await;
    discovery, registry, changes, lease, catalogue, catalogue_changes; ignore = "needs nacos: cargo xtask servers");
// As of a server of 1.x.
#[cfg(all(feature = "nacos", unix))]
conformance!(nacos2_v1: nacos_server::NacosServer::start(NacosLine::V2, "?api=v1&push=false").await;
    discovery, registry, changes, lease, catalogue, catalogue_changes; ignore = "needs nacos: cargo xtask servers");

async fn in_process(_stage: Stage) -> Backend {
    MemoryRegistry::new().backend()
}

async fn fixed(stage: Stage) -> Backend {
    let list = stage.standing.into_iter().fold(StaticRegistry::builder(), |list, one| list.instance(one));
    list.build().expect("each instance is listed once").backend()
}
