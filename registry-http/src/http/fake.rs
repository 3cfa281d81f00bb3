//! A tiny HTTP server that answers as a test tells it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is done about a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status, headers and a body; the length is added.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, and the connection is closed.
    Raw(Vec<u8>),
    /// The connection is closed without an answer.
    Close,
    /// No answer, ever.
    Hang,
    /// As the inner one, but later.
    After(Duration, Box<Reply>),
    /// One after the other; the connection stays open.
    Parts(Vec<Reply>),
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer(200, Vec::new(), body.into())
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Answer(status, Vec::new(), body.into())
    }

    pub(crate) fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }
}

type Script = Arc<Mutex<dyn FnMut(&Seen) -> Reply + Send>>;

/// Runs until it is dropped.
pub(crate) struct Fake {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    #[cfg(any(feature = "eureka", feature = "nacos"))]
    most_open: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script: Script = Arc::new(Mutex::new(script));
        let mut task = JoinSet::new();
        let all = Arc::clone(&seen);
        let open = Open::default();
        #[cfg(any(feature = "eureka", feature = "nacos"))]
        let most_open = Arc::clone(&open.most);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&all), open.clone()));
            }
        });
        Self {
            address,
            seen,
            #[cfg(any(feature = "eureka", feature = "nacos"))]
            most_open,
            _task: task,
        }
    }

    /// Most requests that waited for their answers at the same time.
    #[cfg(any(feature = "eureka", feature = "nacos"))]
    pub(crate) fn most_open(&self) -> usize {
        self.most_open.load(Ordering::Relaxed)
    }

    /// All requests so far, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// How many requests wait for their answers, and how many have at most.
#[derive(Clone, Default)]
struct Open {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// A request that waits for its answer, until this is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Open {
    fn came(&self) -> Waiting {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Waiting(Arc::clone(&self.now))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An address where nobody listens.
pub(crate) async fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

async fn serve(mut stream: TcpStream, script: Script, all: Arc<Mutex<Vec<Seen>>>, open: Open) {
    while let Some(seen) = read(&mut stream).await {
        let _waiting = open.came();
        all.lock().unwrap().push(seen.clone());
        let reply = (script.lock().unwrap())(&seen);
        let parts = match reply {
            Reply::Parts(parts) => parts,
            reply => vec![reply],
        };
        let last = parts.len() - 1;
        for (at, part) in parts.into_iter().enumerate() {
            if !say(&mut stream, part, at == last).await {
                return;
            }
        }
    }
}

/// Says one part of an answer; whether the connection goes on.
async fn say(stream: &mut TcpStream, mut reply: Reply, is_last: bool) -> bool {
    while let Reply::After(time, then) = reply {
        tokio::time::sleep(time).await;
        reply = *then;
    }
    match reply {
        Reply::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).await.is_ok()
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).await.is_ok() && !is_last,
        Reply::Close => false,
        Reply::Hang | Reply::After(..) | Reply::Parts(_) => std::future::pending().await,
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { method, target, headers, body })
}
