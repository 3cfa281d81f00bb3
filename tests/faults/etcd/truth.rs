//! What etcd really holds, asked past every fault and without the client under test.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use etcd_client::{Client, ConnectOptions, GetOptions};
use registry_testkit::{
    Etcd, EtcdCluster, Etcdctl,
    faults::{Records, records},
};
use service_registry::Instance;
use tokio::{sync::Mutex, time::timeout};

use crate::live::truth::Ask;

/// The namespace of all stories.
pub(crate) const PREFIX: &str = "/stories/";
/// For one question to one member.
const ANSWER: Duration = Duration::from_millis(800);

/// Asks etcd for the records that stand there under leases that live.
#[derive(Clone)]
pub(crate) struct Truth(Arc<Way>);

enum Way {
    /// Over connections of its own, one per member; the first that answers is right, as reads are linearizable.
    Direct { members: Vec<SocketAddr>, root: bool, client: Mutex<Option<(usize, Box<Client>)>> },
    /// Where TLS is needed.
    Ctl(Etcdctl),
}

impl Truth {
    pub(crate) fn of(etcd: &Etcd) -> Self {
        Self::at(etcd.address())
    }

    pub(crate) fn at(server: SocketAddr) -> Self {
        Self::direct(vec![server], false)
    }

    pub(crate) fn of_guarded(etcd: &Etcd) -> Self {
        Self::direct(vec![etcd.address()], true)
    }

    pub(crate) fn of_cluster(cluster: &EtcdCluster) -> Self {
        Self::direct(cluster.nodes().iter().map(Etcd::address).collect(), false)
    }

    pub(crate) fn by(ctl: Etcdctl) -> Self {
        Self(Arc::new(Way::Ctl(ctl)))
    }

    fn direct(members: Vec<SocketAddr>, root: bool) -> Self {
        Self(Arc::new(Way::Direct { members, root, client: Mutex::default() }))
    }

    /// The records; `None` if etcd doesn't answer.
    pub(crate) async fn ask(self) -> Option<Records> {
        match &*self.0 {
            Way::Direct { members, root, client } => {
                // Only the recorder and a row's own look share it.
                let mut client = client.lock().await;
                let start = client.as_ref().map_or(0, |(member, _)| *member);
                for member in (0..members.len()).map(|step| (start + step) % members.len()) {
                    let known = client.take().filter(|(of, _)| *of == member);
                    let answer = async {
                        let mut asked = match known {
                            Some((_, known)) => known,
                            None => Box::new(connect(members[member], *root).await?),
                        };
                        let records = read(&mut asked).await?;
                        Ok::<_, etcd_client::Error>((asked, records))
                    };
                    if let Ok(Ok((asked, records))) = timeout(ANSWER, answer).await {
                        *client = Some((member, asked));
                        return Some(records);
                    }
                }
                None
            }
            Way::Ctl(ctl) => {
                let keys = ctl.get_prefix(PREFIX).await.ok()?;
                let leases: HashSet<i64> = ctl.leases().await.ok()?.into_iter().collect();
                let living = keys.iter().filter(|key| leases.contains(&key.lease));
                Some(decode(living.map(|key| key.value.as_slice())))
            }
        }
    }
}

impl From<Truth> for Ask {
    fn from(truth: Truth) -> Self {
        Self::new(move || truth.clone().ask())
    }
}

async fn connect(member: SocketAddr, root: bool) -> Result<Client, etcd_client::Error> {
    let (name, password) = Etcdctl::ROOT;
    let options = root.then(|| ConnectOptions::new().with_user(name, password));
    Client::connect([member.to_string()], options).await
}

async fn read(client: &mut Client) -> Result<Records, etcd_client::Error> {
    let keys = client.get(PREFIX, Some(GetOptions::new().with_prefix())).await?;
    let leases = client.leases().await?;
    let leases: HashSet<i64> = leases.leases().iter().map(|lease| lease.id()).collect();
    let living = keys.kvs().iter().filter(|key| leases.contains(&key.lease()));
    Ok(decode(living.map(|key| key.value())))
}

/// What can't be read is nobody's.
fn decode<'a>(values: impl Iterator<Item = &'a [u8]>) -> Records {
    let instances: Vec<Arc<Instance>> =
        values.filter_map(|value| registry_core::model::decode_record(value).ok()).map(Arc::new).collect();
    records(&instances)
}
