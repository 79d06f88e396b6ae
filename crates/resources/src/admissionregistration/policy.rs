//! What admission policies and their bindings share. Upstream: pkg/apis/admissionregistration/validation.

use api::names;
use celenv::admission::{Compiled, Compiler, Options};
use jiff::Timestamp;
use machinery::object::{at, list_at, map_at, set_default, str_at};
use machinery::{Causes, Column, Row};
use serde_json::{Value, json};

use super::rules;
use crate::cells;
use crate::fields;

/// Defaults of match resources at a path, where they are.
pub fn match_defaults(obj: &mut Value, path: &str) {
    if at(obj, path).is_none() {
        return;
    }
    set_default(obj, &format!("{path}.matchPolicy"), json!("Equivalent"));
    for field in ["namespaceSelector", "objectSelector"] {
        set_default(obj, &format!("{path}.{field}"), json!({}));
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        rules::default_scopes(obj, &format!("{path}.{list}"));
    }
}

/// Checks what both kinds of policy have, at the path of the spec.
pub fn common(spec: &Value, before: Option<&Value>, scope: &Compiler, c: &mut Causes) {
    fields::required_enum(spec, "failurePolicy", &["Fail", "Ignore"], c);
    if let Some(kind) = at(spec, "paramKind") {
        c.at("paramKind", |c| param_kind(kind, c));
    }
    c.at("matchConstraints", |c| {
        let Some(constraints) = at(spec, "matchConstraints") else {
            return c.required("");
        };
        rules::match_resources(constraints, c);
        if list_at(constraints, "resourceRules").is_empty() {
            c.at("resourceRules", |c| c.required(""));
        }
    });
    let part = |s: &Value| {
        (
            at(s, "paramKind").cloned(),
            at(s, "matchConditions").cloned(),
        )
    };
    let same = before
        .and_then(|b| b.get("spec"))
        .is_some_and(|old| part(old) == part(spec));
    if !same {
        c.at("matchConditions", |c| {
            let params = at(spec, "paramKind").is_some();
            rules::match_conditions(list_at(spec, "matchConditions"), params, c);
        });
    }
    for (i, variable) in list_at(spec, "variables").iter().enumerate() {
        let compiled = &scope.variables[i].compiled;
        c.at("variables", |c| {
            c.index(i, |c| self::variable(variable, compiled, c));
        });
    }
}

/// What the expressions of a policy may use: its variables, compiled.
pub fn scope(spec: &Value, patch_types: bool) -> Compiler {
    let mut scope = Compiler::new(Options {
        params: at(spec, "paramKind").is_some(),
        authorizer: true,
        patch_types,
    });
    for v in list_at(spec, "variables") {
        scope.add_variable(str_at(v, "name"), str_at(v, "expression"));
    }
    scope
}

fn param_kind(kind: &Value, c: &mut Causes) {
    let version = str_at(kind, "apiVersion");
    c.at("apiVersion", |c| {
        let parts: Vec<&str> = version.split('/').collect();
        let (group, name) = match parts.as_slice() {
            _ if version.is_empty() => return c.required(""),
            [name] => ("", *name),
            [group, name] => (*group, *name),
            _ => {
                return c.invalid(
                    &json!(version),
                    format!("unexpected GroupVersion string: {version}"),
                );
            }
        };
        let problems = names::dns1123_subdomain(group);
        if !group.is_empty() && !problems.is_empty() {
            c.invalid(&json!(group), problems.join(","));
        }
        let problems = names::dns1035_label(name);
        if name.is_empty() {
            c.invalid(&json!(version), "version must be specified");
        } else if !problems.is_empty() {
            c.invalid(&json!(name), problems.join(","));
        }
    });
    let name = str_at(kind, "kind");
    c.at("kind", |c| {
        let problems = names::dns1035_label(&name.to_lowercase());
        if name.is_empty() {
            c.required("");
        } else if !problems.is_empty() {
            c.invalid(
                &json!(name),
                format!(
                    "may have mixed case, but should otherwise match: {}",
                    problems.join(",")
                ),
            );
        }
    });
}

fn variable(variable: &Value, compiled: &Compiled, c: &mut Causes) {
    let name = str_at(variable, "name");
    c.at("name", |c| {
        let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
        let good = name.bytes().next().is_some_and(first)
            && name.bytes().all(|b| first(b) || b.is_ascii_digit());
        if name.is_empty() {
            c.required("name is not specified");
        } else if !good {
            c.invalid(&json!(name), "must be a valid CEL identifier");
        }
    });
    c.at("expression", |c| {
        if compiled.source.trim().is_empty() {
            c.required("expression is not specified");
        } else {
            rules::expression(compiled, c);
        }
    });
}

/// The ParamKind cell of a policy.
pub fn param_kind_cell(obj: &Value) -> Value {
    at(obj, "spec.paramKind").map_or(json!("<unset>"), |p| {
        json!(format!("{}/{}", str_at(p, "apiVersion"), str_at(p, "kind")))
    })
}

/// Checks what both kinds of binding have.
pub fn binding(obj: &Value, causes: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    causes.at("spec", |c| {
        if let Some(reference) = at(spec, "paramRef") {
            c.at("paramRef", |c| param_ref(reference, c));
        }
        if let Some(resources) = at(spec, "matchResources") {
            c.at("matchResources", |c| rules::match_resources(resources, c));
        }
        fields::required_text(spec, "policyName", names::dns1123_subdomain, c);
    });
}

fn param_ref(reference: &Value, c: &mut Causes) {
    let name = str_at(reference, "name");
    let selector = at(reference, "selector");
    if !name.is_empty() {
        c.at("name", |c| fields::text(name, fields::segment, c));
        if selector.is_some() {
            for field in ["name", "selector"] {
                c.at(field, |c| {
                    c.forbidden("name and selector are mutually exclusive");
                });
            }
        }
    }
    fields::label_selector(reference, "selector", c);
    if name.is_empty() && selector.is_none() {
        c.required("one of name or selector must be specified");
    }
    fields::required_enum(reference, "parameterNotFoundAction", &["Deny", "Allow"], c);
}

/// Checks what a validating binding does with failures.
pub fn validation_actions(obj: &Value, causes: &mut Causes) {
    let all = list_at(obj, "spec.validationActions");
    causes.at("spec.validationActions", |c| {
        for (i, action) in all.iter().enumerate() {
            c.index(i, |c| {
                let known = ["Audit", "Deny", "Warn"];
                if !known.contains(&action.as_str().unwrap_or("")) {
                    fields::unsupported(c, action, &known);
                }
                if all[..i].contains(action) {
                    c.duplicate(action);
                }
            });
        }
        if all.contains(&json!("Deny")) && all.contains(&json!("Warn")) {
            c.invalid(&json!(all), "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
        }
        if all.is_empty() {
            c.required("");
        }
    });
}

/// The columns of both kinds of binding.
pub fn binding_columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::new("PolicyName"),
        Column::new("ParamRef"),
        Column::new("Age"),
    ]
}

/// The row of both kinds of binding.
pub fn binding_row(obj: &Value, now: Timestamp) -> Row {
    let reference = at(obj, "spec.paramRef").map_or_else(
        || "<unset>".to_string(),
        |r| match (str_at(r, "name"), str_at(r, "namespace")) {
            ("", _) => at(r, "selector").map_or_else(|| "<unset>".to_string(), go_selector),
            (name, "") => format!("*/{name}"),
            (name, ns) => format!("{ns}/{name}"),
        },
    );
    vec![
        cells::name(obj),
        json!(str_at(obj, "spec.policyName")),
        json!(reference),
        cells::age(obj, now),
    ]
}

/// A label selector in Go's debug form.
fn go_selector(selector: &Value) -> String {
    let labels: String = map_at(selector, "matchLabels")
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}: {},", v.as_str().unwrap_or("")))
        .collect();
    let expressions: String = list_at(selector, "matchExpressions")
        .iter()
        .map(|e| {
            let values: Vec<&str> = list_at(e, "values")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                str_at(e, "key"),
                str_at(e, "operator"),
                values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
