//! `services/proxy`: HTTP to a ready endpoint of a service.
//! Upstream: pkg/registry/core/service/storage ResourceLocation.

use std::sync::Arc;

use async_trait::async_trait;
use client::Entry;
use machinery::ApiError;
use machinery::object::{at, i64_at, list_at, str_at};
use rand::Rng;
use serde_json::Value;

use super::kubelet::KubeletClient;
use super::proxy::{self, Backend, Secure};
use super::{ConnectRequest, Connector, pod, pod_proxy};
use crate::response::Answer;

/// The label that ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

struct ServiceProxy(KubeletClient);

/// The connector of `services/proxy`.
pub fn new(client: KubeletClient) -> Arc<dyn Connector> {
    Arc::new(ServiceProxy(client))
}

#[async_trait]
impl Connector for ServiceProxy {
    async fn connect(&self, r: ConnectRequest) -> Result<Answer, ApiError> {
        let (scheme, name, port) = pod::split_id(&r.name).ok_or_else(|| {
            ApiError::bad_request(format!("invalid service request \"{}\"", r.name))
        })?;
        let reads = &*self.0.reads;
        let service = pod::find(reads, "services", &r.namespace, name)?;
        let port_name = port_name(&service, name, port)?;
        let slices = pod::list(reads, "discovery.k8s.io", "endpointslices", &r.namespace);
        let mut ready = Vec::new();
        for slice in slices.iter().filter(|s| belongs(s, name)) {
            let slice = slice.value().map_err(ApiError::internal)?;
            ready.extend(endpoints(&slice, &port_name));
        }
        if ready.is_empty() {
            return Err(ApiError::unavailable(format!(
                "no endpoints available for service \"{}\"",
                r.name
            )));
        }
        let (host, port) = ready.swap_remove(rand::rng().random_range(0..ready.len()));
        let secure = (scheme == "https").then(|| Secure {
            config: self.0.pods.clone(),
            name: host.clone(),
        });
        proxy::forward(&Backend { host, port, secure }, r).await
    }
}

fn belongs(slice: &Entry, service: &str) -> bool {
    slice
        .labels
        .get(SERVICE_NAME)
        .is_some_and(|s| &**s == service)
}

/// The name of the port that is meant: a number is looked up in the service.
fn port_name(service: &Value, name: &str, asked: &str) -> Result<String, ApiError> {
    let Ok(number) = asked.parse::<i64>() else {
        return Ok(asked.to_string());
    };
    let ports = list_at(service, "spec.ports").iter();
    let mut found = ports.filter(|p| i64_at(p, "port") == Some(number));
    found
        .next()
        .map(|p| str_at(p, "name").to_string())
        .ok_or_else(|| {
            ApiError::unavailable(format!(
                "no service port {number} found for service \"{name}\""
            ))
        })
}

/// Addresses of a slice's ready endpoints at a named port.
fn endpoints(slice: &Value, port_name: &str) -> Vec<(String, u16)> {
    let ports = list_at(slice, "ports").iter();
    let mut named = ports.filter(|p| str_at(p, "name") == port_name);
    let Some(port) = named
        .find_map(|p| i64_at(p, "port"))
        .and_then(|p| u16::try_from(p).ok())
    else {
        return Vec::new();
    };
    let ready = |e: &&Value| at(e, "conditions.ready") != Some(&Value::Bool(false));
    list_at(slice, "endpoints")
        .iter()
        .filter(ready)
        .flat_map(|e| list_at(e, "addresses"))
        .filter_map(Value::as_str)
        .filter(|a| pod_proxy::is_allowed(a))
        .map(|a| (a.to_string(), port))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_and_ready_endpoints_are_found() {
        let service = json!({"spec": {"ports": [{"name": "a", "port": 80}, {"port": 81}]}});
        assert_eq!(port_name(&service, "s", "80").unwrap(), "a");
        assert_eq!(port_name(&service, "s", "b").unwrap(), "b");
        assert_eq!(
            port_name(&service, "s", "82").unwrap_err().message,
            "no service port 82 found for service \"s\""
        );
        let slice = json!({"ports": [{"name": "a", "port": 8080}], "endpoints": [
            {"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]});
        assert_eq!(endpoints(&slice, "a"), [("10.0.0.1".to_string(), 8080)]);
        assert_eq!(endpoints(&slice, ""), []);
    }
}
