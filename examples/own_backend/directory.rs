//! The backend: a [`Connector`] that makes a [`Registry`], its [`Lease`]s and a [`Discovery`] of a directory.
//!
//! ```text
//! <root>/<namespace>/leases/<id>               its time to live; its age is the time since the last renewal
//! <root>/<namespace>/services/<service>/<id>   the id of the lease, a line feed, and the record
//! ```
//!
//! Records live as long as their lease, which is what makes one renewal enough for many of them: whoever reads ignores
//! the others. There is no retry, no cache and no timer here, but for the interval of looking: all that is the core's.
//!
//! What it can't do, honestly: ages are taken from the wall clock of the one machine, so setting that forward by more
//! than a time to live ends every lease, until the clients have registered again. And a file system can't compare and
//! set: of two processes that take over one id in the same instant, the later one has it, and the other is told so by
//! its next read-back; a record that is swept in the instant in which it is taken over is put back by the next one.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use registry_core::{
    Incarnation,
    model::{RecordVersion, decode_record, encode_record},
};
use service_registry::{
    Error, ErrorKind, Instance, InstanceId, InstanceKey, OnDuplicate, RegistryUrl, ServiceName, Target,
    backend::{
        Backend, Capabilities, Change, ConnectContext, Connector, Cursor, Delivery, Discovery, Event,
        Evidence, Grant, Lease, Lifetime, Listing, Outcome, Presence, Publish, Read, Registry, Relist,
        Relisted, Renewal, WatchStream,
    },
};
use tokio::time::{Instant, sleep};

/// In errors and logs.
const NAME: &str = "directory";
/// Shortest time to live: clocks of file systems tick coarsely.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Connects `directory:///namespace?root=/some/path`, with the option `poll`: how often a watch looks, 250 ms.
#[derive(Debug)]
pub(crate) struct DirectoryConnector;

#[async_trait]
impl Connector for DirectoryConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["directory"]
    }

    fn options(&self) -> &'static [&'static str] {
        &["root", "poll"]
    }

    async fn connect(&self, url: &RegistryUrl, context: &ConnectContext) -> Result<Backend, Error> {
        let Some(root) = url.option("root") else {
            let message = "a directory URL needs its root, as in directory:///namespace?root=/run/registry";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        let poll = url.duration_option("poll")?.unwrap_or(Duration::from_millis(250));
        Ok(Directory::new(Path::new(root).join(context.namespace.as_str()), poll).backend())
    }
}

/// One namespace of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    poll: Duration,
}

/// What is in the file of an instance.
struct Stored {
    lease: String,
    record: Vec<u8>,
}

impl Directory {
    pub(crate) fn new(root: PathBuf, poll: Duration) -> Self {
        Self { root, poll }
    }

    pub(crate) fn backend(self) -> Backend {
        let mut capabilities = Capabilities::session();
        capabilities.delivery = Delivery::Poll { every: self.poll };
        capabilities.proof_within = 4 * self.poll + Duration::from_secs(1);
        capabilities.propagation = 2 * self.poll;
        capabilities.min_ttl = MIN_TTL;
        capabilities.grace = 1.0;
        let scope = format!("{NAME}:{}", self.root.display());
        let this = Arc::new(self);
        let registry: Arc<dyn Registry> = Arc::<Self>::clone(&this);
        Backend::new(NAME, capabilities).with_registry(registry).with_discovery(this).with_scope(scope)
    }

    fn lease_path(&self, lease: &str) -> PathBuf {
        self.root.join("leases").join(lease)
    }

    fn service_path(&self, service: &ServiceName) -> PathBuf {
        self.root.join("services").join(file_name(service.as_str()))
    }

    fn path(&self, key: &InstanceKey) -> PathBuf {
        self.service_path(&key.service).join(file_name(key.id.as_str()))
    }

    fn is_alive(&self, lease: &str) -> io::Result<bool> {
        let path = self.lease_path(lease);
        let look = || Ok((fs::read_to_string(&path)?, fs::metadata(&path)?.modified()?));
        let Some((ttl, renewed)) = found(look())? else { return Ok(false) };
        let ttl = ttl.parse().map(Duration::from_millis).unwrap_or_default();
        // Renewed in the future: the clock was set back.
        Ok(renewed.elapsed().unwrap_or_default() < ttl)
    }

    /// What stands under a key, if its lease lives.
    fn read(&self, key: &InstanceKey) -> io::Result<Option<Stored>> {
        let Some(stored) = found(fs::read(self.path(key)))?.and_then(parse) else { return Ok(None) };
        Ok(self.is_alive(&stored.lease)?.then_some(stored))
    }

    /// Puts a file in place as a whole: nobody ever reads a half of it.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let new = self.root.join("new");
        fs::create_dir_all(&new)?;
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        let new = new.join(Incarnation::generate().to_string());
        fs::write(&new, content)?;
        fs::rename(&new, path)
    }

    /// Removes what nobody believes any more: leases that are over, and their records.
    fn sweep(&self) -> io::Result<()> {
        for lease in entries(&self.root.join("leases"))? {
            if !self.is_alive(&lease.file_name().to_string_lossy())? {
                found(fs::remove_file(lease.path()))?;
            }
        }
        for service in entries(&self.root.join("services"))? {
            for record in entries(&service.path())? {
                if let Some(stored) = found(fs::read(record.path()))?.and_then(parse)
                    && !self.is_alive(&stored.lease)?
                {
                    found(fs::remove_file(record.path()))?;
                }
            }
        }
        Ok(())
    }

    /// The files of a service whose leases live, each as its name, a line feed, and the record.
    fn files(&self, service: &ServiceName) -> io::Result<Vec<Vec<u8>>> {
        let mut alive = HashMap::new();
        let mut files = Vec::new();
        for entry in entries(&self.service_path(service))? {
            // Gone since the directory was read, or not one of ours.
            let Some(stored) = found(fs::read(entry.path()))?.and_then(parse) else { continue };
            let is_alive = match alive.get(&stored.lease) {
                Some(is_alive) => *is_alive,
                None => self.is_alive(&stored.lease)?,
            };
            alive.insert(stored.lease, is_alive);
            if is_alive {
                let name = entry.file_name();
                files.push([name.as_encoded_bytes(), b"\n", &stored.record].concat());
            }
        }
        Ok(files)
    }
}

#[async_trait]
impl Registry for Directory {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        let ttl = grant.ttl.max(MIN_TTL);
        let id = Incarnation::generate().to_string();
        let (this, path) = (self.clone(), self.lease_path(&id));
        let grant_one = move || {
            this.sweep()?;
            this.write(&path, ttl.as_millis().to_string().as_bytes())
        };
        blocking("grant", grant_one).await?;
        let own =
            Own { directory: self.clone(), id, ttl, incarnation: grant.incarnation, keys: Mutex::default() };
        Ok(Arc::new(DirectoryLease(Arc::new(own))))
    }
}

#[derive(Debug)]
struct DirectoryLease(Arc<Own>);

#[derive(Debug)]
struct Own {
    directory: Directory,
    id: String,
    ttl: Duration,
    incarnation: Incarnation,
    /// What was published under it, to remove the files when it is revoked.
    keys: Mutex<BTreeSet<InstanceKey>>,
}

#[async_trait]
impl Lease for DirectoryLease {
    fn lifetime(&self) -> Lifetime {
        Lifetime::Leased { ttl: self.0.ttl }
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let (own, records) = (Arc::clone(&self.0), records.to_vec());
        let many = records.len();
        let publish = move || Ok(records.iter().map(|record| own.publish(record)).collect());
        blocking("publish", publish).await.unwrap_or_else(|error| vec![Err(error); many])
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        let keys: Vec<_> = instances.iter().map(|instance| instance.key()).collect();
        let (own, many) = (Arc::clone(&self.0), keys.len());
        let withdraw =
            move || Ok(keys.iter().map(|key| own.remove(key, false).map_err(failed("withdraw"))).collect());
        blocking("withdraw", withdraw).await.unwrap_or_else(|error| vec![Err(error); many])
    }

    async fn renew(&self, _deadline: Instant) -> Result<Renewal, Error> {
        let own = Arc::clone(&self.0);
        let renewed = blocking("renew", move || own.renew()).await?;
        if renewed { Ok(Renewal::granted(self.0.ttl)) } else { Err(self.0.lost("renew")) }
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        let (own, keys) = (Arc::clone(&self.0), keys.to_vec());
        blocking("inspect", move || keys.iter().map(|key| own.inspect(key)).collect()).await
    }

    async fn revoke(&self) -> Result<(), Error> {
        let own = Arc::clone(&self.0);
        blocking("revoke", move || own.revoke()).await
    }
}

impl Own {
    fn publish(&self, record: &Publish) -> Outcome {
        let failed = failed("publish");
        let key = record.instance.key();
        if !self.directory.is_alive(&self.id).map_err(&failed)? {
            return Err(self.lost("publish"));
        }
        let standing = self.directory.read(&key).map_err(&failed)?;
        let is_foreign = standing.is_some_and(|stored| self.version(&stored).is_none());
        if is_foreign && record.on_duplicate == OnDuplicate::Reject {
            let message = format!("{key} is registered by somebody else");
            return Err(Error::new(ErrorKind::Conflict, message).with_context(NAME, "publish"));
        }
        let encoded = encode_record(&record.instance, Some(record.version))?;
        let content = [self.id.as_bytes(), b"\n", &encoded].concat();
        self.keys().insert(key.clone());
        self.directory.write(&self.directory.path(&key), &content).map_err(&failed)
    }

    /// Removes a record that our incarnation wrote; perhaps only if it hangs on this very lease.
    fn remove(&self, key: &InstanceKey, of_this_lease: bool) -> io::Result<()> {
        let path = self.directory.path(key);
        let Some(stored) = found(fs::read(&path))?.and_then(parse) else { return Ok(()) };
        if self.version(&stored).is_some() && (stored.lease == self.id || !of_this_lease) {
            found(fs::remove_file(&path))?;
        }
        self.keys().remove(key);
        Ok(())
    }

    /// Whether there was anything to renew.
    fn renew(&self) -> io::Result<bool> {
        if !self.directory.is_alive(&self.id)? {
            return Ok(false);
        }
        // The same bytes again: that sets the time, and nobody reads anything else meanwhile. It never makes the file.
        let open = fs::OpenOptions::new().write(true).open(self.directory.lease_path(&self.id));
        let Some(mut file) = found(open)? else { return Ok(false) };
        io::Write::write_all(&mut file, self.ttl.as_millis().to_string().as_bytes())?;
        Ok(true)
    }

    fn inspect(&self, key: &InstanceKey) -> io::Result<Presence> {
        let Some(stored) = self.directory.read(key)? else { return Ok(Presence::Missing) };
        Ok(match self.version(&stored) {
            Some(version) if stored.lease == self.id => Presence::Ours { version },
            Some(_) => Presence::Missing,
            None => Presence::Foreign,
        })
    }

    fn revoke(&self) -> io::Result<()> {
        found(fs::remove_file(self.directory.lease_path(&self.id)))?;
        let keys = std::mem::take(&mut *self.keys());
        keys.iter().try_for_each(|key| self.remove(key, true))
    }

    /// The version of a record that our incarnation wrote.
    fn version(&self, stored: &Stored) -> Option<RecordVersion> {
        let version = decode_record(&stored.record).ok()?.record_version()?;
        (version.incarnation == self.incarnation).then_some(version)
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, BTreeSet<InstanceKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::LeaseLost, format!("lease {} is over", self.id)).with_context(NAME, operation)
    }
}

#[async_trait]
impl Discovery for Directory {
    async fn lookup(&self, target: &Target, _read: &Read) -> Result<Listing, Error> {
        let (_, found) = Look::new(self, target).again("lookup").await?;
        let mut listing = Listing::new(found.instances, Evidence::default());
        listing.rejected = found.rejected;
        Ok(listing)
    }

    fn watch(&self, target: &Target, _cursor: Option<Cursor>) -> WatchStream {
        // There is no history to resume from: a session begins with the whole list.
        let session = Some((Look::new(self, target), true));
        let next = |session: Option<(Look, bool)>| async {
            let (look, is_first) = session?;
            if !is_first {
                sleep(look.directory.poll).await;
            }
            Some(match look.again("watch").await {
                Ok((look, found)) => {
                    let is_news = is_first || !found.changed.is_empty() || !found.gone.is_empty();
                    let changes = if is_news { vec![Change::Reset(found.instances)] } else { Vec::new() };
                    let mut event = Event::new(changes, None, Evidence::default());
                    event.rejected = found.rejected;
                    (Ok(event), Some((look, false)))
                }
                Err(error) => (Err(error), None),
            })
        };
        stream::unfold(session, next).boxed()
    }
}

/// Looks at one service again and again, decoding only what has changed since.
struct Look {
    directory: Directory,
    target: Target,
    last: Relist,
}

impl Look {
    fn new(directory: &Directory, target: &Target) -> Self {
        Self { directory: directory.clone(), target: target.clone(), last: Relist::new() }
    }

    async fn again(mut self, operation: &'static str) -> Result<(Self, Relisted), Error> {
        if let Some((key, _)) = self.target.qualifiers().iter().next() {
            // To ignore it would silently ask for more.
            let message = format!("a directory knows no qualifiers; the target has {key:?}");
            return Err(Error::new(ErrorKind::InvalidArgument, message).with_context(NAME, operation));
        }
        let look = move || {
            let service = self.target.service().clone();
            let files = self.directory.files(&service)?;
            let found = self.last.next(files.iter().map(Vec::as_slice), |file| decode(&service, file));
            Ok((self, found))
        };
        blocking(operation, look).await
    }
}

/// An instance, or the key of a record that is none.
fn decode(service: &ServiceName, file: &[u8]) -> Result<Instance, Option<InstanceKey>> {
    let end = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
    let (name, record) = (&file[..end], file.get(end + 1..).unwrap_or_default());
    decode_record(record).map_err(|_| {
        let name = percent_decode_str(std::str::from_utf8(name).ok()?).decode_utf8().ok()?;
        Some(InstanceKey::new(service.clone(), InstanceId::foreign(name).ok()?))
    })
}

fn parse(mut content: Vec<u8>) -> Option<Stored> {
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let record = content.split_off(end + 1);
    content.pop();
    Some(Stored { lease: String::from_utf8(content).ok()?, record })
}

/// A name that no file system takes for anything else.
fn file_name(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// What is in a directory; one that isn't there is empty.
fn entries(path: &Path) -> io::Result<Vec<fs::DirEntry>> {
    found(fs::read_dir(path))?.into_iter().flatten().collect()
}

/// What isn't there is an answer too.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Files block; the executor must not.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed(operation))
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::InvalidFilename => ErrorKind::InvalidArgument,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, "the directory can't be used").with_source(error).with_context(NAME, operation)
    }
}
