//! A door to a server that lets everything through and writes down who asked what, when, and with which answer.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

/// A request of HTTP/1.1.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// Path and query.
    pub(crate) target: String,
    /// Of the answer, once there is one.
    pub(crate) status: Option<u16>,
}

type Log = Arc<Mutex<Vec<Arrival>>>;

/// A listener on 127.0.0.1; ends when dropped.
#[derive(Debug)]
pub(crate) struct Counter {
    address: SocketAddr,
    log: Log,
    accepting: AbortHandle,
}

impl Counter {
    pub(crate) async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let log = Log::default();
        let writing = Arc::clone(&log);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let log = Arc::clone(&writing);
                connections.spawn(async move {
                    let server = TcpStream::connect(server).await?;
                    carry(client, server, &log).await
                });
            }
        });
        Ok(Self { address, log, accepting: accepting.abort_handle() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything since `since`.
    pub(crate) fn arrivals(&self, since: Instant) -> Vec<Arrival> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|arrival| arrival.at >= since).cloned().collect()
    }

    /// Whether a request since then has got what it asked for.
    pub(crate) fn is_answered(&self, since: Instant) -> bool {
        let log = self.log.lock().unwrap();
        log.iter().rev().take_while(|arrival| arrival.at >= since).any(|arrival| arrival.status == Some(200))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, log: &Log) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // The request that waits for its answer: a client asks one thing at a time.
    let waiting = Mutex::new(None);
    tokio::select! {
        ended = ask(BufReader::new(from_client), to_server, log, &waiting) => ended,
        ended = answer(from_server, to_client, log, &waiting) => ended,
    }
}

type Waiting = Mutex<Option<usize>>;

async fn ask(
    mut from: BufReader<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    log: &Log,
    waiting: &Waiting,
) -> io::Result<()> {
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            if from.read_line(&mut head).await? == 0 {
                return Ok(());
            }
            let line = head[start..].trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        {
            let mut log = log.lock().unwrap();
            *waiting.lock().unwrap() = Some(log.len());
            log.push(Arrival { at: Instant::now(), target, status: None });
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        to.write_all(&[head.as_bytes(), &body].concat()).await?;
    }
}

async fn answer(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    log: &Log,
    waiting: &Waiting,
) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        // `HTTP/1.1 200 OK`, which comes in one piece.
        let status = std::str::from_utf8(piece.get(9..12).unwrap_or_default()).ok();
        if let Some(asked) = waiting.lock().unwrap().take() {
            log.lock().unwrap()[asked].status = status.and_then(|status| status.parse().ok());
        }
        to.write_all(&piece[..read]).await?;
    }
}
