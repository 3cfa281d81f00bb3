//! The smallest instance Eureka takes, and what its lists say of it.

use std::time::Duration;

use registry_testkit::{Eureka, eventually};
use serde_json::{Value, json};

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Registers an instance of the application with the same name, whose lease is `seconds` long.
pub(crate) async fn register(eureka: &Eureka, app: &str, id: &str, seconds: u32) {
    let body = json!({ "instance": {
        "instanceId": id, "hostName": id, "app": app, "vipAddress": app, "ipAddr": "10.0.0.1",
        "port": { "$": 8080, "@enabled": "true" },
        "status": "UP",
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn",
        },
        "leaseInfo": { "renewalIntervalInSecs": 1, "durationInSecs": seconds },
    } });
    let answer = eureka.api().post(&format!("/eureka/apps/{app}"), body.to_string()).await.unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// The ids in the full list.
pub(crate) async fn listed(eureka: &Eureka, app: &str) -> Vec<String> {
    let answer = eureka.api().get("/eureka/apps").await.unwrap().json();
    let applications = answer["applications"]["application"].as_array().cloned().unwrap_or_default();
    let instances = |application: &Value| application["instance"].as_array().cloned().unwrap_or_default();
    applications
        .iter()
        .filter(|application| application["name"].as_str() == Some(&app.to_uppercase()))
        .flat_map(instances)
        .filter_map(|instance| instance["instanceId"].as_str().map(str::to_owned))
        .collect()
}

pub(crate) async fn eventually_listed(eureka: &Eureka, app: &str, ids: &[&str]) {
    eventually("the list", LONG, async || (listed(eureka, app).await == ids).then_some(())).await.unwrap();
}
