//! `pods/proxy`: HTTP to a port of a pod. Upstream: pkg/registry/core/pod/strategy.go ResourceLocation.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{i64_at, list_at, str_at};
use serde_json::Value;

use super::kubelet::KubeletClient;
use super::proxy::{self, Backend, Secure};
use super::{ConnectRequest, Connector, pod};
use crate::response::Answer;

struct PodProxy(KubeletClient);

/// The connector of `pods/proxy`.
pub fn new(client: KubeletClient) -> Arc<dyn Connector> {
    Arc::new(PodProxy(client))
}

#[async_trait]
impl Connector for PodProxy {
    async fn connect(&self, r: ConnectRequest) -> Result<Answer, ApiError> {
        let (scheme, name, port) = pod::split_id(&r.name)
            .ok_or_else(|| ApiError::bad_request(format!("invalid pod request \"{}\"", r.name)))?;
        let object = pod::find(&*self.0.reads, "pods", &r.namespace, name)?;
        let ip = str_at(&object, "status.podIP");
        if !is_allowed(ip) {
            return Err(ApiError::bad_request("address not allowed"));
        }
        let secure = (scheme == "https").then(|| Secure {
            config: self.0.pods.clone(),
            name: ip.to_string(),
        });
        let backend = Backend {
            host: ip.to_string(),
            port: port_of(&object, port, scheme)?,
            secure,
        };
        proxy::forward(&backend, r).await
    }
}

/// Whether a proxy may lead to an address: no loopback, link-local, multicast or unspecified one.
pub fn is_allowed(ip: &str) -> bool {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(a)) => {
            !(a.is_loopback()
                || a.is_link_local()
                || a.is_multicast()
                || a.is_unspecified()
                || a.is_broadcast())
        }
        Ok(IpAddr::V6(a)) => {
            let link_local = a.segments()[0] & 0xffc0 == 0xfe80;
            !(a.is_loopback() || a.is_multicast() || a.is_unspecified() || link_local)
        }
        Err(_) => false,
    }
}

/// The port asked for, the first one that a container names, or the scheme's.
fn port_of(object: &Value, asked: &str, scheme: &str) -> Result<u16, ApiError> {
    if !asked.is_empty() {
        return asked.parse().map_err(|_| {
            ApiError::unavailable(format!(
                "error trying to reach service: unknown port \"{asked}\""
            ))
        });
    }
    let first = list_at(object, "spec.containers").iter().find_map(|c| {
        let ports = list_at(c, "ports");
        ports.first().and_then(|p| i64_at(p, "containerPort"))
    });
    let fallback = if scheme == "https" { 443 } else { 80 };
    Ok(u16::try_from(first.unwrap_or(fallback)).unwrap_or(80))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_addresses_are_proxied_to() {
        for (ip, allowed) in [
            ("10.1.2.3", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", true),
            ("", false),
        ] {
            assert_eq!(is_allowed(ip), allowed, "{ip}");
        }
    }
}
