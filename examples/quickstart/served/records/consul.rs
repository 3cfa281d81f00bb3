//! Services of one agent, see <https://developer.hashicorp.com/consul/api-docs/agent/service>.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;

use super::Api;
use crate::{Result, fleet::SERVICE};

/// The ids of the service's instances.
pub(super) async fn ids(api: &Api, namespace: &str) -> Result<Vec<String>> {
    let name = format!("{namespace}/{SERVICE}");
    let services = api.get("/v1/agent/services").await?;
    let services = services.as_object().into_iter().flatten();
    Ok(services.filter(|(_, service)| service["Service"] == *name).map(|(id, _)| id.clone()).collect())
}

pub(super) async fn delete(api: &Api, namespace: &str) -> Result<usize> {
    let ids = ids(api, namespace).await?;
    for id in &ids {
        let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
        api.ask(Method::PUT, &format!("/v1/agent/service/deregister/{id}"), String::new()).await?;
    }
    Ok(ids.len())
}
