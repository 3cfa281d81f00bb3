//! Callers that go on and on, and count who answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_registry::tonic::GrpcChannel;
use tokio::task::JoinSet;
use tonic::Status;

use crate::greeter::{GreeterClient, HelloRequest};

const CALLERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    callers: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    answered: usize,
    failed: Vec<Status>,
    /// By whom, since the last report.
    by: BTreeMap<String, usize>,
}

impl Load {
    pub(crate) fn start(channel: &GrpcChannel) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (mut client, seen) = (GreeterClient::new(channel.clone()), Arc::clone(&seen));
            callers.spawn(async move {
                loop {
                    let answer = client.say_hello(HelloRequest { name: "you".to_owned() }).await;
                    lock(&seen).note(answer.map(|reply| reply.into_inner().instance));
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { seen, callers }
    }

    /// Waits for that many further calls and says who answered them.
    pub(crate) async fn report(&self, title: &str, calls: usize) {
        self.forget();
        while lock(&self.seen).by.values().sum::<usize>() < calls {
            tokio::time::sleep(PAUSE).await;
        }
        let seen = lock(&self.seen);
        let by: Vec<_> = seen.by.iter().map(|(name, calls)| format!("{name} {calls}")).collect();
        println!("\n{title}: {}; {} failed so far", by.join(", "), seen.failed.len());
    }

    pub(crate) fn forget(&self) {
        lock(&self.seen).by.clear();
    }

    pub(crate) async fn stop(mut self) -> (usize, Vec<Status>) {
        self.callers.shutdown().await;
        let mut seen = lock(&self.seen);
        (seen.answered, std::mem::take(&mut seen.failed))
    }
}

impl Seen {
    fn note(&mut self, answer: Result<String, Status>) {
        match answer {
            Ok(instance) => {
                self.answered += 1;
                *self.by.entry(instance).or_default() += 1;
            }
            Err(status) => self.failed.push(status),
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
