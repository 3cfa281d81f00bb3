//! This run's records as etcd itself has them, over its JSON gateway.
//!
//! Deleting other processes' records is nothing the library does, as nothing good would come of it; here it plays
//! the operator who slipped. The calls are `KV.Range` and `KV.DeleteRange`, see
//! <https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/>.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::Result;

/// How long etcd may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// All keys of one namespace.
pub(crate) struct Keys {
    http: reqwest::Client,
    gateway: String,
    begin: String,
    end: String,
}

impl Keys {
    /// The keys of `namespace` in the etcd at `server`.
    pub(crate) fn new(server: &str, namespace: &str) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?,
            gateway: format!("http://{server}/v3/kv"),
            begin: STANDARD.encode(format!("/{namespace}/")),
            // The byte after '/', so that the range holds just what begins with the prefix.
            end: STANDARD.encode(format!("/{namespace}0")),
        })
    }

    /// How many there are.
    pub(crate) async fn count(&self) -> Result<usize> {
        let range = json!({ "key": self.begin, "range_end": self.end, "count_only": true });
        self.ask("range", &range, "count").await
    }

    /// Deletes them; how many they were.
    pub(crate) async fn delete(&self) -> Result<usize> {
        let range = json!({ "key": self.begin, "range_end": self.end });
        self.ask("deleterange", &range, "deleted").await
    }

    async fn ask(&self, call: &str, request: &Value, field: &str) -> Result<usize> {
        let request = self.http.post(format!("{}/{call}", self.gateway)).body(request.to_string());
        let answer: Value = serde_json::from_str(&request.send().await?.error_for_status()?.text().await?)?;
        // The gateway writes 64-bit numbers as strings and leaves zeros out.
        Ok(answer[field].as_str().unwrap_or("0").parse()?)
    }
}
