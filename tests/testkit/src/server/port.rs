//! Free loopback ports that stay ours while their server is down.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpSocket;

/// A port of 127.0.0.1 for one server.
///
/// While the server is down the port is held by a socket that is bound and does not listen: connections are
/// refused as they should be, no other process gets the port, and a client that keeps dialling can't end up
/// connected to itself (it would, sooner or later, as free ports come from the range clients dial from).
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    held: Mutex<Option<TcpSocket>>,
}

impl Port {
    /// Takes a free port and holds it.
    ///
    /// # Errors
    ///
    /// When the system has none.
    pub fn reserve() -> io::Result<Self> {
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: socket.local_addr()?, held: Mutex::new(Some(socket)) })
    }

    /// Takes a free port and those at `offsets` from it: some servers derive their other ports from the first.
    ///
    /// # Errors
    ///
    /// When the system has no such set.
    pub fn reserve_family(offsets: &[i16]) -> io::Result<Vec<Self>> {
        const ATTEMPTS: u32 = 100;
        let mut attempt = 1;
        loop {
            let first = Self::reserve()?;
            let number = first.address.port();
            let relatives = offsets.iter().map(|offset| {
                let port = number.checked_add_signed(*offset).ok_or(io::ErrorKind::AddrNotAvailable)?;
                let address = (Ipv4Addr::LOCALHOST, port).into();
                Ok(Self { address, held: Mutex::new(Some(bind(address)?)) })
            });
            match relatives.collect::<io::Result<Vec<_>>>() {
                Ok(relatives) => return Ok(std::iter::once(first).chain(relatives).collect()),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// The address with the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Frees the port for its server, just before its start.
    pub fn release(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Holds the port again after the end of its server.
    ///
    /// # Errors
    ///
    /// When somebody else was faster, or the server still listens.
    pub fn hold(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = Some(bind(self.address)?);
        }
        Ok(())
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // The dead server's last connections may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
