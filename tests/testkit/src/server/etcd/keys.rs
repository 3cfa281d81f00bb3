//! What tests ask of `etcdctl`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::ctl::Etcdctl;
use crate::server::ServerError;

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdKey {
    /// Its name; bytes that are no UTF-8 are replaced.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// Its lease, 0 for none.
    pub lease: i64,
    /// The revision that made it.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
}

/// What one member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdStatus {
    /// The cluster's id: another one after a wipe.
    pub cluster: u64,
    /// The member's id.
    pub member: u64,
    /// The leader's id in its view, 0 for none.
    pub leader: u64,
    /// The raft term.
    pub term: u64,
    /// The revision of its store.
    pub revision: i64,
}

/// Every call fails when etcd refuses it or does not answer in time.
#[allow(clippy::missing_errors_doc, reason = "said once for all")]
impl Etcdctl {
    /// Writes a key; the value may be any bytes.
    pub async fn put(&self, key: &str, value: impl AsRef<[u8]> + Send) -> Result<(), ServerError> {
        self.run_with_input(&["put", "--", key], value.as_ref()).await.map(drop)
    }

    /// Writes a key that lives as long as `lease`.
    pub async fn put_leased(
        &self,
        key: &str,
        value: impl AsRef<[u8]> + Send,
        lease: i64,
    ) -> Result<(), ServerError> {
        let lease = format!("--lease={lease:x}");
        self.run_with_input(&["put", &lease, "--", key], value.as_ref()).await.map(drop)
    }

    /// The keys that start with `prefix`, with their values, sorted by name; all of them with `""`.
    pub async fn get_prefix(&self, prefix: &str) -> Result<Vec<EtcdKey>, ServerError> {
        let answer = self.json(&["get", "--prefix", "-w", "json", "--", prefix]).await?;
        let keys = answer["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
        keys.iter().map(|key| parse(key).ok_or_else(|| unexpected(&answer))).collect()
    }

    /// The names of the keys that start with `prefix`.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, ServerError> {
        Ok(self.get_prefix(prefix).await?.into_iter().map(|key| key.key).collect())
    }

    /// Deletes the keys that start with `prefix` and says how many there were.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, ServerError> {
        let answer = self.json(&["del", "--prefix", "-w", "json", "--", prefix]).await?;
        Ok(answer["deleted"].as_u64().unwrap_or(0))
    }

    /// The store's revision.
    pub async fn revision(&self) -> Result<i64, ServerError> {
        let answer = self.json(&["get", "-w", "json", "--limit=1", "--keys-only", "--", "a"]).await?;
        answer["header"]["revision"].as_i64().ok_or_else(|| unexpected(&answer))
    }

    /// Forgets all history before `revision`: watches from there on are cancelled as compacted.
    pub async fn compact(&self, revision: i64) -> Result<(), ServerError> {
        self.run(&["compact", "--physical", "--", &revision.to_string()]).await.map(drop)
    }

    /// Grants a lease of `seconds`, which etcd may raise.
    pub async fn grant_lease(&self, seconds: u32) -> Result<i64, ServerError> {
        let answer = self.json(&["lease", "grant", &seconds.to_string(), "-w", "json"]).await?;
        answer["ID"].as_i64().ok_or_else(|| unexpected(&answer))
    }

    /// The leases that live.
    pub async fn leases(&self) -> Result<Vec<i64>, ServerError> {
        let answer = self.json(&["lease", "list", "-w", "json"]).await?;
        let leases = answer["leases"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(leases.iter().filter_map(|lease| lease["id"].as_i64()).collect())
    }

    /// Ends a lease and deletes its keys, behind its owner's back.
    pub async fn revoke_lease(&self, lease: i64) -> Result<(), ServerError> {
        self.run(&["lease", "revoke", &format!("{lease:x}")]).await.map(drop)
    }

    /// Makes the member with this id the leader; has to be asked of the leader.
    pub async fn move_leader(&self, member: u64) -> Result<(), ServerError> {
        self.run(&["move-leader", &format!("{member:x}")]).await.map(drop)
    }

    /// What the first endpoint says of itself.
    pub async fn status(&self) -> Result<EtcdStatus, ServerError> {
        let answer = self.json(&["endpoint", "status", "-w", "json"]).await?;
        let status = &answer[0]["Status"];
        let header = &status["header"];
        let read = || {
            Some(EtcdStatus {
                cluster: header["cluster_id"].as_u64()?,
                member: header["member_id"].as_u64()?,
                leader: status["leader"].as_u64().unwrap_or(0),
                term: status["raftTerm"].as_u64()?,
                revision: header["revision"].as_i64()?,
            })
        };
        read().ok_or_else(|| unexpected(&answer))
    }

    async fn json(&self, args: &[&str]) -> Result<Value, ServerError> {
        let answer = self.run(args).await?;
        serde_json::from_str(&answer)
            .map_err(|error| ServerError::new("answer of etcdctl").with_source(error).with_output(answer))
    }
}

/// Go leaves out fields with their zero value.
fn parse(key: &Value) -> Option<EtcdKey> {
    let bytes = |field: &str| BASE64_STANDARD.decode(key[field].as_str().unwrap_or_default()).ok();
    Some(EtcdKey {
        key: String::from_utf8_lossy(&bytes("key")?).into_owned(),
        value: bytes("value")?,
        lease: key["lease"].as_i64().unwrap_or(0),
        create_revision: key["create_revision"].as_i64()?,
        mod_revision: key["mod_revision"].as_i64()?,
    })
}

fn unexpected(answer: &Value) -> ServerError {
    ServerError::new("answer of etcdctl lacks a field").with_output(answer.to_string())
}
