//! `pods/portforward`: the client's upgraded connection is the kubelet's.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;

use super::kubelet::KubeletClient;
use super::options::QueryText;
use super::proxy;
use super::{ConnectRequest, Connector, pod};
use crate::response::Answer;

struct PortForward(KubeletClient);

/// The connector of `pods/portforward`.
pub fn new(client: KubeletClient) -> Arc<dyn Connector> {
    Arc::new(PortForward(client))
}

#[async_trait]
impl Connector for PortForward {
    async fn connect(&self, r: ConnectRequest) -> Result<Answer, ApiError> {
        let pod = pod::find(&*self.0.reads, "pods", &r.namespace, &r.name)?;
        let node = pod::node(&pod)?;
        let backend = self.0.kubelet(node, true)?;
        let mut target = format!("/portForward/{}/{}", r.namespace, r.name);
        let ports: Vec<&str> = r
            .query
            .all("ports")
            .chain(r.query.all("port"))
            .filter(|p| !p.is_empty())
            .collect();
        if !ports.is_empty() {
            let mut query = QueryText::default();
            query.pair("port", &ports.join(","));
            target = format!("{target}?{}", query.0);
        }
        proxy::upgrade(&backend, r, &target).await
    }
}
