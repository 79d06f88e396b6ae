//! The CustomResourceDefinition resource: defaults, what writes keep, what a deletion marks.
//! Upstream: apiextensions-apiserver/pkg/registry/customresourcedefinition; api-semantics §19.1, §19.2.

use api::names;
use jiff::Timestamp;
use machinery::object::{bool_at, list_at, map_at, remove, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::custom::stored_version;
use super::{FINALIZER, GROUP, RESOURCE, plan, validation};

struct Kind;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let kind = "CustomResourceDefinition";
    Descriptor::new(GROUP, "v1", kind, RESOURCE, Scope::Cluster, Kind)
        .short(&["crd", "crds"])
        .category(&["api-extensions"])
        .status()
        .prefix("apiextensions.k8s.io/customresourcedefinitions")
}

trait Prefix {
    fn prefix(self, prefix: &'static str) -> Self;
}

impl Prefix for Descriptor {
    fn prefix(mut self, prefix: &'static str) -> Self {
        self.storage_prefix = prefix.into();
        self
    }
}

impl Strategy for Kind {
    fn set_defaults(&self, obj: &mut Value) {
        let kind = str_at(obj, "spec.names.kind").to_string();
        if !kind.is_empty() {
            set_default(obj, "spec.names.singular", json!(kind.to_lowercase()));
            set_default(obj, "spec.names.listKind", json!(format!("{kind}List")));
        }
        if machinery::object::at(obj, "spec.conversion").is_none_or(Value::is_null) {
            set(obj, "spec.conversion", json!({"strategy": "None"}));
        }
        if list_at(obj, "status.storedVersions").is_empty() {
            let stored = stored_version(obj).to_string();
            if !stored.is_empty() && map_at(obj, "status").is_some() {
                set(obj, "status.storedVersions", json!([stored]));
            }
        }
        // Upstream's inner form has no webhook of its own, only what is in one.
        let webhook = "spec.conversion.webhook";
        let has = |field: &str| {
            let value = machinery::object::at(obj, &format!("{webhook}.{field}"));
            value.is_some_and(|v| !v.is_null())
        };
        if !has("clientConfig") && !has("conversionReviewVersions") {
            remove(obj, webhook);
        }
        let service = "spec.conversion.webhook.clientConfig.service";
        if map_at(obj, service).is_some() {
            set_default(obj, &format!("{service}.port"), json!(443));
        }
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        let stored = stored_version(obj).to_string();
        let stored = if stored.is_empty() {
            json!([])
        } else {
            json!([stored])
        };
        set(
            obj,
            "status",
            json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}),
        );
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        machinery::strategy::keep(obj, before, "status");
        let stored = stored_version(obj).to_string();
        let mut all = list_at(obj, "status.storedVersions").to_vec();
        if !stored.is_empty() && !all.contains(&json!(stored)) {
            all.push(json!(stored));
            set(obj, "status.storedVersions", json!(all));
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        validation::validate(obj, None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        validation::validate(obj, Some(before), causes);
        ca_bundle(obj, before, causes);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        validation::validate_status(obj, causes);
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        validation::warnings(obj, before)
    }

    fn mark_deleting(&self, obj: &mut Value) {
        let mut finalizers = list_at(obj, "metadata.finalizers").to_vec();
        if !finalizers.contains(&json!(FINALIZER)) {
            finalizers.push(json!(FINALIZER));
        }
        set(obj, "metadata.finalizers", json!(finalizers));
        let now = str_at(obj, "metadata.deletionTimestamp").to_string();
        let why = (
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        );
        plan::condition(obj, "Terminating", true, why, &now);
        remove(obj, "metadata.selfLink");
        // Upstream marks definitions by itself, and knows of no grace.
        remove(obj, "metadata.deletionGracePeriodSeconds");
    }

    fn columns(&self) -> Vec<Column> {
        let wide = |name: &str| Column {
            priority: 1,
            ..Column::new(name)
        };
        let created = Column {
            kind: "date".into(),
            ..Column::new("Created At")
        };
        let established = Column {
            kind: "boolean".into(),
            ..wide("Established")
        };
        vec![
            Column::name(),
            Column::new("Scope"),
            Column::new("Versions"),
            created,
            wide("Group"),
            wide("Kind"),
            wide("ShortNames"),
            established,
        ]
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        let mut served: Vec<String> = list_at(obj, "spec.versions")
            .iter()
            .filter(|v| bool_at(v, "served") == Some(true))
            .map(|v| match bool_at(v, "storage") {
                Some(true) => format!("{}(storage)", str_at(v, "name")),
                _ => str_at(v, "name").to_string(),
            })
            .collect();
        served.sort();
        let short = list_at(obj, "spec.names.shortNames").iter();
        let short: Vec<&str> = short.filter_map(Value::as_str).collect();
        vec![
            json!(machinery::object::name(obj)),
            json!(str_at(obj, "spec.scope")),
            json!(served.join(",")),
            json!(str_at(obj, "metadata.creationTimestamp")),
            json!(str_at(obj, "spec.group")),
            json!(str_at(obj, "spec.names.kind")),
            json!(short.join(",")),
            json!(plan::is_true(obj, "Established")),
        ]
    }
}

/// What is established and has good certificates keeps good ones.
fn ca_bundle(obj: &Value, before: &Value, c: &mut Causes) {
    if !plan::is_true(before, "Established") || plan::bundle_problem(before).is_some() {
        return;
    }
    let Some(problem) = plan::bundle_problem(obj) else {
        return;
    };
    let bundle = "spec.conversion.webhook.clientConfig.caBundle";
    let shown = json!(str_at(obj, bundle));
    c.at("spec", |c| {
        c.at("conversion", |c| {
            c.at("webhookClientConfig", |c| {
                c.at("caBundle", |c| c.invalid(&shown, problem));
            });
        });
    });
}
