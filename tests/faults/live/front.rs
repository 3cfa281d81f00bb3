//! A door in front of a server, or in front of none: it lets connections through, or answers HTTP itself as a server
//! does that is overloaded, closed or broken.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// What a door does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// To the server.
    Open(SocketAddr),
    /// Accepts, reads, and never says a word.
    Silent,
    /// Begins an answer of 100 MiB to each request, 200 bytes at a time.
    Endless,
    /// Answers each request with a status, and headers if there are any, each with its line end.
    Says(u16, String),
    /// Answers each request at once with an empty list, and the next of these as Consul's index.
    Storm(&'static [u64]),
}

/// How often which path was asked for, without its query.
#[derive(Debug, Default)]
struct Asked(Mutex<BTreeMap<String, u64>>);

impl Asked {
    fn note(&self, path: &str) {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        *self.0.lock().unwrap().entry(path).or_default() += 1;
    }
}

/// A listener on 127.0.0.1; ends when dropped.
#[derive(Debug)]
pub(crate) struct Front {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    asked: Arc<Asked>,
    met: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

impl Front {
    pub(crate) async fn start(manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let manner = watch::Sender::new(manner);
        let asked = Arc::new(Asked::default());
        let met = Arc::new(AtomicUsize::new(0));
        let (manners, counted, came) = (manner.subscribe(), Arc::clone(&asked), Arc::clone(&met));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                came.fetch_add(1, Ordering::Relaxed);
                let (mut manners, counted) = (manners.clone(), Arc::clone(&counted));
                connections.spawn(async move {
                    let manner = manners.borrow_and_update().clone();
                    tokio::select! {
                        // Whoever came in under another manner is thrown out.
                        _ = manners.changed() => {}
                        _ = serve(stream, manner, &counted) => {}
                    }
                });
            }
        });
        Ok(Self { address, manner, asked, met, accepting: accepting.abort_handle() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn turn(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// How many connections came.
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }

    /// How many requests it has answered itself.
    pub(crate) fn asked(&self) -> u64 {
        self.paths().values().sum()
    }

    /// Which they were.
    pub(crate) fn paths(&self) -> BTreeMap<String, u64> {
        self.asked.0.lock().unwrap().clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, asked: &Asked) -> io::Result<()> {
    match manner {
        Manner::Open(server) => {
            let mut server = TcpStream::connect(server).await?;
            copy_bidirectional(&mut stream, &mut server).await.map(drop)
        }
        Manner::Silent => {
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await? > 0 {}
            Ok(())
        }
        Manner::Endless => {
            let mut stream = BufReader::new(stream);
            asked.note(&request(&mut stream).await?);
            let head =
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 104857600\r\n\r\n{";
            stream.write_all(head).await?;
            loop {
                stream.write_all(&[b' '; 200]).await?;
                sleep(Duration::from_millis(20)).await;
            }
        }
        Manner::Says(status, headers) => {
            let mut stream = BufReader::new(stream);
            loop {
                asked.note(&request(&mut stream).await?);
                let answer = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
        }
        Manner::Storm(indexes) => {
            let mut stream = BufReader::new(stream);
            for index in indexes.iter().cycle() {
                asked.note(&request(&mut stream).await?);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
                let answer = format!("{head}\r\nx-consul-index: {index}\r\ncontent-length: 2\r\n\r\n[]");
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        }
    }
}

/// Reads a request with its body, if it says how long that is, and gives its target.
async fn request(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let (mut target, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if target.is_empty() {
            target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(target)
}
