#![allow(missing_docs)]
use registry_testkit::{NacosLine, conformance};
#[path = "../../tests/conformance/nacos_server.rs"]
mod nacos_server;
conformance!(nacos3: nacos_server::NacosServer::start(NacosLine::V3, "").await; discovery, registry, changes, lease, catalogue, catalogue_changes);
conformance!(nacos3_v3: nacos_server::NacosServer::start(NacosLine::V3, "?api=v3").await; discovery, registry, changes, lease, catalogue, catalogue_changes);
conformance!(nacos2: nacos_server::NacosServer::start(NacosLine::V2, "").await; discovery, registry, changes, lease, catalogue, catalogue_changes);
conformance!(nacos2_v1: nacos_server::NacosServer::start(NacosLine::V2, "?api=v1&push=false").await; discovery, registry, changes, lease, catalogue, catalogue_changes);
