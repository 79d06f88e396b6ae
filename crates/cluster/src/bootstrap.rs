//! Objects every cluster has, made at each start where missing: system namespaces and RBAC.
//! Upstream: controlplane system namespaces controller, rbac bootstrap hook.

use client::Client;
use http::Method;
use serde_json::{Value, json};

use crate::rest::{Error, create, get, send};

/// Namespaces the API server makes.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing. `client` must be allowed everything.
pub async fn ensure(client: &Client) -> Result<(), Error> {
    for name in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(client, "/api/v1/namespaces", &object).await?;
    }
    for object in resources::bootstrap_objects() {
        create(client, &collection(&object), &object).await?;
    }
    for object in auth::bootstrap::objects() {
        let path = collection(&object);
        let name = machinery::object::name(&object);
        let stored = get(client, &format!("{path}/{name}")).await?;
        match auth::bootstrap::reconcile(&object, stored.as_ref()) {
            auth::bootstrap::Step::Keep => {}
            auth::bootstrap::Step::Create(o) => create(client, &path, &o).await?,
            auth::bootstrap::Step::Update(o) => {
                send(client, Method::PUT, &format!("{path}/{name}"), Some(&o)).await?;
            }
            auth::bootstrap::Step::Recreate(o) => {
                send(client, Method::DELETE, &format!("{path}/{name}"), None).await?;
                create(client, &path, &o).await?;
            }
        }
    }
    Ok(())
}

/// The collection path of an object.
fn collection(object: &Value) -> String {
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
