//! ServiceAccount. Upstream: pkg/registry/core/serviceaccount.

use api::names;
use machinery::object::{list_at, set, str_at};
use machinery::{Descriptor, Scope, Strategy, SubresourceKind, WriteContext};
use serde_json::{Value, json};

struct ServiceAccount;

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
