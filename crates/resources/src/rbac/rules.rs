//! What roles and bindings share. Upstream: pkg/apis/rbac/validation.

use machinery::Causes;
use machinery::object::{at_mut, list_at, set, str_at};
use serde_json::{Value, json};

/// The API group of all RBAC kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks the rules of a role; cluster-wide ones may name non-resource URLs.
pub fn validate(obj: &Value, namespaced: bool, causes: &mut Causes) {
    for (i, rule) in list_at(obj, "rules").iter().enumerate() {
        causes.at("rules", |c| {
            c.index(i, |c| {
                if list_at(rule, "verbs").is_empty() {
                    c.at("verbs", |c| c.required("verbs must contain at least one value"));
                }
                let urls = list_at(rule, "nonResourceURLs");
                if !urls.is_empty() {
                    c.at("nonResourceURLs", |c| {
                        if namespaced {
                            c.invalid(&json!(urls), "namespaced rules cannot apply to non-resource URLs");
                        } else if !list_at(rule, "apiGroups").is_empty()
                            || !list_at(rule, "resources").is_empty()
                            || !list_at(rule, "resourceNames").is_empty()
                        {
                            c.invalid(
                                &json!(urls),
                                "rules cannot apply to both regular resources and non-resource URLs",
                            );
                        }
                    });
                    return;
                }
                if list_at(rule, "apiGroups").is_empty() {
                    c.at("apiGroups", |c| {
                        c.required("resource rules must supply at least one api group");
                    });
                }
                if list_at(rule, "resources").is_empty() {
                    c.at("resources", |c| {
                        c.required("resource rules must supply at least one resource");
                    });
                }
            });
        });
    }
}

/// Defaults of a binding.
pub fn binding_defaults(obj: &mut Value) {
    // Go's clients send the empty text.
    if str_at(obj, "roleRef.apiGroup").is_empty() {
        set(obj, "roleRef.apiGroup", json!(GROUP));
    }
    let Some(Value::Array(subjects)) = at_mut(obj, "subjects") else {
        return;
    };
    for s in subjects {
        if matches!(str_at(s, "kind"), "User" | "Group") && str_at(s, "apiGroup").is_empty() {
            set(s, "apiGroup", json!(GROUP));
        }
    }
}

/// Checks a binding; `kinds` are the kinds its roleRef may name.
pub fn validate_binding(obj: &Value, kinds: &[&str], namespaced: bool, causes: &mut Causes) {
    causes.at("roleRef", |c| {
        let group = str_at(obj, "roleRef.apiGroup");
        if group != GROUP {
            c.at("apiGroup", |c| c.not_supported(&json!(group), &[GROUP]));
        }
        let kind = str_at(obj, "roleRef.kind");
        if !kinds.contains(&kind) {
            c.at("kind", |c| c.not_supported(&json!(kind), kinds));
        }
        let name = str_at(obj, "roleRef.name");
        c.at("name", |c| {
            if name.is_empty() {
                c.required("");
            }
            for problem in api::names::path_segment(name, false) {
                c.invalid(&json!(name), problem);
            }
        });
    });
    for (i, s) in list_at(obj, "subjects").iter().enumerate() {
        causes.at("subjects", |c| c.index(i, |c| subject(s, namespaced, c)));
    }
}

fn subject(s: &Value, namespaced: bool, c: &mut Causes) {
    let (kind, name, group) = (str_at(s, "kind"), str_at(s, "name"), str_at(s, "apiGroup"));
    if name.is_empty() {
        c.at("name", |c| c.required(""));
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                for problem in api::names::subdomain_name(name, false) {
                    c.at("name", |c| c.invalid(&json!(name), problem));
                }
            }
            if !group.is_empty() {
                c.at("apiGroup", |c| c.not_supported(&json!(group), &[""]));
            }
            if !namespaced && str_at(s, "namespace").is_empty() {
                c.at("namespace", |c| c.required(""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                c.at("apiGroup", |c| c.not_supported(&json!(group), &[GROUP]));
            }
        }
        other => c.at("kind", |c| {
            c.not_supported(&json!(other), &["ServiceAccount", "User", "Group"]);
        }),
    }
}

/// The rule of updates: the role stays.
pub fn same_role(obj: &Value, before: &Value, causes: &mut Causes) {
    if obj.get("roleRef") != before.get("roleRef") {
        let new = obj.get("roleRef").cloned().unwrap_or_default();
        causes.at("roleRef", |c| c.invalid(&new, "cannot change roleRef"));
    }
}

/// Cells of a binding after name, role and age: users, groups, service accounts.
pub fn subjects_cells(obj: &Value) -> [Value; 3] {
    let of = |kind: &str| {
        let matching = list_at(obj, "subjects")
            .iter()
            .filter(|s| str_at(s, "kind") == kind);
        let texts: Vec<String> = matching
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", str_at(s, "namespace"), str_at(s, "name")),
                _ => str_at(s, "name").to_string(),
            })
            .collect();
        json!(texts.join(", "))
    };
    [of("User"), of("Group"), of("ServiceAccount")]
}
