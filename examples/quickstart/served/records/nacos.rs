//! The instances of a service, which are their addresses, see <https://nacos.io/docs/v2/guide/user/open-api/>.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::sleep;

use super::Api;
use crate::{Result, fleet::SERVICE};

/// The addresses of the service's instances, as the API takes them.
pub(super) async fn addresses(api: &Api, namespace: &str) -> Result<Vec<String>> {
    let list =
        api.get(&format!("/nacos/v1/ns/instance/list?serviceName={SERVICE}&namespaceId={namespace}")).await?;
    let address = |host: &Value| Some(format!("ip={}&port={}", host["ip"].as_str()?, host["port"]));
    Ok(list["hosts"].as_array().into_iter().flatten().filter_map(address).collect())
}

pub(super) async fn delete(api: &Api, namespace: &str) -> Result<usize> {
    let addresses = addresses(api, namespace).await?;
    for address in &addresses {
        let path = format!(
            "/nacos/v1/ns/instance?serviceName={SERVICE}&namespaceId={namespace}&{address}&ephemeral=true"
        );
        api.ask(Method::DELETE, &path, String::new()).await?;
    }
    // Lists show it up to a second later: who counted sooner would count what was.
    sleep(Duration::from_secs(1)).await;
    Ok(addresses.len())
}
