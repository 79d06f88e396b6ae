//! Where a webhook is: its URL, and the addresses that serve it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use machinery::GroupResource;
use machinery::object::{at, i64_at, list_at, str_at};
use serde_json::Value;

use crate::Reads;

/// The label that ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HTTPS: u16 = 443;

/// One webhook's place.
#[derive(Debug, PartialEq)]
pub struct Place {
    /// As errors show it.
    pub url: String,
    /// The name that its certificate must have.
    pub host: String,
    pub port: u16,
    /// Host and port as the URL has them.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Namespace and name of the service, where it is one.
    service: Option<(String, String)>,
}

// === Place ===

impl Place {
    /// The place that a `clientConfig` names.
    pub fn of(config: &Value, timeout: Duration) -> Result<Self, String> {
        let (base, service) = match at(config, "service") {
            Some(service) => {
                let (namespace, name) = (str_at(service, "namespace"), str_at(service, "name"));
                let port = i64_at(service, "port").unwrap_or(i64::from(HTTPS));
                let path = str_at(service, "path");
                let base = format!("https://{name}.{namespace}.svc:{port}{path}");
                (base, Some((namespace.to_string(), name.to_string())))
            }
            None => (str_at(config, "url").to_string(), None),
        };
        let invalid = |e: &dyn std::fmt::Display| format!("invalid URL {base:?}: {e}");
        let uri: Uri = base.parse().map_err(|e| invalid(&e))?;
        let host = uri.host().ok_or_else(|| invalid(&"it has no host"))?;
        let path = if uri.path().is_empty() {
            "/"
        } else {
            uri.path()
        };
        let authority = uri.authority().map(|a| a.as_str()).unwrap_or(host);
        let target = format!("{path}?timeout={}s", timeout.as_secs());
        Ok(Self {
            url: format!("https://{authority}{target}"),
            host: host.trim_matches(['[', ']']).to_string(),
            port: uri.port_u16().unwrap_or(HTTPS),
            authority: authority.to_string(),
            target,
            service,
        })
    }

    /// Where connections go, best first.
    pub async fn addresses(&self, reads: &dyn Reads) -> Result<Vec<SocketAddr>, String> {
        let Some((namespace, name)) = &self.service else {
            return look_up(&self.host, self.port).await;
        };
        let get = |group, resource| reads.cache(&GroupResource::new(group, resource));
        let service = get("", "services").and_then(|c| c.get(namespace, name));
        let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
        let service = service.value().map_err(|e| e.to_string())?;
        if str_at(&service, "spec.type") == "ExternalName" {
            return look_up(str_at(&service, "spec.externalName"), self.port).await;
        }
        let port = port_name(&service, self.port)
            .ok_or_else(|| format!("no service port {} found for service {name:?}", self.port))?;
        let slices = get("discovery.k8s.io", "endpointslices");
        let slices = slices.map(|c| c.list(Some(namespace))).unwrap_or_default();
        let mut found = Vec::new();
        for slice in slices {
            let label = slice.labels.get(SERVICE_NAME);
            if label.is_some_and(|s| **s == **name) {
                let slice = slice.value().map_err(|e| e.to_string())?;
                found.extend(endpoints(&slice, &port));
            }
        }
        if found.is_empty() {
            return Err(format!("no endpoints available for service {name:?}"));
        }
        Ok(found)
    }
}

/// The name of a service's port.
fn port_name(service: &Value, port: u16) -> Option<String> {
    let mut ports = list_at(service, "spec.ports").iter();
    let found = ports.find(|p| i64_at(p, "port") == Some(i64::from(port)))?;
    Some(str_at(found, "name").to_string())
}

/// The ready endpoints of a slice at a named port.
fn endpoints(slice: &Value, port: &str) -> Vec<SocketAddr> {
    let mut ports = list_at(slice, "ports").iter();
    let Some(port) = ports
        .find(|p| str_at(p, "name") == port)
        .and_then(|p| i64_at(p, "port"))
        .and_then(|p| u16::try_from(p).ok())
    else {
        return Vec::new();
    };
    let ready = |e: &&Value| at(e, "conditions.ready") != Some(&Value::Bool(false));
    let all = list_at(slice, "endpoints").iter().filter(ready);
    all.flat_map(|e| list_at(e, "addresses"))
        .filter_map(|a| a.as_str()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// The addresses of a host, by the machine's own resolver settings.
async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if host == "localhost" {
        return Ok(vec![SocketAddr::new([127, 0, 0, 1].into(), port)]);
    }
    let failed = |e: &dyn std::fmt::Display| format!("dial tcp: lookup {host}: {e}");
    let resolver = hickory_resolver::TokioResolver::builder_tokio()
        .and_then(|b| b.build())
        .map_err(|e| failed(&e))?;
    let found = resolver.lookup_ip(host).await.map_err(|e| failed(&e))?;
    Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_of_services_and_urls() {
        let config =
            json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": "/a"}});
        let place = Place::of(&config, Duration::from_secs(1)).expect("a place");
        assert_eq!(place.url, "https://s.n.svc:8443/a?timeout=1s");
        assert_eq!((place.host.as_str(), place.port), ("s.n.svc", 8443));
        let config = json!({"service": {"namespace": "n", "name": "s", "path": ""}});
        let place = Place::of(&config, Duration::from_secs(10)).expect("a place");
        assert_eq!(place.url, "https://s.n.svc:443/?timeout=10s");
        let config = json!({"url": "https://[::1]:9/x"});
        let place = Place::of(&config, Duration::from_secs(10)).expect("a place");
        assert_eq!(place.url, "https://[::1]:9/x?timeout=10s");
        assert_eq!((place.host.as_str(), place.port), ("::1", 9));
        assert!(Place::of(&json!({"url": "https://"}), Duration::ZERO).is_err());
    }

    #[test]
    fn only_ready_endpoints_of_the_port_count() {
        let slice = json!({"ports": [{"name": "a", "port": 8080}], "endpoints": [
            {"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]});
        assert_eq!(endpoints(&slice, "a"), [([10, 0, 0, 1], 8080).into()]);
        assert_eq!(endpoints(&slice, ""), []);
        let service = json!({"spec": {"ports": [{"name": "a", "port": 80}, {"port": 81}]}});
        assert_eq!(port_name(&service, 80).as_deref(), Some("a"));
        assert_eq!(port_name(&service, 81).as_deref(), Some(""));
        assert_eq!(port_name(&service, 82), None);
    }
}
