use axum::{Router, extract::Request, routing::any};
use registry_core::{ErrorKind, Registration};
use tokio::net::TcpListener;

use super::*;

/// Answers with the method, the path and the body; `/broken` fails.
async fn serve() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(any(async |request: Request| {
        let line = format!("{} {}", request.method(), request.uri());
        let body = axum::body::to_bytes(request.into_body(), 1024).await.unwrap();
        let status = if line.contains("broken") { 500 } else { 200 };
        (http::StatusCode::from_u16(status).unwrap(), format!("{line} {}", String::from_utf8_lossy(&body)))
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

struct Orders {
    http: ServiceClient,
    _registrations: Vec<Registration>,
}

/// With an instance at each of these addresses.
async fn orders(addresses: &[std::net::SocketAddr]) -> Orders {
    let client = Client::from_backend(registry_core::MemoryRegistry::new().backend()).await.unwrap();
    let mut registrations = Vec::new();
    for address in addresses {
        let instance = Instance::new("orders", format!("http://{address}")).unwrap();
        registrations.push(client.register(instance).await.unwrap());
    }
    let http = ServiceClient::new(&client, reqwest::Client::builder().no_proxy().build().unwrap());
    Orders { http, _registrations: registrations }
}

/// A port that refuses connections.
async fn closed() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_services_name_is_a_host_and_the_port_comes_from_the_registry() {
    let orders = orders(&[serve().await]).await;
    let answer = orders.http.get("http://orders/lines?of=7").send().await.unwrap();
    assert_eq!(answer.url().as_str(), "http://orders/lines?of=7");
    assert_eq!(answer.text().await.unwrap(), "GET /lines?of=7 ");
    let answer =
        orders.http.post("http://orders/lines").header("x-of", "7").body("two").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "POST /lines two");
}

#[tokio::test]
async fn what_was_not_sent_goes_elsewhere_with_its_body_whatever_it_is() {
    let orders = orders(&[closed().await, serve().await]).await;
    for _ in 0..4 {
        let answer = orders.http.post("http://orders/lines").body("two").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "POST /lines two");
    }
}

#[tokio::test]
async fn what_was_not_sent_goes_elsewhere_though_it_has_no_body() {
    let orders = orders(&[closed().await, serve().await]).await;
    for _ in 0..4 {
        let answer = orders.http.post("http://orders/lines").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "POST /lines ");
        let answer = orders.http.post("http://orders/lines").body("").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "POST /lines ");
    }
}

#[tokio::test]
async fn a_timeout_is_retried_only_if_the_request_may_be_repeated() {
    // Accepts connections, as far as the system does, and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let orders = orders(&[mute.local_addr().unwrap(), serve().await]).await;
    // Long for the one that is well, however busy the machine is.
    let limit = Duration::from_secs(1);
    let mut failed = 0;
    for _ in 0..4 {
        assert_eq!(orders.http.get("http://orders/").timeout(limit).send().await.unwrap().status(), 200);
    }
    for _ in 0..4 {
        match orders.http.post("http://orders/").timeout(limit).send().await {
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(RequestError::Call(CallError::Stopped { .. })) => failed += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!((1..4).contains(&failed), "{failed}");
}

#[tokio::test]
async fn other_urls_go_where_they_always_went() {
    let address = serve().await;
    let orders = orders(&[]).await;
    let answer = orders.http.get(format!("http://{address}/plain")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "GET /plain ");
    let answer = orders.http.get(format!("http://localhost:{}/plain", address.port())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(matches!(orders.http.get("no url").send().await, Err(RequestError::Http(_))));
}

#[tokio::test]
async fn a_rule_of_ones_own_says_which_hosts_are_services() {
    let orders = orders(&[serve().await]).await;
    let http = orders.http.clone().hosts(|url| url.domain()?.strip_suffix(".mesh").map(str::to_owned));
    assert_eq!(http.get("http://orders.mesh/lines").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_service_without_instances_is_a_typed_error() {
    let orders = orders(&[serve().await]).await;
    let error = orders.http.get("http://nobody/").send().await.unwrap_err();
    let RequestError::Call(CallError::NoInstance(error)) = error else { panic!("{error:?}") };
    assert_eq!(error.kind(), ErrorKind::NoInstance);
}

#[tokio::test]
async fn the_last_failure_is_the_response_it_was() {
    let addresses = [serve().await, serve().await];
    let orders = orders(&addresses).await;
    let answer = orders.http.get("http://orders/broken").send().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.text().await.unwrap(), "GET /broken ");
}

/// An instance that takes one request, answers it with a redirect to a port that refuses, and is gone.
async fn redirecting(location: String) -> (std::net::SocketAddr, tokio::task::JoinHandle<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"two") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = format!(
            "HTTP/1.1 303 See Other\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request).into_owned()
    });
    (address, serving)
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_does_not_repeat_the_request() {
    for body in ["two", ""] {
        let (first, serving) = redirecting(format!("http://{}/", closed().await)).await;
        let orders = orders(&[first]).await;
        let error = orders.http.post("http://orders/").body(body).send().await.unwrap_err();
        let RequestError::Call(CallError::Stopped { .. }) = error else { panic!("{error:?}") };
        assert!(serving.await.unwrap().starts_with("POST"));
    }
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_not_told_of_as_a_refused_connection() {
    let nowhere = format!("http://{}/", closed().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(any(async move || axum::response::Redirect::to(&nowhere)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let orders = orders(&[address; 3]).await;
    // Two refused connections in a row would be enough.
    for _ in 0..3 {
        orders.http.get("http://orders/").send().await.unwrap_err();
    }
    let upstream = orders.http.names.upstream("orders");
    assert_eq!(upstream.snapshot().ejected().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_view_no_longer_than_it_may_take() {
    let registry = registry_core::MemoryRegistry::new();
    registry.faults().unavailable(true);
    let client = Client::from_backend(registry.backend()).await.unwrap();
    let http = ServiceClient::new(&client, reqwest::Client::builder().no_proxy().build().unwrap());
    let start = Instant::now();
    let limit = Duration::from_millis(200);
    http.get("http://orders/").timeout(limit).send().await.unwrap_err();
    assert!(start.elapsed() < 2 * limit, "{:?}", start.elapsed());
}

#[tokio::test]
async fn names_that_are_made_up_take_no_places_for_good() {
    let orders = orders(&[serve().await]).await;
    for name in 0..1_100 {
        let error = orders.http.get(format!("http://made-up-{name}/")).send().await.unwrap_err();
        let RequestError::Call(CallError::NoInstance(error)) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), ErrorKind::NoInstance, "{name}");
    }
    assert_eq!(orders.http.get("http://orders/").send().await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_used_is_no_longer_watched() {
    let registry = registry_core::MemoryRegistry::new();
    let client = Client::from_backend(registry.backend()).await.unwrap();
    // Without a lease that the leaps of the clock might end.
    registry.faults().put_foreign(Instance::new("orders", "http://10.0.0.7:1").unwrap());
    let http = ServiceClient::new(&client, reqwest::Client::builder().no_proxy().build().unwrap());
    let known = async |name: &str| http.balanced(name, false, FIRST_VIEW).await.unwrap();
    for name in ["orders", "nobody", "no-one"] {
        known(name).await;
    }
    registry.until(|registry| registry.watch_count() == 3).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    let last = known("somebody").await;
    registry.until(|registry| registry.watch_count() == 2).await;
    assert_eq!(http.names.upstream("orders").snapshot().len(), 1);
    tokio::time::advance(Duration::from_secs(3600)).await;
    known("nobody").await;
    registry.until(|registry| registry.watch_count() == 2).await;
    drop(last);
    registry.until(|registry| registry.watch_count() == 1).await;
}

/// A service whose every answer begins and never ends.
async fn endless() -> crate::world::World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(any(async || {
        let part = futures_util::stream::iter([Ok::<_, io::Error>("part")]);
        let parts = futures_util::StreamExt::chain(part, futures_util::stream::pending());
        axum::body::Body::from_stream(parts)
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    crate::world::World::of([format!("http://{address}")]).await
}

#[tokio::test]
async fn a_timeout_while_the_caller_reads_slowly_is_not_the_instances_fault() {
    use http_body_util::BodyExt;
    use registry_core::balance::Failure;
    let limit = Duration::from_millis(400);
    for (is_slow, blamed) in [(true, None), (false, Some(Failure::Timeout))] {
        let world = endless().await;
        let http = reqwest::Client::builder().no_proxy().timeout(limit).build().unwrap();
        let mut service = Balanced::new(world.upstream.clone(), Pool { http, is_tls: false });
        let request = Request::get("http://orders/").body(Body::default()).unwrap();
        let mut body = service.call(request).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        if is_slow {
            tokio::time::sleep(3 * limit).await;
        }
        assert!(body.frame().await.unwrap().unwrap_err().is_timeout());
        assert_eq!(world.ledger.outcomes()[0].get_failure(), blamed);
    }
}

#[tokio::test]
async fn a_redirect_to_the_same_place_is_no_sign_that_nothing_was_sent() {
    for body in ["two", ""] {
        // As a page is shown after its form was sent; by then the instance is gone.
        let (first, serving) = redirecting("/".to_owned()).await;
        let orders = orders(&[first]).await;
        let error = orders.http.post("http://orders/").body(body).send().await.unwrap_err();
        let RequestError::Call(CallError::Stopped { .. }) = error else { panic!("{error:?}") };
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn https_is_never_spoken_in_plaintext_whatever_the_record_says() {
    let orders = orders(&[serve().await]).await;
    assert_eq!(orders.http.get("http://orders/").send().await.unwrap().status(), 200);
    let error = orders.http.get("https://orders/").send().await.unwrap_err();
    let mut told = String::new();
    let mut next: Option<&dyn StdError> = Some(&error);
    while let Some(error) = next {
        told.push_str(&error.to_string());
        next = error.source();
    }
    assert!(told.contains("no https endpoint"), "{told}");
}

#[test]
fn https_takes_the_endpoint_with_tls() {
    let builder = Instance::builder("orders").id("a").endpoint("http://10.0.0.1:80");
    let both = builder.endpoint("https://10.0.0.1:443").build().unwrap();
    let chosen = |is_tls| Pool { http: reqwest::Client::new(), is_tls }.endpoint(&both).to_string();
    assert_eq!([chosen(false), chosen(true)], ["http://10.0.0.1:80", "https://10.0.0.1:443"]);
}
