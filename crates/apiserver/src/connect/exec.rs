//! `pods/exec` and `pods/attach`: the client's upgraded connection is the kubelet's.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;

use super::kubelet::KubeletClient;
use super::options::PodExecOptions;
use super::proxy;
use super::{ConnectRequest, Connector, pod};
use crate::response::Answer;

struct Exec {
    client: KubeletClient,
    /// First part of the kubelet's path.
    path: &'static str,
}

/// The connector of `pods/exec`.
pub fn exec(client: KubeletClient) -> Arc<dyn Connector> {
    Arc::new(Exec {
        client,
        path: "exec",
    })
}

/// The connector of `pods/attach`.
pub fn attach(client: KubeletClient) -> Arc<dyn Connector> {
    Arc::new(Exec {
        client,
        path: "attach",
    })
}

#[async_trait]
impl Connector for Exec {
    async fn connect(&self, r: ConnectRequest) -> Result<Answer, ApiError> {
        let options = PodExecOptions::parse(&r.query);
        let pod = pod::find(&*self.client.reads, "pods", &r.namespace, &r.name)?;
        let container = pod::container(&pod, &options.container)?;
        let node = pod::node(&pod)?;
        if !(options.stdin || options.stdout || options.stderr) {
            return Err(ApiError::bad_request(
                "you must specify at least 1 of stdin, stdout, stderr",
            ));
        }
        let backend = self.client.kubelet(node, true)?;
        let path = format!("/{}/{}/{}/{container}", self.path, r.namespace, r.name);
        let target = format!("{path}?{}", options.kubelet_query());
        proxy::upgrade(&backend, r, &target).await
    }
}
