//! A door in front of a server, or in front of none: it lets connections through, or answers HTTP itself as a server
//! does that is overloaded, closed or broken.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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

/// A listener on 127.0.0.1; ends when dropped.
#[derive(Debug)]
pub(crate) struct Front {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    asked: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl Front {
    pub(crate) async fn start(manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let manner = watch::Sender::new(manner);
        let asked = Arc::new(AtomicU64::new(0));
        let (manners, counted) = (manner.subscribe(), Arc::clone(&asked));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
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
        Ok(Self { address, manner, asked, accepting: accepting.abort_handle() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn turn(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// How many requests it has answered itself.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, asked: &AtomicU64) -> io::Result<()> {
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
            request(&mut stream).await?;
            asked.fetch_add(1, Ordering::Relaxed);
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
                request(&mut stream).await?;
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
        }
        Manner::Storm(indexes) => {
            let mut stream = BufReader::new(stream);
            for index in indexes.iter().cycle() {
                request(&mut stream).await?;
                asked.fetch_add(1, Ordering::Relaxed);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
                let answer = format!("{head}\r\nx-consul-index: {index}\r\ncontent-length: 2\r\n\r\n[]");
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        }
    }
}

/// Reads a request with its body, if it says how long that is.
async fn request(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
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
    stream.read_exact(&mut body).await.map(drop)
}
