//! The instances of an application, see <https://github.com/Netflix/eureka/wiki/Eureka-REST-operations>.

use reqwest::Method;
use serde_json::Value;

use super::Api;
use crate::{Result, fleet::SERVICE};

/// The ids of the service's instances.
pub(super) async fn ids(api: &Api, namespace: &str) -> Result<Vec<String>> {
    let application = api.get(&path(namespace)).await?;
    let instances = application["application"]["instance"].as_array();
    let id = |instance: &Value| instance["instanceId"].as_str().map(str::to_owned);
    Ok(instances.into_iter().flatten().filter_map(id).collect())
}

pub(super) async fn delete(api: &Api, namespace: &str) -> Result<usize> {
    let ids = ids(api, namespace).await?;
    for id in &ids {
        api.ask(Method::DELETE, &format!("{}/{id}", path(namespace)), String::new()).await?;
    }
    Ok(ids.len())
}

fn path(namespace: &str) -> String {
    format!("/eureka/apps/{}", format!("{namespace}:{SERVICE}").to_ascii_uppercase())
}
