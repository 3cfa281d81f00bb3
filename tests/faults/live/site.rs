//! What a registry says of itself, so that rows can be told there.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use registry_testkit::{
    ServerError, TestCert,
    faults::{History, Observation, Violation},
};
use service_registry::{Instance, InstanceKey};

use super::{
    tls::Guarded,
    truth::Ask,
    world::{Must, Stage},
};

/// How many registrations a world has where each beats for itself.
pub(crate) const COUNT: usize = 10;
/// The row that a child is, in the module of each registry.
const CHILD: &str = "row_20_an_application_killed_without_a_word_is_gone_in_time";

/// A registry as a place for faults.
#[async_trait(?Send)]
pub(crate) trait Site: Send + Sync {
    /// As in the names of tests.
    fn name(&self) -> &'static str;

    fn bounds(&self) -> Bounds;

    /// A server that other rows use too, at the same time.
    async fn shared(&self) -> Result<Arc<dyn Server>, ServerError>;

    /// A server of the row's own; one that remembers what it held when it is restarted, if there is such a one.
    async fn own(&self) -> Result<Arc<dyn Server>, ServerError>;

    /// A server that is reached over TLS, where it shows this certificate; its own TLS, where that can be given another
    /// one while it runs.
    async fn guarded(&self, cert: &TestCert) -> Result<Guarded, ServerError> {
        Guarded::behind_a_door(self.shared().await?, cert).await
    }

    /// What a client is given, for one or several endpoints.
    fn url(&self, endpoints: &[SocketAddr], namespace: &str) -> String;

    /// The same URL for one client of many: one that polls does so as seldom as many may.
    fn seldom(&self, url: &str) -> String {
        url.to_owned()
    }

    /// Whether a request is an attempt of its own. What a client asks before a write, or to make sure of a denial, belongs
    /// to the attempt that it's asked for.
    fn is_attempt(&self, _target: &str) -> bool {
        true
    }

    /// How many clients row 19 has; a multiple of ten.
    fn herd(&self) -> usize {
        60
    }

    /// How many registrations a world has.
    fn count(&self) -> usize {
        COUNT
    }

    /// The test that a child of this process is, which plays nothing but the child.
    fn child(&self) -> String {
        format!("{}::{CHILD}", self.name())
    }

    /// What the server holds in a namespace.
    fn truth(&self, server: SocketAddr, namespace: &str) -> Ask;

    /// Deletes a record as an operator would.
    async fn delete(
        &self,
        server: SocketAddr,
        namespace: &str,
        instance: &Instance,
    ) -> Result<(), ServerError>;
}

/// What is the registry's own, and what it is told by the URL. The client's share is in no bound here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The time to live that the URL says.
    pub(crate) ttl: Duration,
    /// Whether records survive a restart.
    pub(crate) keeps: bool,
    /// Whether an expiry is held against who claims to be live meanwhile: the registry's clock is known so well that a
    /// row need not say when it gives somebody up.
    pub(crate) expiry_is_seen: bool,
    /// From the last beat of an instance until a reader no longer has it: what the registry takes to give it up, and
    /// the reader's next look.
    pub(crate) forgets: Duration,
    /// Until a client has noticed that its record was deleted, and has put it back: its next beat.
    pub(crate) noticed: Duration,
    /// Until a client has noticed that its record is somebody else's.
    pub(crate) superseded: Duration,
    /// Until a reader that is cut off in silence says that it is stale.
    pub(crate) stale: Duration,
    /// Whether a reader is told who was removed, and not only who is there: each such word counts at once, until they
    /// are many.
    pub(crate) names_removed: bool,
    /// Until a removal is seen by a reader: its next look, and the server's own cache.
    pub(crate) removal: Duration,
}

impl Bounds {
    /// Longer than the time to live, so that every safe deadline passes.
    pub(crate) fn long(&self) -> Duration {
        2 * self.ttl
    }

    /// Just shorter than half of it.
    pub(crate) fn short(&self) -> Duration {
        self.ttl / 2 - Duration::from_millis(100)
    }
}

/// A process that can be hurt.
#[async_trait(?Send)]
pub(crate) trait Server: Send + Sync {
    fn address(&self) -> SocketAddr;
    async fn kill(&self) -> Result<(), ServerError>;
    async fn restart(&self) -> Result<(), ServerError>;
    async fn freeze(&self) -> Result<(), ServerError>;
    fn thaw(&self) -> Result<(), ServerError>;
    /// Deletes what it has on disk.
    async fn wipe(&self) -> Result<(), ServerError>;
}

/// The launchers have all of it under these names.
macro_rules! server {
    ($launcher:ty, |$server:ident| $wipe:expr) => {
        #[async_trait::async_trait(?Send)]
        impl $crate::live::Server for $launcher {
            fn address(&self) -> std::net::SocketAddr {
                <$launcher>::address(self)
            }

            async fn kill(&self) -> Result<(), registry_testkit::ServerError> {
                <$launcher>::kill(self).await
            }

            async fn restart(&self) -> Result<(), registry_testkit::ServerError> {
                <$launcher>::restart(self).await
            }

            async fn freeze(&self) -> Result<(), registry_testkit::ServerError> {
                <$launcher>::freeze(self).await
            }

            fn thaw(&self) -> Result<(), registry_testkit::ServerError> {
                <$launcher>::thaw(self)
            }

            async fn wipe(&self) -> Result<(), registry_testkit::ServerError> {
                let $server = self;
                $wipe
            }
        }
    };
}
pub(crate) use server;

/// Where one story plays: a server and a namespace that no other story uses.
pub(crate) struct Place<'a> {
    pub(crate) site: &'a dyn Site,
    pub(crate) server: Arc<dyn Server>,
    pub(crate) bounds: Bounds,
    pub(crate) namespace: String,
}

impl<'a> Place<'a> {
    pub(crate) async fn shared(site: &'a dyn Site) -> Result<Self, Violation> {
        Ok(Self::at(site, started(site.shared().await)?))
    }

    pub(crate) async fn own(site: &'a dyn Site) -> Result<Self, Violation> {
        Ok(Self::at(site, started(site.own().await)?))
    }

    pub(crate) fn at(site: &'a dyn Site, server: Arc<dyn Server>) -> Self {
        static STORIES: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("stories-{}", STORIES.fetch_add(1, Ordering::Relaxed));
        Self { site, server, bounds: site.bounds(), namespace }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(crate) fn url(&self) -> String {
        self.url_via(&[self.address()])
    }

    pub(crate) fn url_via(&self, endpoints: &[SocketAddr]) -> String {
        self.site.url(endpoints, &self.namespace)
    }

    pub(crate) fn truth(&self) -> Ask {
        self.site.truth(self.address(), &self.namespace)
    }

    /// A world whose clients connect straight to the server.
    pub(crate) fn stage(&self) -> Stage {
        self.stage_via(&[self.address()])
    }

    pub(crate) fn stage_via(&self, endpoints: &[SocketAddr]) -> Stage {
        Stage::new(&self.url_via(endpoints), self.truth()).ttl(self.bounds.ttl).count(self.site.count())
    }

    /// Says that the registry gives these up, where that has to be said.
    pub(crate) fn given_up(&self, history: &History, keys: Vec<InstanceKey>, why: &str) {
        if !self.bounds.expiry_is_seen {
            forgotten(history, keys, why);
        }
    }

    /// Deletes a record as an operator, and says so.
    pub(crate) async fn delete(&self, history: &History, instance: &Instance) -> Result<(), Violation> {
        self.site.delete(self.address(), &self.namespace, instance).await.must("delete")?;
        let why = "deleted by an operator".into();
        history.record(Observation::Gone { key: instance.key(), why });
        Ok(())
    }
}

/// With what it printed, if it has not started.
fn started(server: Result<Arc<dyn Server>, ServerError>) -> Result<Arc<dyn Server>, Violation> {
    server.map_err(|error| Violation::run(format!("the server: {error:?}")))
}

/// Says that the registry has forgotten these.
pub(crate) fn forgotten(history: &History, keys: Vec<InstanceKey>, why: &str) {
    for key in keys {
        history.record(Observation::Gone { key, why: why.into() });
    }
}
