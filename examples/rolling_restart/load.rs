//! Callers that keep a steady rate, whatever happens, and count what became of each request.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use service_registry::{
    Client,
    tonic::GrpcChannel,
    tower::{Balanced, HttpConnect},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tower::ServiceExt;

use crate::{
    Result,
    greeter::{GreeterClient, HelloRequest},
    instance::{GRPC, HTTP},
};

/// Callers of each protocol.
const CALLERS: usize = 8;
/// Each caller's time from one request to the next: 800 requests per second in all.
const EVERY: Duration = Duration::from_millis(20);
/// How many failures are told.
const TOLD: usize = 5;

type Orders = Balanced<HttpConnect<Full<bytes::Bytes>>>;

pub(crate) struct Load {
    callers: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
    begin: Instant,
}

/// What became of the requests.
#[derive(Default)]
struct Tally {
    answered: usize,
    failed: usize,
    failures: Vec<String>,
    /// By protocol and instance.
    by: BTreeMap<(&'static str, String), usize>,
    slowest: Duration,
    is_over: bool,
}

/// The tally, and how long it took.
pub(crate) struct Sum {
    tally: Tally,
    elapsed: Duration,
}

impl Load {
    /// Starts to call once that many instances of both services are known.
    pub(crate) async fn start(client: &Client, instances: usize) -> Result<Self> {
        let (orders, greeters) = (client.discover(HTTP).await?, client.discover(GRPC).await?);
        orders.ready(instances).await?;
        greeters.ready(instances).await?;
        let orders: Orders = Balanced::new(orders, HttpConnect::new());
        let greeter = GreeterClient::new(GrpcChannel::new(greeters));

        let tally = Arc::<Mutex<Tally>>::default();
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let orders = orders.clone();
            // Every other caller's requests must not be repeated once they are sent.
            let method = if number % 2 == 0 { http::Method::GET } else { http::Method::POST };
            callers.spawn(call("HTTP", Arc::clone(&tally), move || ask(orders.clone(), method.clone())));
            let greeter = greeter.clone();
            callers.spawn(call("gRPC", Arc::clone(&tally), move || greet(greeter.clone())));
        }
        Ok(Self { callers, tally, begin: Instant::now() })
    }

    /// A line for the reader.
    pub(crate) fn so_far(&self) -> String {
        let tally = lock(&self.tally);
        format!("so far {} answered, {} failed", tally.answered, tally.failed)
    }

    /// Lets the requests that are under way end, and says what became of all.
    pub(crate) async fn stop(mut self) -> Sum {
        let elapsed = self.begin.elapsed();
        lock(&self.tally).is_over = true;
        while self.callers.join_next().await.is_some() {}
        Sum { tally: std::mem::take(&mut lock(&self.tally)), elapsed }
    }
}

/// Calls at a steady rate until it is over.
async fn call<F>(protocol: &'static str, tally: Arc<Mutex<Tally>>, request: impl Fn() -> F)
where
    F: Future<Output = Result<String>>,
{
    let mut ticks = interval(EVERY);
    // What was late is made up for: the rate is the point.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !lock(&tally).is_over {
        ticks.tick().await;
        let begin = Instant::now();
        let answer = request().await;
        lock(&tally).note(protocol, answer, begin.elapsed());
    }
}

/// A request over HTTP; the answer is the instance's name.
async fn ask(orders: Orders, method: http::Method) -> Result<String> {
    let request = http::Request::builder().method(method).uri("/").body(Full::from("seven lines"))?;
    let answer = orders.oneshot(request).await?;
    if !answer.status().is_success() {
        return Err(format!("the answer was {}", answer.status()).into());
    }
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().into())?)
}

/// The same over gRPC.
async fn greet(mut greeter: GreeterClient<GrpcChannel>) -> Result<String> {
    let reply = greeter.say_hello(HelloRequest { name: "you".to_owned() }).await?;
    Ok(reply.into_inner().instance)
}

impl Tally {
    fn note(&mut self, protocol: &'static str, answer: Result<String>, took: Duration) {
        self.slowest = self.slowest.max(took);
        match answer {
            Ok(instance) => {
                self.answered += 1;
                *self.by.entry((protocol, instance)).or_default() += 1;
            }
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < TOLD {
                    self.failures.push(format!("{protocol}: {error:?}"));
                }
            }
        }
    }
}

impl Sum {
    fn rate(&self) -> f64 {
        (self.tally.answered + self.tally.failed) as f64 / self.elapsed.as_secs_f64()
    }

    /// Whether that proves anything, and whether nothing failed.
    pub(crate) fn check(&self, instances: &[String], rate: f64) -> Result<()> {
        for failure in &self.tally.failures {
            println!("{failure}");
        }
        if self.tally.failed > 0 {
            return Err(format!("{} requests failed", self.tally.failed).into());
        }
        if self.rate() < rate {
            return Err(TooFew(self.rate()).into());
        }
        for protocol in ["HTTP", "gRPC"] {
            for instance in instances {
                if !self.tally.by.contains_key(&(protocol, instance.clone())) {
                    return Err(format!("{instance} never answered over {protocol}").into());
                }
            }
        }
        Ok(())
    }
}

/// The machine was too slow for the load that was asked for: nothing failed, and nothing is shown.
#[derive(Debug)]
pub(crate) struct TooFew(f64);

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} requests/s are too few to tell", self.0)
    }
}

impl std::error::Error for TooFew {}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, failed) = (self.tally.answered, self.tally.failed);
        let (rate, slowest) = (self.rate(), self.tally.slowest);
        write!(
            f,
            "{answered} answered at {rate:.0} requests/s, the slowest in {slowest:.1?}; {failed} failed"
        )
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
