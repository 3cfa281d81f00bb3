//! What an address speaks that closed a plain HTTP/2 connection without a word.
//!
//! An HTTP/1 server answers the HTTP/2 preface with a status line, a TLS server with an alert or, as etcd, not at
//! all; the HTTP/2 library reports each as one of several anonymous failures, whichever comes first. So it is asked
//! once more, by hand, as long as an endpoint has never answered anything.

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
/// A TLS handshake record with a ClientHello that is cut short (RFC 8446, sections 4.1.2 and 5.1): only a TLS server
/// answers it, with an alert.
const HELLO: &[u8] = &[0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x00];
const PATIENCE: Duration = Duration::from_millis(200);

/// A better fault than `fault`, if the address gives one away.
pub(crate) async fn improve(authority: &str, fault: Fault) -> Fault {
    let message = match (first_bytes(authority, PREFACE).await, first_bytes(authority, HELLO).await) {
        (Some([b'H', b'T', b'T', b'P', b'/']), _) => "the address speaks HTTP/1; is it etcd's client port?",
        (Some([0x15, 0x03, ..]), _) | (_, Some([0x15, 0x03, ..])) => {
            "the address speaks TLS; use the scheme etcd+tls"
        }
        _ => return fault,
    };
    Fault::new(ErrorKind::Protocol, Reaction::NextEndpoint, message)
}

async fn first_bytes(authority: &str, greeting: &[u8]) -> Option<[u8; 5]> {
    let exchange = async {
        let mut stream = TcpStream::connect(authority).await?;
        stream.write_all(greeting).await?;
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.map(|_| bytes)
    };
    timeout(PATIENCE, exchange).await.ok()?.ok()
}
