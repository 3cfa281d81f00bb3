//! Pushes over UDP: packets, and the socket that they come to.
//!
//! A server sends a packet for each change of a service to whoever named a port in a list of v1, for as long as those
//! lists are repeated, and once more after 10 s without an acknowledgement. A packet is a hint here: anybody can send
//! one, and a list of more than 64 KiB can't be sent at all. It wakes the watch of its service, which then fetches the
//! list; what the packet says of instances isn't used.
//!
//! Packets are JSON, gzipped from 1 KiB: `{"type":"dom","data":"<ServiceInfo as text>","lastRefTime":1}`.
//! Source: alibaba/nacos `UdpPushService`, `PushReceiver` of the 1.x client; seen on 2.5.0 and 3.1.0.

use std::{
    collections::HashMap,
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use flate2::read::GzDecoder;
use http::{HeaderValue, header::USER_AGENT};
use serde::Deserialize;
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout},
};
use tracing::Instrument;

use crate::http::Call;

/// Servers push to clients that they know only; what this one could do, ours can.
const KNOWN_CLIENT: HeaderValue = HeaderValue::from_static("Nacos-Go-Client:v1.0.0");
/// Longest packet, once decompressed. What is longer is some bomb: 64 KiB of gzip may hold 64 MiB.
const MAX_PACKET: u64 = 4 * 1024 * 1024;
const MAX_DATAGRAM: usize = 64 * 1024;
/// How long a watch waits for the socket, for which a name may have to be resolved. Lists matter more.
const WITHIN: Duration = Duration::from_secs(1);
/// How soon a socket is tried again that couldn't be had in that time.
const AGAIN: Duration = Duration::from_secs(60);

/// Where a server shall push to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
}

impl Subscription {
    pub(crate) fn announce(self, call: Call) -> Call {
        call.header(USER_AGENT, KNOWN_CLIENT)
    }
}

/// A packet that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// `group@@service`, if it is about one.
    pub(crate) service: Option<String>,
    /// The server's clock, in nanoseconds; the same in a repetition.
    stamp: i64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Change,
    Dump,
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    r#type: Option<String>,
    data: Option<String>,
    last_ref_time: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: Option<String>,
    group_name: Option<String>,
}

impl Packet {
    /// What a datagram says; `None` for one that isn't a server's.
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let mut plain = Vec::new();
        let bytes = if datagram.starts_with(&[0x1f, 0x8b]) {
            let mut decoder = GzDecoder::new(datagram).take(MAX_PACKET + 1);
            decoder.read_to_end(&mut plain).ok()?;
            if plain.len() as u64 > MAX_PACKET {
                return None;
            }
            &plain
        } else {
            datagram
        };
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        let kind = match wire.r#type?.as_str() {
            "dom" | "service" => Kind::Change,
            "dump" => Kind::Dump,
            _ => Kind::Unknown,
        };
        let named = wire.data.filter(|_| kind == Kind::Change);
        let named = named.and_then(|data| serde_json::from_str::<Named>(&data).ok());
        let service = named.and_then(|Named { name, group_name }| {
            let name = name?;
            match group_name {
                Some(group) if !name.contains("@@") => Some(format!("{group}@@{name}")),
                _ => Some(name),
            }
        });
        Some(Self { service, stamp: wire.last_ref_time?, kind })
    }

    /// What its sender waits for.
    pub(crate) fn acknowledgement(&self) -> String {
        let kind = match self.kind {
            Kind::Change => "push-ack",
            Kind::Dump => "dump-ack",
            Kind::Unknown => "unknown-ack",
        };
        format!(r#"{{"type":"{kind}","lastRefTime":"{}","data":""}}"#, self.stamp)
    }
}

/// The socket, opened for the first watch, and who is woken. Dropping it closes the socket.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    topics: Arc<Topics>,
    /// A gate as well: one opens it, the others wait.
    socket: tokio::sync::Mutex<Socket>,
}

#[derive(Debug, Default)]
struct Socket {
    open: Option<Open>,
    /// Not to be tried before.
    put_off: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    subscription: Subscription,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// By `group@@service`. A channel holds one value, so a watch that is busy misses nothing but repetitions.
#[derive(Debug, Default)]
struct Topics(Mutex<HashMap<String, Topic>>);

#[derive(Debug)]
struct Topic {
    wake: watch::Sender<i64>,
    last: i64,
}

impl Pushes {
    /// Where to have pushes sent, by way of `server`; `None` if no socket can be had, after a second at the latest.
    ///
    /// # Cancel safety
    /// One that is dropped while it opens the socket puts that off for a minute.
    pub(crate) async fn subscription(&self, server: &str, ip: Option<IpAddr>) -> Option<Subscription> {
        timeout(WITHIN, self.opened(server, ip)).await.ok().flatten()
    }

    async fn opened(&self, server: &str, ip: Option<IpAddr>) -> Option<Subscription> {
        let mut socket = self.socket.lock().await;
        // The runtime that the task ran on may have ended.
        if let Some(open) = socket.open.as_ref().filter(|open| !open.task.is_finished()) {
            return Some(open.subscription);
        }
        let now = Instant::now();
        if socket.put_off.is_some_and(|until| now < until) {
            return None;
        }
        // Also if nobody waits for it any more: the next one would wait as long.
        socket.put_off = Some(now + AGAIN);
        let opened = self.listen(server, ip).await;
        socket.open = opened
            .inspect_err(|error| tracing::debug!(%error, "no socket for pushes; the list is polled only"))
            .ok();
        let subscription = socket.open.as_ref().map(|open| open.subscription)?;
        socket.put_off = None;
        Some(subscription)
    }

    /// Wakes with each push about the service that is news.
    pub(crate) fn changes(&self, service: &str) -> watch::Receiver<i64> {
        let mut topics = self.topics.lock();
        topics.retain(|_, topic| topic.wake.receiver_count() > 0);
        match topics.get(service) {
            Some(topic) => topic.wake.subscribe(),
            None => {
                let (wake, changes) = watch::channel(0);
                topics.insert(service.to_owned(), Topic { wake, last: 0 });
                changes
            }
        }
    }

    async fn listen(&self, server: &str, ip: Option<IpAddr>) -> std::io::Result<Open> {
        let local = route(server).await?;
        let any: IpAddr =
            if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        let subscription = Subscription { ip: ip.unwrap_or(local), port: socket.local_addr()?.port() };
        let span = tracing::info_span!("nacos_pushes", port = subscription.port);
        let task = tokio::spawn(receive(socket, Arc::downgrade(&self.topics)).instrument(span));
        Ok(Open { subscription, task: task.abort_handle() })
    }
}

impl Topics {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Topic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, packet: &Packet) {
        let mut topics = self.lock();
        let topic = packet.service.as_ref().and_then(|service| topics.get_mut(service));
        if let Some(topic) = topic.filter(|topic| topic.last != packet.stamp) {
            topic.last = packet.stamp;
            // Nobody watching any more is no failure.
            topic.wake.send_replace(packet.stamp);
        }
    }
}

/// The address that packets to `server` leave from.
async fn route(server: &str) -> std::io::Result<IpAddr> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(server).await?.collect();
    let Some(remote) = addresses.first() else {
        return Err(std::io::Error::other("the server's name has no address"));
    };
    let any: IpAddr =
        if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let probe = UdpSocket::bind((any, 0)).await?;
    probe.connect(remote).await?;
    Ok(probe.local_addr()?.ip())
}

/// Acknowledges and hands on, until the topics are dropped.
async fn receive(socket: UdpSocket, topics: Weak<Topics>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let (length, sender) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An earlier acknowledgement may have come back as unreachable; but never spin.
                tracing::debug!(%error, "receiving a push failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(packet) = Packet::parse(&buffer[..length]) else {
            tracing::debug!(%sender, length, "a packet that is no push");
            continue;
        };
        let Some(topics) = topics.upgrade() else { return };
        topics.wake(&packet);
        if let Err(error) = socket.send_to(packet.acknowledgement().as_bytes(), sender).await {
            tracing::debug!(%error, "acknowledging a push failed");
        }
    }
}

#[cfg(test)]
mod tests;
