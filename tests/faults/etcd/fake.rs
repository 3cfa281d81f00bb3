//! Servers that misbehave below the protocol.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// What a fake does with a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Accepts, reads, and never says a word.
    Silent,
    /// Begins an answer to each gRPC call that never ends: a message of 100 MiB, 200 bytes at a time.
    Endless,
    /// Answers as a web server does.
    Web,
}

/// A listener on 127.0.0.1; ends when dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Fake {
    pub(crate) async fn start(manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move { serve(stream, manner).await });
            }
        });
        Ok(Self { address, accepting: accepting.abort_handle() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, manner: Manner) -> io::Result<()> {
    match manner {
        Manner::Silent => {
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await? > 0 {}
            Ok(())
        }
        Manner::Web => stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await,
        Manner::Endless => endless(stream).await,
    }
}

/// Frames of RFC 9113, section 4.1; types and flags of section 6.
async fn endless(mut stream: TcpStream) -> io::Result<()> {
    const PREFACE: usize = 24;
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_HEADERS: u8 = 4;
    stream.read_exact(&mut [0; PREFACE]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let stream_id = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await?;
        match head[3] {
            HEADERS => break u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            SETTINGS if head[4] == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
            _ => {}
        }
    };
    // `:status 200` of the static table, and a content type as a literal without index (RFC 7541, section 6).
    let mut headers = vec![0x88, 0x0f, 0x10, 16];
    headers.extend_from_slice(b"application/grpc");
    stream.write_all(&frame(HEADERS, END_HEADERS, stream_id, &headers)).await?;
    // A gRPC message: not compressed, 100 MiB.
    stream.write_all(&frame(0, 0, stream_id, &[0, 0x06, 0x40, 0, 0])).await?;
    loop {
        stream.write_all(&frame(0, 0, stream_id, &[0; 200])).await?;
        sleep(Duration::from_millis(20)).await;
    }
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short frame").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}
