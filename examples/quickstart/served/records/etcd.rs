//! Keys, over etcd's JSON gateway: `KV.Range` and `KV.DeleteRange`, see
//! <https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/>.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use super::Api;
use crate::Result;

pub(super) async fn count(api: &Api, namespace: &str) -> Result<usize> {
    let mut range = range(namespace);
    range["count_only"] = true.into();
    number(&api.ask(Method::POST, "/v3/kv/range", range.to_string()).await?["count"])
}

pub(super) async fn delete(api: &Api, namespace: &str) -> Result<usize> {
    let answer = api.ask(Method::POST, "/v3/kv/deleterange", range(namespace).to_string()).await?;
    number(&answer["deleted"])
}

fn range(namespace: &str) -> Value {
    // The byte after '/', so that the range holds just what begins with the prefix.
    let (begin, end) = (format!("/{namespace}/"), format!("/{namespace}0"));
    json!({ "key": STANDARD.encode(begin), "range_end": STANDARD.encode(end) })
}

/// The gateway writes 64-bit numbers as strings and leaves zeros out.
fn number(value: &Value) -> Result<usize> {
    Ok(value.as_str().unwrap_or("0").parse()?)
}
