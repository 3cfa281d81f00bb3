//! What a registry really holds, asked past every fault.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use registry_core::{
    Backend, ConnectContext, Connector, Discovery, Namespace, RegistryUrl, Target, backend::Read,
};
use registry_testkit::faults::{History, Observation, Recorders, Records, TRUTH_EVERY, records};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use super::world::SERVICE;

/// For one question.
const ANSWER: Duration = Duration::from_millis(800);

/// A way to ask for the records that stand there and are alive; no answer is no word about them.
#[derive(Clone)]
pub(crate) struct Ask {
    way: Arc<dyn Fn() -> BoxFuture<'static, Option<Records>> + Send + Sync>,
    age: Duration,
}

impl Ask {
    pub(crate) fn new<Asking>(ask: impl Fn() -> Asking + Send + Sync + 'static) -> Self
    where
        Asking: Future<Output = Option<Records>> + Send + 'static,
    {
        Self { way: Arc::new(move || Box::pin(ask())), age: Duration::ZERO }
    }

    /// The server's answers are made in advance: they say what was so up to `age` before it was asked.
    pub(crate) fn aged(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// By a look-up of a backend of its own, over its own connections straight to the server: what another process
    /// would find. (Its codec is that of the client under test, which the conformance suite judges.)
    pub(crate) fn by<C: Connector + Clone>(connector: C, url: &str, namespace: &str) -> Self {
        let url: RegistryUrl = url.parse().expect("a URL");
        let context =
            ConnectContext::new(Namespace::new(namespace).expect("a namespace"), Duration::from_secs(15));
        let way = Arc::new(Way { connector, url, context, backend: Mutex::default() });
        Self::new(move || Arc::clone(&way).ask())
    }

    pub(crate) fn ask(&self) -> BoxFuture<'static, Option<Records>> {
        (self.way)()
    }

    /// Asks all the time and writes down the answers.
    pub(crate) fn record(self, recorders: &mut Recorders, history: &History) {
        let history = history.clone();
        recorders.other(async move {
            loop {
                let asked = history.now();
                if let Some(records) = self.ask().await {
                    let of = asked.saturating_sub(self.age);
                    history.record_answer(of, history.now(), Observation::Truth(records));
                }
                sleep(TRUTH_EVERY).await;
            }
        });
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}

struct Way<C> {
    connector: C,
    url: RegistryUrl,
    context: ConnectContext,
    backend: Mutex<Option<Backend>>,
}

impl<C: Connector> Way<C> {
    async fn ask(self: Arc<Self>) -> Option<Records> {
        let discovery: Arc<dyn Discovery> = {
            let mut backend = self.backend.lock().await;
            if backend.is_none() {
                *backend = self.connector.connect(&self.url, &self.context).await.ok();
            }
            Arc::clone(backend.as_ref()?.discovery.as_ref()?)
        };
        let target = Target::try_from(SERVICE).expect("a target");
        let read = Read::default();
        let listing = timeout(ANSWER, discovery.lookup(&target, &read)).await.ok()?.ok()?;
        Some(records(&listing.instances))
    }
}
