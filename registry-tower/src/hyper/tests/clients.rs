use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use registry_core::{
    CallOptions, ClientConfig, Instance, Probe, Registration, ShrinkGuard, Upstream, balance::Failure,
};
use registry_testkit::eventually;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::{Balanced, Connect, HttpConnect, HttpProbe, Replay};

type Orders = Balanced<HttpConnect<Full<Bytes>>>;

async fn orders(registry: &MemoryRegistry) -> (Orders, Upstream) {
    let client = Client::from_backend(registry.backend()).await.unwrap();
    let upstream = client.discover("orders").await.unwrap();
    (Balanced::new(upstream.clone(), HttpConnect::new()), upstream)
}

async fn call(orders: &Orders, method: Method, path: &str) -> Result<(StatusCode, Bytes), crate::BoxError> {
    let request =
        Request::builder().method(method).uri(format!("http://orders{path}")).body(Full::from("question"))?;
    let answer = orders.clone().oneshot(request).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

/// An instance that can be killed: it ends with its runtime, without a word.
struct Mortal {
    runtime: Option<tokio::runtime::Runtime>,
    address: SocketAddr,
}

impl Mortal {
    async fn start(app: Router) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving = runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { axum::serve(listener, app).await });
            address
        });
        Self { address: serving.await.unwrap(), runtime: Some(runtime) }
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_instances_one_is_killed_under_load_and_nobody_notices() {
    let registry = MemoryRegistry::new();
    let owner = Client::from_backend(registry.backend()).await.unwrap();
    let (mut mortals, mut registrations) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mortal = Mortal::start(app()).await;
        let endpoint = format!("http://{}", mortal.address);
        registrations.push(owner.register(Instance::new("orders", endpoint).unwrap()).await.unwrap());
        mortals.push(mortal);
    }
    let (orders, upstream) = orders(&registry).await;
    upstream.ready(5).await.unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let callers = (0..8).map(|_| {
        let orders = orders.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                let (status, body) = call(&orders, Method::PUT, "/").await.unwrap();
                assert_eq!((status, &body[..]), (StatusCode::OK, &b"answer"[..]));
                done += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            done
        })
    });
    let callers: Vec<_> = callers.collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    mortals[2].kill();
    let mut done = 0;
    for caller in callers {
        done += caller.await.unwrap();
    }
    assert!(done > 50, "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_hangs_costs_a_call_the_time_of_one_attempt() {
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    // Accepts connections, as far as the system does, and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", mute.local_addr().unwrap());
    let _mute = host.client.register(Instance::new("orders", endpoint).unwrap()).await.unwrap();
    let (orders, upstream) = orders(&registry).await;
    upstream.ready(2).await.unwrap();
    // Long for the one that is well, however busy the machine is.
    let limit = Duration::from_secs(1);
    let orders = orders.options(CallOptions::new().per_try_timeout(limit));
    let mut slow = 0;
    for _ in 0..6 {
        let began = Instant::now();
        let (status, body) = call(&orders, Method::PUT, "/").await.unwrap();
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"answer"[..]));
        slow += usize::from(began.elapsed() >= limit);
        assert!(began.elapsed() < limit + Duration::from_secs(5), "{:?}", began.elapsed());
    }
    assert!(slow > 0, "nothing met the mute instance");
    let error = (0..2).map(|_| call(&orders, Method::POST, "/"));
    let failed = futures_util::future::join_all(error).await.iter().filter(|result| result.is_err()).count();
    assert!(failed <= 1, "only the one that met the mute instance, as it may not be repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_leaves_under_load_costs_no_request_not_even_one_that_may_not_be_repeated() {
    let registry = MemoryRegistry::new();
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(Host::start(&registry, app()).await);
    }
    let (orders, upstream) = orders(&registry).await;
    upstream.ready(3).await.unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let orders = orders.clone();
            tokio::spawn(async move {
                while Instant::now() < end {
                    let (status, _) = call(&orders, Method::POST, "/").await.unwrap();
                    assert_eq!(status, StatusCode::OK);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    for host in &hosts[..2] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let report = host.client.drain(Drain::new().propagate(Duration::from_millis(500))).await;
        assert!(report.is_clean(), "{report:?}");
    }
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_is_not_used_again_when_the_server_may_be_about_to_close_it() {
    use axum::extract::ConnectInfo;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new("orders", format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let app =
        Router::new().fallback(any(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let pool = HttpConnect::<Full<Bytes>>::new().connect(&instance, instance.endpoint()).unwrap();
    // The connection it went over.
    let ask = async || {
        let body = Replay::new(Full::new(Bytes::new()), 0);
        let request = Request::get(instance.endpoint().to_string()).body(body).unwrap();
        let answer = pool.clone().oneshot(request).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes()
    };
    let mut seen = vec![ask().await];
    eventually("a connection is used again", Duration::from_secs(60), async || {
        let connection = ask().await;
        let is_known = seen.contains(&connection);
        seen.push(connection);
        is_known.then_some(())
    })
    .await
    .unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(16)).await;
    tokio::time::resume();
    assert!(!seen.contains(&ask().await));
    serving.abort();
}

#[tokio::test]
async fn http2_without_tls_is_spoken_where_the_endpoint_says_so() {
    let registry = MemoryRegistry::new();
    let host = Host::start(
        &registry,
        Router::new().fallback(any(|request: axum::extract::Request| async move {
            format!("{:?}", request.version())
        })),
    )
    .await;
    let owner = Client::from_backend(registry.backend()).await.unwrap();
    let endpoint = format!("h2c://{}", host.address);
    let _registered = owner.register(Instance::new("modern", endpoint).unwrap()).await.unwrap();
    let modern = Balanced::new(owner.discover("modern").await.unwrap(), HttpConnect::new());
    modern.upstream().ready(1).await.unwrap();
    assert_eq!(call(&modern, Method::GET, "/").await.unwrap().1, "HTTP/2.0");
    let (orders, _) = orders(&registry).await;
    assert_eq!(call(&orders, Method::GET, "/").await.unwrap().1, "HTTP/1.1");
    // Two GOAWAYs later it is gone.
    let report = host.leave().await.unwrap();
    assert!(report.is_clean() && report.elapsed < Duration::from_secs(3), "{report:?}");
}

#[tokio::test]
async fn a_request_that_is_passed_on_speaks_the_version_of_where_it_goes() {
    let registry = MemoryRegistry::new();
    let app = Router::new().fallback(any(async |request: axum::extract::Request| {
        format!("{:?} {:?}", request.version(), request.headers().get("host"))
    }));
    let host = Host::start(&registry, app).await;
    for (scheme, came_as, expected) in [
        ("http", Version::HTTP_2, r#"HTTP/1.1 Some("gateway")"#),
        ("http", Version::HTTP_10, r#"HTTP/1.1 Some("gateway")"#),
        ("h2c", Version::HTTP_11, "HTTP/2.0 None"),
    ] {
        let instance = Instance::new("orders", format!("{scheme}://{}", host.address)).unwrap();
        let pool = HttpConnect::<Full<Bytes>>::new().connect(&instance, instance.endpoint()).unwrap();
        let request = Request::get(format!("http://{}/", host.address)).version(came_as);
        let body = Replay::new(Full::new(Bytes::new()), 0);
        let answer = pool.oneshot(request.header("host", "gateway").body(body).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected, "{scheme}");
    }
}

#[tokio::test]
async fn a_probe_tells_the_well_from_the_broken_the_leaving_and_the_dead() {
    let registry = MemoryRegistry::new();
    let app = app().route("/broken", any(async || StatusCode::INTERNAL_SERVER_ERROR));
    let host = Host::start(&registry, app).await;
    let instance = Instance::new("orders", format!("http://{}", host.address)).unwrap();
    let ask = async |path: &str| HttpProbe::new(path).probe(&instance).await;
    assert_eq!(ask("/").await, Ok(()));
    assert_eq!(ask("/broken?deeply").await, Err(Failure::Server));
    assert_eq!(ask("broken").await, Err(Failure::Server), "a path without its slash is that path");

    let request = host.client.in_flight().enter();
    let leaving = host.leave();
    host.client.in_flight().refusing().await;
    // Refused if it gets through at all, as the port closes.
    assert!(ask("/").await.is_err());
    drop(request);
    leaving.await.unwrap();
    assert_eq!(ask("/").await, Err(Failure::Connect));
}

#[tokio::test]
async fn a_thousand_instances_that_came_and_left_leave_no_connection_behind() {
    const AT_ONCE: usize = 20;
    let registry = MemoryRegistry::new();
    let host = Host::start(&registry, app()).await;
    let mut config = ClientConfig::default();
    // What leaves leaves at once, even if many do.
    config.shrink_guard = ShrinkGuard::Off;
    let caller = Client::builder().config(config).backend(registry.backend()).build().await.unwrap();
    let orders: Orders = Balanced::new(caller.discover("orders").await.unwrap(), HttpConnect::new());
    // The server's own task, and a connection to the instance that stays.
    let idle = 2;
    let connections = || host.client.in_flight().tasks();
    for _ in 0..1_000 / AT_ONCE {
        let mut come = Vec::new();
        for _ in 0..AT_ONCE {
            let instance = Instance::new("orders", format!("http://{}", host.address)).unwrap();
            come.push(caller.register(instance).await.unwrap());
        }
        orders.upstream().ready(AT_ONCE + 1).await.unwrap();
        for _ in 0..2 * AT_ONCE {
            call(&orders, Method::GET, "/").await.unwrap();
        }
        assert!(connections() > AT_ONCE, "each instance has a pool of its own: {}", connections());
        futures_util::future::join_all(come.into_iter().map(Registration::deregister)).await;
        let are_gone = async || (orders.cached() <= 1 && connections() <= idle).then_some(());
        eventually("the connections close", Duration::from_secs(60), are_gone).await.unwrap();
    }
    assert_eq!(host.client.in_flight().requests(), 0);
}
