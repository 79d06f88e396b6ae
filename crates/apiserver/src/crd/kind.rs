//! The CustomResourceDefinition resource: defaults, validation, what a deletion marks.
//! Upstream: apiextensions-apiserver/pkg/apis/apiextensions/validation; api-semantics §19.1, §19.2.

use std::collections::HashSet;

use api::names;
use jiff::Timestamp;
use machinery::causes::CauseKind;
use machinery::object::{bool_at, list_at, map_at, remove, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::custom::stored_version;
use super::jsonpath::JsonPath;
use super::structural::{Before, Structural};
use super::{FINALIZER, GROUP, RESOURCE, plan};

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
        set_default(obj, "spec.conversion.strategy", json!("None"));
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
            json!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}),
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
        validate(obj, None, causes);
        if bool_at(obj, "spec.preserveUnknownFields") == Some(true) {
            causes.at("spec", |c| {
                c.at("preserveUnknownFields", |c| {
                    c.invalid(&json!(true), "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead");
                });
            });
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        validate(obj, Some(before), causes);
        ca_bundle(obj, before, causes);
        immutable(obj, before, causes);
        stored_versions(obj, causes);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        stored_versions(obj, causes);
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

fn validate(obj: &Value, before: Option<&Value>, c: &mut Causes) {
    let group = str_at(obj, "spec.group");
    let plural = str_at(obj, "spec.names.plural");
    let name = machinery::object::name(obj);
    if name != format!("{plural}.{group}") {
        c.at("metadata", |c| {
            c.at("name", |c| {
                c.invalid(&json!(name), "must be spec.names.plural+\".\"+spec.group")
            });
        });
    }
    approval(obj, group, c);
    c.at("spec", |c| {
        c.at("group", |c| match group {
            "" => c.required(""),
            g => {
                let mut problems = names::dns1123_subdomain(g);
                if problems.is_empty() && !g.contains('.') {
                    problems.push("should be a domain with at least one dot".into());
                }
                problems.into_iter().for_each(|p| c.invalid(&json!(g), p));
            }
        });
        c.at("scope", |c| match str_at(obj, "spec.scope") {
            "" => c.required(""),
            "Cluster" | "Namespaced" => {}
            other => c.not_supported(&json!(other), &["Cluster", "Namespaced"]),
        });
        let all = list_at(obj, "spec.versions");
        c.at("versions", |c| versions(all, before, c));
        c.at("names", |c| crd_names(&obj["spec"]["names"], c));
        // What all versions share, upstream's internal type has once.
        for part in PARTS {
            if let Some(first) = all.first().filter(|_| part.is_shared(all)) {
                c.at(part.shared, |c| (part.check)(first, before, c));
            }
        }
        c.at("conversion", |c| conversion(&obj["spec"]["conversion"], c));
    });
}

fn conversion(conversion: &Value, c: &mut Causes) {
    let strategy = str_at(conversion, "strategy");
    c.at("strategy", |c| match strategy {
        "" => c.required(""),
        "None" | "Webhook" => {}
        other => c.not_supported(&json!(other), &["None", "Webhook"]),
    });
    // As upstream's internal type has them.
    let client = conversion.pointer("/webhook/clientConfig");
    let versions = list_at(conversion, "webhook.conversionReviewVersions");
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            c.at("webhookClientConfig", |c| c.forbidden(why));
        }
        if !versions.is_empty() {
            c.at("conversionReviewVersions", |c| c.forbidden(why));
        }
        return;
    }
    c.at("webhookClientConfig", |c| match client {
        None => c.required("required when strategy is set to Webhook"),
        Some(client) => client_config(client, c),
    });
    c.at("conversionReviewVersions", |c| review_versions(versions, c));
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

fn client_config(client: &Value, c: &mut Causes) {
    let service = client.get("service").filter(|s| s.is_object());
    match (client.get("url").and_then(Value::as_str), service) {
        (Some(url), None) => c.at("url", |c| {
            let good = url.parse::<http::Uri>().is_ok_and(|u| {
                u.scheme_str() == Some("https") && u.host().is_some_and(|h| !h.is_empty())
            });
            if !good {
                let form = "; desired format: https://host[/path]";
                c.invalid(
                    &json!(url),
                    format!(
                        "url must be a valid URL: 'https' is the only allowed URL scheme{form}"
                    ),
                );
            }
        }),
        (None, Some(service)) => c.at("service", |c| {
            for field in ["name", "namespace"] {
                if str_at(service, field).is_empty() {
                    c.at(field, |c| c.required(""));
                }
            }
            let port = machinery::object::i64_at(service, "port").unwrap_or(0);
            if !(1..=65535).contains(&port) {
                let why = "port is not valid: must be between 1 and 65535, inclusive";
                c.at("port", |c| c.invalid(&json!(port), why));
            }
            let path = str_at(service, "path");
            if !path.is_empty() && !path.starts_with('/') {
                c.at("path", |c| c.invalid(&json!(path), "must start with a '/'"));
            }
        }),
        _ => c.required("exactly one of url or service is required"),
    }
}

fn review_versions(versions: &[Value], c: &mut Causes) {
    if versions.is_empty() {
        return c.required("");
    }
    for (i, version) in versions.iter().enumerate() {
        c.index(i, |c| {
            let text = version.as_str().unwrap_or("");
            if versions[..i].contains(version) {
                c.invalid(version, "duplicate version");
            } else {
                let problems = names::dns1035_label(text);
                problems.into_iter().for_each(|p| c.invalid(version, p));
            }
        });
    }
    if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
        c.invalid(&json!(versions), "must include at least one of v1, v1beta1");
    }
}

fn approval(obj: &Value, group: &str, c: &mut Causes) {
    const KEY: &str = "api-approved.kubernetes.io";
    let protected = [".k8s.io", ".kubernetes.io"]
        .iter()
        .any(|end| group.ends_with(end))
        || ["k8s.io", "kubernetes.io"].contains(&group);
    let community = group.ends_with(".x-k8s.io");
    if !protected || community {
        return;
    }
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let given = map_at(obj, "metadata.annotations")
        .and_then(|a| a.get(KEY))
        .and_then(Value::as_str);
    c.at("metadata", |c| {
        c.at("annotations", |c| {
            c.key(KEY, |c| match given {
                None | Some("") => c.required(format!(
                    "protected groups must have approval annotation \"{KEY}\", {see}"
                )),
                Some(v) if v.starts_with("unapproved") || v.contains("://") => {}
                Some(v) => c.invalid(&json!(v), format!(
                    "protected groups must have approval annotation \"{KEY}\" with either a URL or a reason starting with \"unapproved\", {see}"
                )),
            });
        });
    });
}

/// A part of a version that versions may share.
struct Part {
    /// The version's field.
    field: &'static str,
    /// Where upstream's internal type has it when all versions have the same.
    shared: &'static str,
    /// With the definition that was there before.
    check: fn(&Value, Option<&Value>, &mut Causes),
}

const PARTS: [Part; 4] = [
    Part {
        field: "schema",
        shared: "validation",
        check: schema,
    },
    Part {
        field: "subresources",
        shared: "subresources",
        check: subresources,
    },
    Part {
        field: "additionalPrinterColumns",
        shared: "additionalPrinterColumns",
        check: columns,
    },
    Part {
        field: "selectableFields",
        shared: "selectableFields",
        check: selectable,
    },
];

impl Part {
    fn is_shared(&self, all: &[Value]) -> bool {
        let of = |v: &Value| v.get(self.field).cloned().unwrap_or_default();
        let first = all.first().map(of);
        all.iter().all(|v| Some(of(v)) == first)
    }
}

fn versions(all: &[Value], before: Option<&Value>, c: &mut Causes) {
    let schema = |v: &Value| v.pointer("/schema/openAPIV3Schema").is_some();
    for (i, _) in all.iter().enumerate().filter(|(_, v)| !schema(v)) {
        c.index(i, |c| {
            c.at("schema", |c| c.at("openAPIV3Schema", |c| c.required("")));
        });
    }
    for (i, v) in all.iter().enumerate() {
        c.index(i, |c| {
            version(v, c);
            for part in PARTS.iter().filter(|p| !p.is_shared(all)) {
                c.at(part.field, |c| (part.check)(v, before, c));
            }
        });
    }
    let mut seen = HashSet::new();
    if !all.iter().all(|v| seen.insert(str_at(v, "name"))) {
        c.shown(
            CauseKind::Invalid,
            internal(all),
            "must contain unique version names",
        );
    }
    let stored = all
        .iter()
        .filter(|v| bool_at(v, "storage") == Some(true))
        .count();
    if stored != 1 {
        c.shown(
            CauseKind::Invalid,
            internal(all),
            "must have exactly one version marked as storage version",
        );
    }
}

/// Versions as upstream's internal type shows them, without what they share.
fn internal(all: &[Value]) -> String {
    let own = |v: &Value, i: usize| match v.get(PARTS[i].field) {
        Some(value) if !PARTS[i].is_shared(all) => value.to_string(),
        _ => "null".into(),
    };
    let flag = |v: &Value, field: &str| bool_at(v, field).unwrap_or(false);
    let one = |v: &Value| {
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            json!(str_at(v, "name")),
            flag(v, "served"),
            flag(v, "storage"),
            flag(v, "deprecated"),
            v.get("deprecationWarning").unwrap_or(&Value::Null),
            own(v, 0),
            own(v, 1),
            own(v, 2),
            own(v, 3),
        )
    };
    let texts: Vec<String> = all.iter().map(one).collect();
    format!("[{}]", texts.join(","))
}

fn version(v: &Value, c: &mut Causes) {
    let name = str_at(v, "name");
    c.at("name", |c| {
        names::dns1035_label(name)
            .into_iter()
            .for_each(|p| c.invalid(&json!(name), p));
    });
    let deprecated = bool_at(v, "deprecated") == Some(true);
    if let Some(text) = v.get("deprecationWarning").and_then(Value::as_str) {
        c.at("deprecationWarning", |c| {
            if !deprecated {
                c.invalid(&json!(text), "can only be set for deprecated versions");
            } else if text.len() > 256 {
                c.invalid(&json!(text), "must be <= 256 characters long");
            } else if text.is_empty() {
                c.invalid(&json!(text), "must not be an empty string");
            }
        });
    }
}

fn schema(v: &Value, before: Option<&Value>, c: &mut Causes) {
    c.at("openAPIV3Schema", |c| {
        // Where it is missing that was told; what does not parse is in the list already.
        if let Some(schema) = v.pointer("/schema/openAPIV3Schema")
            && let Ok(parsed) = Structural::parse(schema, c)
        {
            let before = before
                .map(|b| Before::of(b, str_at(v, "name"), schema))
                .unwrap_or_default();
            parsed.check_rules(&before, c);
        }
    });
}

fn columns(v: &Value, _before: Option<&Value>, c: &mut Causes) {
    for (j, column) in list_at(v, "additionalPrinterColumns").iter().enumerate() {
        c.index(j, |c| printer_column(column, c));
    }
}

fn selectable(v: &Value, _before: Option<&Value>, c: &mut Causes) {
    for (j, field) in list_at(v, "selectableFields").iter().enumerate() {
        let path = str_at(field, "jsonPath");
        c.index(j, |c| {
            c.at("jsonPath", |c| match JsonPath::parse(path) {
                _ if path.is_empty() => c.required(""),
                Err(why) => c.invalid(&json!(path), why),
                Ok(p) if p.first() == "metadata" => {
                    c.invalid(&json!(path), "must not point to fields in metadata");
                }
                Ok(_) => {}
            })
        });
    }
}

fn subresources(v: &Value, _before: Option<&Value>, c: &mut Causes) {
    if map_at(v, "subresources.scale").is_some() {
        c.at("scale", |c| scale(v, c));
    }
}

fn scale(v: &Value, c: &mut Causes) {
    for (field, roots, why) in [
        (
            "specReplicasPath",
            &[".spec."][..],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            &[".status."],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = str_at(v, &format!("subresources.scale.{field}"));
        c.at(field, |c| match path {
            "" if field == "labelSelectorPath" => {}
            "" => c.required(""),
            p if !roots.iter().any(|r| p.starts_with(r)) || p.contains('[') => {
                c.invalid(&json!(p), why)
            }
            _ => {}
        });
    }
}

fn printer_column(column: &Value, c: &mut Causes) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    if str_at(column, "name").is_empty() {
        c.at("name", |c| c.required(""));
    }
    c.at("type", |c| match str_at(column, "type") {
        "" => c.required(""),
        t if TYPES.contains(&t) => {}
        t => c.invalid(
            &json!(t),
            "must be one of boolean,date,integer,number,string",
        ),
    });
    let path = str_at(column, "jsonPath");
    c.at("JSONPath", |c| match path {
        "" => c.required(""),
        p if !p.starts_with('.') => {
            c.invalid(&json!(p), "must be a simple json path starting with .")
        }
        p => {
            if let Err(why) = JsonPath::parse(p) {
                c.invalid(&json!(p), why);
            }
        }
    });
}

fn crd_names(n: &Value, c: &mut Causes) {
    let label = |field: &str, c: &mut Causes| {
        let text = str_at(n, field);
        c.at(field, |c| match text {
            "" => c.required(""),
            t => names::dns1035_label(t)
                .into_iter()
                .for_each(|p| c.invalid(&json!(t), p)),
        });
    };
    label("plural", c);
    label("singular", c);
    for field in ["kind", "listKind"] {
        let text = str_at(n, field);
        c.at(field, |c| match text {
            "" => c.required(""),
            t => names::dns1035_label(&t.to_lowercase())
                .into_iter()
                .for_each(|p| {
                    c.invalid(
                        &json!(t),
                        format!("may have mixed case, but should otherwise match: {p}"),
                    );
                }),
        });
    }
    if str_at(n, "kind") == str_at(n, "listKind") && !str_at(n, "kind").is_empty() {
        c.at("listKind", |c| {
            c.invalid(&n["listKind"], "kind and listKind may not be the same")
        });
    }
    for field in ["shortNames", "categories"] {
        c.at(field, |c| {
            for (i, v) in list_at(n, field).iter().enumerate() {
                let problems = names::dns1035_label(v.as_str().unwrap_or(""));
                c.index(i, |c| problems.into_iter().for_each(|p| c.invalid(v, p)));
            }
        });
    }
}

fn immutable(obj: &Value, before: &Value, c: &mut Causes) {
    let mut paths = vec!["spec.group", "spec.names.plural"];
    if plan::is_true(before, "Established") {
        paths.extend(["spec.scope", "spec.names.kind"]);
    }
    for path in paths {
        if str_at(obj, path) != str_at(before, path) {
            c.at(path, |c| {
                c.invalid(&json!(str_at(obj, path)), "field is immutable")
            });
        }
    }
}

fn stored_versions(obj: &Value, c: &mut Causes) {
    let stored = list_at(obj, "status.storedVersions");
    let known: Vec<&str> = list_at(obj, "spec.versions")
        .iter()
        .map(|v| str_at(v, "name"))
        .collect();
    let storage = stored_version(obj);
    c.at("status", |c| c.at("storedVersions", |c| {
        if stored.is_empty() {
            c.invalid(&json!(stored), "must have at least one stored version");
        } else if !stored.contains(&json!(storage)) {
            c.invalid(&json!(stored), format!("must have the storage version {storage}"));
        }
        for (i, v) in stored.iter().enumerate() {
            let name = v.as_str().unwrap_or("");
            if !known.contains(&name) {
                c.index(i, |c| c.invalid(v, format!(
                    "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
                )));
            }
        }
    }));
}
