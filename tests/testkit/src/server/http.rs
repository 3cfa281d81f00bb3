//! Just enough HTTP to ask a server whether it is ready.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What is read of an answer: its status line is all that counts.
const ANSWER: u64 = 16 * 1024;

/// The status code of `GET path`, with a bound of its own on the whole exchange: a server without quorum accepts
/// and never answers.
pub(crate) async fn status(address: SocketAddr, path: &str, within: Duration) -> io::Result<u16> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER).read_to_end(&mut answer).await?;
        let status = answer.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
    };
    timeout(within, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
}
