//! What an address speaks that closed a plain HTTP/2 connection without a word.
//!
//! A TLS server answers the HTTP/2 preface with an alert, an HTTP/1 server with a status line; the HTTP/2 library
//! reports either as one of several anonymous failures, whichever comes first. So it is asked once more, by hand,
//! as long as an endpoint has never answered anything.

use std::time::Duration;

use registry_core::ErrorKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::error::{Fault, Reaction};

/// RFC 9113, section 3.4, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PATIENCE: Duration = Duration::from_millis(300);

/// A better fault than `fault`, if the address gives one away.
pub(crate) async fn improve(authority: &str, fault: Fault) -> Fault {
    let message = match timeout(PATIENCE, first_bytes(authority)).await {
        // TLS records of alerts and handshakes (RFC 8446, section 5.1).
        Ok(Ok([0x15 | 0x16, 0x03, ..])) => "the address speaks TLS; use the scheme etcd+tls",
        Ok(Ok([b'H', b'T', b'T', b'P', b'/'])) => "the address speaks HTTP/1; is it etcd's client port?",
        _ => return fault,
    };
    Fault::new(ErrorKind::Protocol, Reaction::NextEndpoint, message)
}

async fn first_bytes(authority: &str) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect(authority).await?;
    stream.write_all(PREFACE).await?;
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
