//! Objects every cluster has, made at each start where missing: system namespaces, RBAC, flow control,
//! priority classes, the default service network. Upstream: controlplane system namespaces controller,
//! rbac bootstrap hook, flowcontrol/ensurer, controller/defaultservicecidr.

use client::Client;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value, json};

use crate::rest::{Error, apply_status, create, get, send};
use crate::{flow_control, limits};

/// Namespaces the API server makes.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// What is done when `ensure` returns, by the names of upstream's hooks and in their order.
pub const HOOKS: [&str; 8] = [
    "start-system-namespaces-controller",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
];
/// Name of the default service network, and who says that it is ready.
const SERVICE_CIDR: &str = "kubernetes";
const SERVICE_CIDR_MANAGER: &str = "kubernetes-service-cidr-controller";

/// An object and how it is kept up.
enum Wanted {
    Namespace(&'static str),
    /// Made where missing, then its owners'.
    Once(Value),
    Rbac(Value),
    ServiceCidr(Vec<String>),
}

/// Makes what is missing. `client` must be allowed everything. The writes go side by side, so that the
/// store makes many durable at once; nothing but the namespaces must come before others.
pub async fn ensure(client: &Client, service_cidrs: Vec<String>) -> Result<(), Error> {
    let namespaces = NAMESPACES.iter().map(|name| Wanted::Namespace(name));
    all(client, namespaces.collect()).await?;
    let mut wanted = vec![Wanted::ServiceCidr(service_cidrs)];
    for object in resources::bootstrap_objects() {
        let version = machinery::object::str_at(&object, "apiVersion");
        if !version.starts_with(flow_control::GROUP) {
            wanted.push(Wanted::Once(object));
        }
    }
    wanted.extend(auth::bootstrap::objects().into_iter().map(Wanted::Rbac));
    all(client, wanted).await?;
    flow_control::ensure(client).await
}

async fn all(client: &Client, wanted: Vec<Wanted>) -> Result<(), Error> {
    stream::iter(wanted)
        .map(|w| one(client, w))
        .buffer_unordered(limits::BOOTSTRAP_WRITES)
        .try_collect()
        .await
}

async fn one(client: &Client, wanted: Wanted) -> Result<(), Error> {
    match wanted {
        Wanted::Namespace(name) => {
            let object =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            create(client, "/api/v1/namespaces", &object).await
        }
        Wanted::Once(object) => create(client, &collection(&object), &object).await,
        Wanted::Rbac(object) => rbac(client, &object).await,
        Wanted::ServiceCidr(cidrs) => service_cidr(client, cidrs).await,
    }
}

async fn rbac(client: &Client, object: &Value) -> Result<(), Error> {
    let path = collection(object);
    let name = machinery::object::name(object);
    let stored = get(client, &format!("{path}/{name}")).await?;
    match auth::bootstrap::reconcile(object, stored.as_ref()) {
        auth::bootstrap::Step::Keep => Ok(()),
        auth::bootstrap::Step::Create(o) => create(client, &path, &o).await,
        auth::bootstrap::Step::Update(o) => {
            let path = format!("{path}/{name}");
            send(client, Method::PUT, &path, Some(&o)).await.map(drop)
        }
        auth::bootstrap::Step::Recreate(o) => {
            send(client, Method::DELETE, &format!("{path}/{name}"), None).await?;
            create(client, &path, &o).await
        }
    }
}

/// The default service network, ready where it is the configured one.
async fn service_cidr(client: &Client, cidrs: Vec<String>) -> Result<(), Error> {
    let path = "/apis/networking.k8s.io/v1/servicecidrs";
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": SERVICE_CIDR}, "spec": {"cidrs": cidrs}});
    create(client, path, &object).await?;
    let one = format!("{path}/{SERVICE_CIDR}");
    let Some(stored) = get(client, &one).await? else {
        return Ok(());
    };
    if stored["spec"]["cidrs"] != object["spec"]["cidrs"] {
        let (there, here) = (&stored["spec"]["cidrs"], &object["spec"]["cidrs"]);
        tracing::warn!(%there, %here, "the default ServiceCIDR does not match the configuration");
        return Ok(());
    }
    if !lacks_readiness(&stored) {
        return Ok(());
    }
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second());
    let condition = json!({"type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": now.unwrap_or_default().to_string()});
    let config = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": SERVICE_CIDR}, "status": {"conditions": [condition]}});
    apply_status(client, &one, SERVICE_CIDR_MANAGER, &config).await
}

/// Whether nobody has said yet if a network is ready; one on its way out is left alone.
fn lacks_readiness(stored: &Value) -> bool {
    let said = machinery::object::list_at(stored, "status.conditions")
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] != "Unknown");
    !said && !machinery::object::is_deleting(stored)
}

/// The collection path of an object.
pub fn collection(object: &Value) -> String {
    let kind = machinery::object::str_at(object, "kind").to_lowercase();
    let plural = match kind.strip_suffix('s') {
        Some(_) => format!("{kind}es"),
        None => format!("{kind}s"),
    };
    let root = format!("/apis/{}", machinery::object::str_at(object, "apiVersion"));
    match machinery::object::namespace(object) {
        "" => format!("{root}/{plural}"),
        ns => format!("{root}/namespaces/{ns}/{plural}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_declared_ready_once() {
        let with = |conditions: Value| json!({"status": {"conditions": conditions}});
        assert!(lacks_readiness(&json!({})));
        assert!(lacks_readiness(&with(
            json!([{"type": "Ready", "status": "Unknown"}])
        )));
        assert!(!lacks_readiness(&with(
            json!([{"type": "Ready", "status": "False"}])
        )));
        let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(!lacks_readiness(&deleting));
    }
}
