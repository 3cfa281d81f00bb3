//! What a client costs that watches 100 services in which nothing happens: `cargo bench -p registry-http --all-features
//! --bench idle`, with `consul`, `eureka` or `nacos` behind `--` to run only those. Starts real servers;
//! Nacos needs a network of its own: `tests/servers/apart` in front of the command.
//!
//! I1 are the requests that a counting relay in front of the server sees in a minute, by the default configuration:
//!
//! | registry | requests per minute | with |
//! |---|---|---|
//! | Consul | services × 60 s ÷ wait, less up to a sixteenth, as Consul holds a query that much longer | `wait=60s` |
//! | Eureka | 60 s ÷ poll, up to a tenth more, as the pause is cut at random; however many services | `poll=30s` |
//! | Nacos | services × 60 s ÷ poll, whatever is pushed | `poll=5s` |
//!
//! I2 is the processor time of the client's threads meanwhile, which a relay and a server in others don't add to.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail; the lint only knows tests")]

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    println!("servers are started by their launcher, which knows Unix only");
}

#[cfg(unix)]
mod unix {
    use std::{
        fs,
        net::SocketAddr,
        process::ExitCode,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use futures_util::future::try_join_all;
    use registry_bench_support::{Bound, conclude};
    use registry_core::{Client, Instance, Upstream};
    use registry_http::{bench, consul::ConsulConnector, eureka::EurekaConnector, nacos::NacosConnector};
    use registry_testkit::{Consul, Eureka, HttpApi, Nacos, NacosLine};
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{
            TcpListener, TcpStream,
            tcp::{OwnedReadHalf, OwnedWriteHalf},
        },
        runtime::{Builder, Runtime},
        time::sleep,
    };

    const SERVICES: usize = 100;
    const WINDOW: Duration = Duration::from_secs(60);
    /// From the last first view until the window begins.
    const SETTLE: Duration = Duration::from_secs(5);
    /// The kernel cuts a thread's name after 15 bytes.
    const CLIENT: &str = "client";

    pub(super) fn main() -> ExitCode {
        let asked: Vec<String> =
            std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let wants = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
        let runtime = |threads: usize, name: &str| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                .enable_all()
                .build()
                .unwrap()
        };
        let (stage, clients) = (runtime(1, "stage"), runtime(2, CLIENT));
        let mut bounds = Vec::new();
        if wants("consul") {
            bounds.extend(stage.block_on(Box::pin(consul(&clients))));
        }
        if wants("eureka") {
            bounds.extend(stage.block_on(Box::pin(eureka(&clients))));
        }
        if wants("nacos") {
            bounds.extend(stage.block_on(Box::pin(nacos(&clients))));
        }
        drop(clients);
        conclude(&bounds)
    }

    /// The name of a service; each has one instance, which nobody renews: its server expects no beat for an hour or ever.
    fn name(service: usize) -> String {
        format!("idle-{service:03}")
    }

    fn address(service: usize) -> String {
        format!("10.0.0.{}", service + 1)
    }

    async fn consul(clients: &Runtime) -> [Bound; 2] {
        let server = Consul::start().await.unwrap();
        for service in 0..SERVICES {
            let body =
                json!({"ID": name(service), "Name": name(service), "Address": address(service), "Port": 80});
            put(&server.api(), "PUT", "/v1/agent/service/register", body.to_string()).await;
        }
        let relay = Relay::start(server.address()).await;
        let url = format!("consul://{}", relay.address);
        let opened = Client::builder().connector(ConsulConnector::new()).url(&url);
        // One answer for each watch, and the first of those whose wait began just before.
        judge("Consul", clients, relay, async move { opened.build().await.unwrap() }, 110.0).await
    }

    async fn eureka(clients: &Runtime) -> [Bound; 2] {
        let server = Eureka::start().await.unwrap();
        for service in 0..SERVICES {
            let instance = Instance::builder(name(service)).id("one");
            let instance = instance.endpoint(format!("http://{}:80", address(service))).build().unwrap();
            let body = bench::eureka::registered(&instance, Duration::from_secs(3600));
            let path = format!("/eureka/apps/{}", name(service).to_uppercase());
            put(&server.api(), "POST", &path, String::from_utf8(body).unwrap()).await;
        }
        let relay = Relay::start(server.address()).await;
        let url = format!("eureka://{}", relay.address);
        let opened = Client::builder().connector(EurekaConnector::new()).url(&url);
        // Two or three deltas, as a pause is 27 to 30 s, and perhaps a list.
        judge("Eureka", clients, relay, async move { opened.build().await.unwrap() }, 4.0).await
    }

    async fn nacos(clients: &Runtime) -> [Bound; 2] {
        let server = Nacos::start(NacosLine::V2).await.unwrap();
        for service in 0..SERVICES {
            let metadata = "preserved.heart.beat.interval%3D3600000%2Cpreserved.heart.beat.timeout%3D3600000\
                            %2Cpreserved.ip.delete.timeout%3D3600000";
            let (name, ip) = (name(service), address(service));
            let form = format!("serviceName={name}&ip={ip}&port=80&ephemeral=true&metadata={metadata}");
            put(&server.api(), "POST", "/nacos/v1/ns/instance", form).await;
        }
        let relay = Relay::start(server.address()).await;
        let url = format!("nacos://{}", relay.address);
        let opened = Client::builder().connector(NacosConnector::new()).url(&url);
        // And a few that the window's ends catch: the first and the thirteenth of a service are a minute apart.
        judge("Nacos", clients, relay, async move { opened.build().await.unwrap() }, 1_210.0).await
    }

    async fn put(api: &HttpApi, method: &str, path: &str, body: String) {
        api.call(method, path, body).await.unwrap().success().unwrap();
    }

    /// Opens the watches and counts what they ask for.
    async fn judge(
        registry: &str,
        clients: &Runtime,
        relay: Relay,
        client: impl Future<Output = Client> + Send + 'static,
        most: f64,
    ) -> [Bound; 2] {
        let opened = clients.spawn(async move {
            let client = client.await;
            let upstreams = try_join_all((0..SERVICES).map(|service| client.discover(name(service)))).await;
            let upstreams: Vec<Upstream> = upstreams.unwrap();
            try_join_all(upstreams.iter().map(|upstream| upstream.ready(1))).await.unwrap();
            (client, upstreams)
        });
        let (client, upstreams) = opened.await.unwrap();
        let opening = relay.requests();
        sleep(SETTLE).await;
        let (before, cpu) = (relay.requests(), cpu_time());
        sleep(WINDOW).await;
        let (requests, cpu) = (relay.requests() - before, cpu_time() - cpu);
        assert!(upstreams.iter().all(|upstream| upstream.snapshot().len() == 1), "all views are kept");
        println!(
            "{registry}: {opening} requests to open, then {requests} and {cpu:.1?} of CPU in {WINDOW:?}"
        );
        drop(upstreams);
        clients.spawn(async move { client.close().await }).await.unwrap();
        let what = format!("{registry}, {SERVICES} idle watches");
        [
            Bound::at_most("I1", what.clone(), requests as f64, most, "requests per minute"),
            // A hundredth of one core.
            Bound::at_most("I2", what, cpu.as_secs_f64() * 1e3, 600.0, "ms of CPU per minute").report(),
        ]
    }

    /// The processor time of the client's threads, where the system tells.
    fn cpu_time() -> Duration {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let nanos = threads.filter_map(|thread| {
            let of = |file: &str| fs::read_to_string(thread.path().join(file)).ok();
            of("comm").filter(|name| name.starts_with(CLIENT))?;
            of("schedstat")?.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Stands in front of a server and counts requests.
    struct Relay {
        address: SocketAddr,
        requests: Arc<AtomicU64>,
    }

    impl Relay {
        async fn start(server: SocketAddr) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let relay = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
            let requests = Arc::clone(&relay.requests);
            tokio::spawn(async move {
                loop {
                    let (near, _) = listener.accept().await.unwrap();
                    let Ok(far) = TcpStream::connect(server).await else { continue };
                    let ((ask, answer), (from, to)) = (near.into_split(), far.into_split());
                    tokio::spawn(count(ask, to, Arc::clone(&requests)));
                    tokio::spawn(count(from, answer, Arc::default()));
                }
            });
            relay
        }

        fn requests(&self) -> u64 {
            self.requests.load(Ordering::Relaxed)
        }
    }

    /// Relays one direction, and counts the request lines in it.
    async fn count(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, requests: Arc<AtomicU64>) {
        const LINE_END: &[u8] = b" HTTP/1.1\r\n";
        let (mut buffer, mut matched) = (vec![0; 16 * 1024], 0);
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            for byte in &buffer[..length] {
                // No proper prefix of it is also its end, so a mismatch starts anew.
                matched = match *byte {
                    byte if byte == LINE_END[matched] => matched + 1,
                    byte => usize::from(byte == LINE_END[0]),
                };
                if matched == LINE_END.len() {
                    requests.fetch_add(1, Ordering::Relaxed);
                    matched = 0;
                }
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
