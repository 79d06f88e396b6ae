//! ServiceAccount. Upstream: pkg/registry/core/serviceaccount.

use api::names;
use machinery::object::{list_at, map_at, set, str_at};
use machinery::{Descriptor, Scope, Strategy, SubresourceKind, WriteContext};
use serde_json::{Value, json};

struct ServiceAccount;

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "",
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        Scope::Namespaced,
        ServiceAccount,
    )
    .short(&["sa"])
    .sub(
        "token",
        SubresourceKind::Connect {
            verbs: &["create"],
            kind: "TokenRequest".into(),
            group: "authentication.k8s.io".into(),
            version: "v1".into(),
        },
    )
}

impl Strategy for ServiceAccount {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        names_only(obj);
    }

    fn prepare_update(&self, obj: &mut Value, _before: &Value, _cx: &WriteContext) {
        names_only(obj);
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let has = |o: &Value| {
            map_at(o, "metadata.annotations").is_some_and(|a| a.contains_key(MOUNTABLE))
        };
        if !has(obj) || before.is_some_and(has) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// Of each secret reference only the name is kept.
fn names_only(obj: &mut Value) {
    let names: Vec<Value> = list_at(obj, "secrets")
        .iter()
        .map(|s| json!({"name": str_at(s, "name")}))
        .collect();
    if !names.is_empty() {
        set(obj, "secrets", json!(names));
    }
}
