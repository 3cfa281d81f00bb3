use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::*;
use crate::{
    ErrorKind, Namespace, RegistryUrl, Target,
    backend::{Catalogue, Change, ConnectContext, Connector, Discovery, Read},
};

async fn connect(url: &str) -> Result<Backend, Error> {
    let url: RegistryUrl = url.parse()?;
    url.check_options(StaticConnector.options())?;
    let context = ConnectContext::new(Namespace::default(), Duration::from_secs(15));
    StaticConnector.connect(&url, &context).await
}

async fn endpoints(backend: &Backend, service: &str) -> Vec<String> {
    let target = Target::try_from(service).unwrap();
    let listing = backend.discovery.as_ref().unwrap().lookup(&target, &Read::default()).await.unwrap();
    listing.instances.iter().map(|i| format!("{}={}", i.id(), i.endpoints()[0])).collect()
}

#[tokio::test]
async fn a_url_lists_the_hosts_of_one_service() {
    let backend = connect("static://10.0.0.8:8080,[::1]:9000,web.internal/orders").await.unwrap();
    assert!(backend.registry.is_none(), "nothing can be registered in a fixed list");
    assert_eq!(
        endpoints(&backend, "orders").await,
        [
            "10.0.0.8:8080=http://10.0.0.8:8080",
            "[::1]:9000=http://[::1]:9000",
            "web.internal:80=http://web.internal:80"
        ]
    );
    assert!(endpoints(&backend, "unknown").await.is_empty());
    let grpc = connect("static://10.0.0.8:9000/orders?scheme=grpc").await.unwrap();
    assert_eq!(endpoints(&grpc, "orders").await, ["10.0.0.8:9000=grpc://10.0.0.8:9000"]);
}

#[tokio::test]
async fn a_wrong_url_says_what_is_wrong() {
    let cases = [
        (
            "static://10.0.0.8:80",
            "a static:// URL names one service in its path: static://10.0.0.7:8080/orders",
        ),
        (
            "static://10.0.0.8:80/a/b",
            "a static:// URL names one service in its path: static://10.0.0.7:8080/orders",
        ),
        ("static:///orders", "a static:// URL names at least one host: static://10.0.0.7:8080/orders"),
        ("static://me@10.0.0.8:80/orders", "a static:// URL takes no user"),
        ("static://10.0.0.8:80,10.0.0.8:80/orders", "orders/10.0.0.8:80 is listed twice"),
        ("static://10.0.0.8/orders?scheme=grpc", "endpoint \"grpc://10.0.0.8\" has no port"),
        ("static://10.0.0.8:80/orders?scheme=%2F", "endpoint \"/://10.0.0.8:80\" has no valid scheme"),
        ("static://10.0.0.8:80/-orders", "service name \"-orders\" must start with a letter or a digit"),
        (
            "static://10.0.0.8:80/orders?shceme=http",
            "unknown option \"shceme\" in the static URL; valid options are scheme",
        ),
    ];
    for (url, message) in cases {
        let error = connect(url).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::InvalidArgument, message.to_owned()),
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_value_holds_several_services_and_full_instances() {
    let heavy =
        Instance::builder("orders").id("big").endpoint("http://10.0.0.9:80").weight(300).build().unwrap();
    let list = StaticRegistry::builder()
        .service("orders", ["http://10.0.0.7:80"])
        .service("billing", ["tcp://10.0.0.1:1"])
        .instance(heavy.clone())
        .build()
        .unwrap();
    let names: Vec<_> = list.services().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["billing", "orders"]);
    let found = list.lookup(&Target::try_from("orders").unwrap(), &Read::default()).await.unwrap();
    assert_eq!(*found.instances[1], heavy);
    let twice = StaticRegistry::builder().instance(heavy.clone()).instance(heavy).build();
    assert_eq!(twice.unwrap_err().to_string(), "orders/big is listed twice");
}

#[tokio::test(start_paused = true)]
async fn a_watch_opens_with_the_list_and_then_only_lives() {
    let list = StaticRegistry::builder().service("orders", ["http://10.0.0.7:80"]).build().unwrap();
    let mut watch = list.watch(&Target::try_from("orders").unwrap(), None);
    let opening = watch.next().await.unwrap().unwrap();
    assert!(matches!(&opening.changes[..], [Change::Reset(all)] if all.len() == 1));
    let start = Instant::now();
    for at in [5, 10] {
        assert!(watch.next().await.unwrap().unwrap().changes.is_empty());
        assert_eq!(start.elapsed(), Duration::from_secs(at));
    }
    let mut services = list.watch_services();
    assert_eq!(services.next().await.unwrap().unwrap().len(), 1);
    assert!(tokio::time::timeout(Duration::from_secs(60), services.next()).await.is_err(), "it never ends");
}

#[tokio::test(start_paused = true)]
async fn a_target_with_a_qualifier_is_refused_rather_than_widened() {
    let list = StaticRegistry::builder().build().unwrap();
    let target = Target::try_from("orders").unwrap().with_qualifier("dc", "eu").unwrap();
    let message = "static watch: a static list knows no qualifiers; the target has \"dc\"";
    let mut watch = list.watch(&target, None);
    assert_eq!(watch.next().await.unwrap().unwrap_err().to_string(), message);
    assert!(watch.next().await.is_none());
    assert!(list.lookup(&target, &Read::default()).await.is_err());
}
