//! `nodes/proxy`: the kubelet's own server, or another port of the node.
//! Upstream: pkg/registry/core/node/strategy.go ResourceLocation.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;

use super::kubelet::{self, KubeletClient};
use super::proxy::{self, Backend, Secure};
use super::{ConnectRequest, Connector, pod, pod_proxy};
use crate::response::Answer;

struct NodeProxy(KubeletClient);

/// The connector of `nodes/proxy`.
pub fn new(client: KubeletClient) -> Arc<dyn Connector> {
    Arc::new(NodeProxy(client))
}

#[async_trait]
impl Connector for NodeProxy {
    async fn connect(&self, r: ConnectRequest) -> Result<Answer, ApiError> {
        let (scheme, name, port) = pod::split_id(&r.name)
            .ok_or_else(|| ApiError::bad_request(format!("invalid node request \"{}\"", r.name)))?;
        let node = pod::find(&*self.0.reads, "nodes", "", name)?;
        let own = kubelet::kubelet_port(&node);
        if port.is_empty() || port == own.to_string() {
            let backend = self.0.kubelet(name, true)?;
            return proxy::forward(&backend, r).await;
        }
        let host = kubelet::address(&node)?;
        if !pod_proxy::is_allowed(&host) {
            return Err(ApiError::bad_request("address not allowed"));
        }
        let port = port
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid node request \"{}\"", r.name)))?;
        let secure = (scheme == "https").then(|| Secure {
            config: self.0.pods.clone(),
            name: host.clone(),
        });
        proxy::forward(&Backend { host, port, secure }, r).await
    }
}
