//! A link to the registry that can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use crate::Result;

/// Forwards the connections it accepts; while it is cut, open ones end and new ones end at once.
pub(crate) struct Link {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    accepting: AbortHandle,
}

impl Link {
    /// A whole link to `server`.
    pub(crate) async fn open(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (whole, watched) = watch::channel(true);
        let server = server.to_owned();
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *watched.borrow() {
                    tokio::spawn(forward(near, server.clone(), watched.clone()));
                }
            }
        });
        Ok(Self { address, whole, accepting: accepting.abort_handle() })
    }

    /// Where to connect instead of to the server.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Mends it.
    pub(crate) fn restore(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Ends with either side, with a cut, or with the link.
async fn forward(mut near: TcpStream, server: String, mut whole: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
