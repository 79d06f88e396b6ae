//! The node's lease: the heartbeat. Upstream: component-helpers lease controller.

use std::sync::Arc;
use std::time::Duration;

use api::coordination::v1::{Lease, LeaseSpec};
use api::meta::{MicroTime, ObjectMeta, OwnerReference};
use client::api::PostParams;
use jiff::Timestamp;

use crate::kubelet::Kubelet;
use crate::limits;

const NAMESPACE: &str = "kube-node-lease";
/// Wait before a lease that could not be made is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(7));

/// Renews for ever.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let mut known: Option<Lease> = None;
    let mut wait = RETRY.0;
    loop {
        match renew(&kubelet, known.take()).await {
            Ok(lease) => {
                known = Some(lease);
                wait = RETRY.0;
                let jitter = 1.0 + 0.04 * rand::random::<f64>();
                tokio::time::sleep(limits::LEASE_RENEW.mul_f64(jitter)).await;
            }
            Err(error) => {
                tracing::debug!(%error, "lease not renewed");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

async fn renew(kubelet: &Kubelet, known: Option<Lease>) -> Result<Lease, client::Error> {
    let api = kubelet.client.namespaced::<Lease>(NAMESPACE);
    let name = &kubelet.config.node_name;
    let known = match known {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let mut lease = known.clone().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = Some(limits::LEASE_SECONDS);
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    let owned = lease.metadata.owner_references.as_ref();
    if owned.is_none_or(Vec::is_empty)
        && let Some(uid) = kubelet.node().and_then(|n| n.metadata.uid.clone())
    {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid,
            ..OwnerReference::default()
        }]);
    }
    let params = PostParams::default();
    match known {
        None => api.create(&params, &lease).await,
        Some(_) => api.replace(name, &params, &lease).await,
    }
}
