//! The lease by which API servers of a cluster know of each other: `apiserver-<hash>` in `kube-system`, renewed every
//! ten seconds, deleted at the end; those of servers that are gone are deleted an hour later.
//! Upstream: pkg/controlplane/apiserver/server.go, component-helpers lease controller, KEP-1965.

use std::time::Duration;

use api::coordination::v1::{Lease, LeaseSpec};
use api::meta::{MicroTime, ObjectMeta};
use client::api::{DeleteParams, ListParams, PostParams};
use client::{Client, is_not_found};
use jiff::Timestamp;
use tokio::sync::watch;

const NAMESPACE: &str = "kube-system";
const IDENTITY: &str = "apiserver.kubernetes.io/identity";
const KUBE_APISERVER: &str = "kube-apiserver";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Seconds a lease holds, and between two renewals, as upstream's.
const SECONDS: i32 = 3_600;
const RENEW: Duration = Duration::from_secs(10);
/// Between two looks for leases of servers that are gone.
const COLLECT: Duration = Duration::from_secs(3_600);
/// Before a lease that could not be written is tried again, shortest and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(7));

/// Who holds the lease.
struct Holder {
    client: Client,
    name: String,
    host: String,
    /// The name and what tells this process from those before it.
    identity: String,
}

/// Keeps the lease of the server with this name on this host until the end, and deletes it then.
pub async fn run(
    client: Client,
    (name, host): (String, String),
    mut shutdown: watch::Receiver<bool>,
) {
    let holder = Holder {
        identity: format!("{name}_{}", uuid::Uuid::new_v4()),
        client,
        name,
        host,
    };
    // A server that went without a word left one behind.
    holder.remove(&holder.name).await;
    tokio::select! {
        _ = shutdown.wait_for(|end| *end) => {}
        () = holder.renew_forever() => {}
        () = holder.collect_forever() => {}
    }
    holder.remove(&holder.name).await;
}

/// The lease as it should be now.
fn wanted(holder: &Holder, known: Option<&Lease>, now: Timestamp) -> Lease {
    let mut lease = known.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(holder.name.clone()),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.identity.clone()),
            ..LeaseSpec::default()
        }),
    });
    let labels = lease.metadata.labels.get_or_insert_default();
    labels.insert(IDENTITY.into(), KUBE_APISERVER.into());
    labels.insert(HOSTNAME.into(), holder.host.clone());
    let spec = lease.spec.get_or_insert_default();
    spec.lease_duration_seconds = Some(SECONDS);
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// Whether a lease was not renewed in its time.
fn expired(lease: &Lease, now: Timestamp) -> bool {
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|s| s.renew_time.as_ref());
    let seconds = spec.and_then(|s| s.lease_duration_seconds);
    match (renewed, seconds) {
        (Some(at), Some(seconds)) => at.0.as_second() + i64::from(seconds) < now.as_second(),
        _ => true,
    }
}

impl Holder {
    async fn renew_forever(&self) {
        let mut known: Option<Lease> = None;
        let mut wait = RETRY.0;
        loop {
            match self.renew(known.take()).await {
                Ok(lease) => {
                    known = Some(lease);
                    wait = RETRY.0;
                    tokio::time::sleep(RENEW).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "the API server's lease is not renewed");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn renew(&self, known: Option<Lease>) -> Result<Lease, client::Error> {
        let api = self.client.namespaced::<Lease>(NAMESPACE);
        let known = match known {
            Some(lease) => Some(lease),
            None => api.get_opt(&self.name).await?,
        };
        let lease = wanted(self, known.as_ref(), Timestamp::now());
        let params = PostParams::default();
        match known {
            None => api.create(&params, &lease).await,
            Some(_) => api.replace(&self.name, &params, &lease).await,
        }
    }

    async fn collect_forever(&self) {
        loop {
            tokio::time::sleep(COLLECT).await;
            let api = self.client.namespaced::<Lease>(NAMESPACE);
            let ours = ListParams::default().labels(&format!("{IDENTITY}={KUBE_APISERVER}"));
            let all = match api.list(&ours).await {
                Ok(all) => all.items,
                Err(error) => {
                    tracing::warn!(%error, "leases of API servers are not looked through");
                    continue;
                }
            };
            let now = Timestamp::now();
            for lease in all.iter().filter(|l| expired(l, now)) {
                if let Some(name) = &lease.metadata.name {
                    self.remove(name).await;
                }
            }
        }
    }

    async fn remove(&self, name: &str) {
        let api = self.client.namespaced::<Lease>(NAMESPACE);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(e) if is_not_found(&e) => {}
            Err(error) => tracing::warn!(name, %error, "a lease of an API server is not deleted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_not_renewed_in_an_hour_goes() {
        let now: Timestamp = "2026-11-26T03:00:00Z".parse().expect("a time");
        let lease = |renewed: Option<&str>| {
            let renewed = renewed.map(|t| MicroTime(t.parse().expect("a time")));
            Lease {
                spec: Some(LeaseSpec {
                    lease_duration_seconds: Some(SECONDS),
                    renew_time: renewed,
                    ..LeaseSpec::default()
                }),
                ..Lease::default()
            }
        };
        assert!(!expired(&lease(Some("2026-11-26T02:00:00Z")), now));
        assert!(expired(&lease(Some("2026-11-26T01:59:59Z")), now));
        assert!(expired(&lease(None), now));
    }
}
