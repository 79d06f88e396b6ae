//! MutatingAdmissionPolicy. Upstream: pkg/registry/admissionregistration/mutatingadmissionpolicy,
//! pkg/apis/admissionregistration/validation.

use api::names;
use celenv::Type;
use celenv::admission::Compiler;
use jiff::Timestamp;
use machinery::object::{at, list_at, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{CATEGORY, GROUP, policy, rules};
use crate::cells;
use crate::fields;

/// A patch type and the field it needs.
const PATCHES: [(&str, &str); 2] = [
    ("ApplyConfiguration", "applyConfiguration"),
    ("JSONPatch", "jsonPatch"),
];

struct MutatingAdmissionPolicy;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        Scope::Cluster,
        MutatingAdmissionPolicy,
    )
    .category(CATEGORY)
}

impl Strategy for MutatingAdmissionPolicy {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.failurePolicy", json!("Fail"));
        policy::match_defaults(obj, "spec.matchConstraints");
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        spec_rules(obj, None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        spec_rules(obj, Some(before), causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        rules::name_warnings(obj)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::integer("Mutations"),
            Column::new("ParamKind"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(list_at(obj, "spec.mutations").len()),
            policy::param_kind_cell(obj),
            cells::age(obj, now),
        ]
    }
}

fn spec_rules(obj: &Value, before: Option<&Value>, causes: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    causes.at("spec", |c| {
        let scope = policy::scope(spec, true);
        policy::common(spec, before, &scope, c);
        for rule in list_at(spec, "matchConstraints.resourceRules") {
            if list_at(rule, "operations").contains(&json!("DELETE")) {
                c.at("matchConstraints.resourceRules.operations", |c| {
                    let allowed = ["*", "CONNECT", "CREATE", "UPDATE"];
                    fields::unsupported(c, &json!("DELETE"), &allowed);
                });
            }
        }
        let all = list_at(spec, "mutations");
        c.at("mutations", |c| {
            if all.is_empty() {
                c.required("mutations must contain at least one item");
            }
            for (i, one) in all.iter().enumerate() {
                c.index(i, |c| mutation(one, &scope, c));
            }
        });
        fields::required_enum(spec, "reinvocationPolicy", &["IfNeeded", "Never"], c);
    });
}

fn mutation(one: &Value, scope: &Compiler, c: &mut Causes) {
    let kind = str_at(one, "patchType");
    fields::required_enum(one, "patchType", &["ApplyConfiguration", "JSONPatch"], c);
    for (patch, field) in PATCHES {
        let value = at(one, field);
        if patch == kind {
            c.at(field, |c| match value {
                None => c.required(format!("must be specified when patchType is {patch}")),
                Some(v) if str_at(v, "expression").trim().is_empty() => {
                    c.at("expression", |c| c.required(""));
                }
                Some(v) => {
                    let wanted = result(patch);
                    let compiled = scope.compile(str_at(v, "expression"), &[wanted]);
                    c.at("expression", |c| rules::expression(&compiled, c));
                }
            });
        } else if PATCHES.iter().any(|(p, _)| *p == kind) && value.is_some() {
            c.at(field, |c| {
                c.invalid(
                    &json!(format!("{{{field}}}")),
                    format!("must not be specified when patchType is {kind}"),
                );
            });
        }
    }
}

/// What the expression of a patch type gives.
fn result(patch: &str) -> Type {
    match patch {
        "JSONPatch" => Type::list(Type::object("JSONPatch", Vec::new())),
        _ => Type::object("Object", Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        let mut obj = json!({"metadata": {"name": "p"}, "spec": {"reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}],
            "matchConstraints": {"resourceRules": [{"operations": ["DELETE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]}}});
        MutatingAdmissionPolicy.set_defaults(&mut obj);
        assert_eq!(
            texts(|c| MutatingAdmissionPolicy.validate(&obj, c)),
            [
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
                "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            ]
        );
    }
}
