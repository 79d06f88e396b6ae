//! Which requests a webhook or policy is about. Upstream: validateRuleWithOperations, validateMatchConditions.

use api::names;
use celenv::Type;
use celenv::admission::{Compiled, Compiler, Options};
use machinery::Causes;
use machinery::object::{at, at_mut, list_at, set_default, str_at};
use serde_json::{Value, json};

use crate::fields;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const CONDITIONS_MAX: usize = 64;
/// Names that only configurations in files may have.
const STATIC_SUFFIX: &str = ".static.k8s.io";

/// The warning about names kept for files.
pub fn name_warnings(obj: &Value) -> Vec<String> {
    if !machinery::object::name(obj).ends_with(STATIC_SUFFIX) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with \"{STATIC_SUFFIX}\" are reserved for static manifest-based configurations and cannot be managed via the API"
    )]
}

/// Compiler `*` where a rule in the list at a path names none.
pub fn default_scopes(obj: &mut Value, path: &str) {
    let Some(Value::Array(rules)) = at_mut(obj, path) else {
        return;
    };
    for rule in rules.iter_mut().filter(|r| r.is_object()) {
        set_default(rule, "scope", json!("*"));
    }
}

/// Checks one rule at the current path.
pub fn rule(rule: &Value, c: &mut Causes) {
    wildcard_list(rule, "operations", "operations", c);
    for (i, operation) in list_at(rule, "operations").iter().enumerate() {
        if !OPERATIONS.contains(&operation.as_str().unwrap_or("")) {
            c.at("operations", |c| {
                c.index(i, |c| fields::unsupported(c, operation, OPERATIONS));
            });
        }
    }
    wildcard_list(rule, "apiGroups", "API groups", c);
    wildcard_list(rule, "apiVersions", "API versions", c);
    for (i, version) in list_at(rule, "apiVersions").iter().enumerate() {
        if version == "" {
            c.at("apiVersions", |c| c.index(i, |c| c.required("")));
        }
    }
    c.at("resources", |c| resources(rule, c));
    fields::enumerated(rule, "scope", &["*", "Cluster", "Namespaced"], c);
}

/// A list that must not be empty and may be `*` alone.
fn wildcard_list(rule: &Value, field: &str, what: &str, c: &mut Causes) {
    let all = list_at(rule, field);
    c.at(field, |c| {
        if all.is_empty() {
            c.required("");
        }
        if all.len() > 1 && all.contains(&json!("*")) {
            c.invalid(
                &json!(all),
                format!("if '*' is present, must not specify other {what}"),
            );
        }
    });
}

fn resources(rule: &Value, c: &mut Causes) {
    let all = list_at(rule, "resources");
    if all.is_empty() {
        c.required("");
    }
    let (mut whole, mut subs): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut plain = false;
    for (i, value) in all.iter().enumerate() {
        let text = value.as_str().unwrap_or("");
        if text.is_empty() {
            c.index(i, |c| c.required(""));
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        let mut refuse = |present: String| {
            c.index(i, |c| {
                c.invalid(
                    value,
                    format!("if '{present}' is present, must not specify {text}"),
                );
            });
        };
        if whole.contains(&resource) {
            refuse(format!("{resource}/*"));
        }
        if subs.contains(&sub) {
            refuse(format!("*/{sub}"));
        }
        if sub == "*" {
            whole.push(resource);
        }
        if resource == "*" {
            subs.push(sub);
        }
    }
    if all.len() > 1 && all.contains(&json!("*/*")) {
        c.invalid(
            &json!(all),
            "if '*/*' is present, must not specify other resources",
        );
    }
    if all.contains(&json!("*")) && plain {
        c.invalid(
            &json!(all),
            "if '*' is present, must not specify other resources without subresources",
        );
    }
}

/// Reports an expression that does not compile at the current path.
pub fn expression(compiled: &Compiled, c: &mut Causes) {
    if let Err(e) = &compiled.program {
        c.invalid(&json!(compiled.source), e.as_str());
    }
}

/// Checks match conditions at the current path.
pub fn match_conditions(all: &[Value], params: bool, c: &mut Causes) {
    if all.len() > CONDITIONS_MAX {
        c.too_many(all.len(), CONDITIONS_MAX);
    }
    let scope = Compiler::new(Options {
        params,
        authorizer: true,
        patch_types: false,
    });
    for (i, one) in all.iter().enumerate() {
        c.index(i, |c| {
            let text = str_at(one, "expression");
            c.at("expression", |c| {
                if text.trim().is_empty() {
                    c.required("");
                } else {
                    expression(&scope.compile(text, &[Type::Bool]), c);
                }
            });
            let name = str_at(one, "name");
            c.at("name", |c| {
                if name.is_empty() {
                    c.required("");
                } else {
                    fields::text(name, names::qualified_name, c);
                }
            });
        });
    }
    fields::unique(all, "name", c);
}

/// Checks `matchResources` at the current path.
pub fn match_resources(resources: &Value, c: &mut Causes) {
    fields::required_enum(resources, "matchPolicy", &["Equivalent", "Exact"], c);
    for field in ["namespaceSelector", "objectSelector"] {
        if at(resources, field).is_none() {
            c.at(field, |c| c.required(""));
        }
        fields::label_selector(resources, field, c);
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for (i, one) in list_at(resources, list).iter().enumerate() {
            c.at(list, |c| c.index(i, |c| named_rule(one, c)));
        }
    }
}

fn named_rule(one: &Value, c: &mut Causes) {
    let all = list_at(one, "resourceNames");
    for (i, name) in all.iter().enumerate() {
        c.at("resourceNames", |c| {
            c.index(i, |c| {
                fields::text(name.as_str().unwrap_or(""), fields::segment, c);
                if all[..i].contains(name) {
                    c.duplicate(name);
                }
            });
        });
    }
    rule(one, c);
}
