//! ValidatingAdmissionPolicy. Upstream: pkg/registry/admissionregistration/validatingadmissionpolicy,
//! pkg/apis/admissionregistration/validation.

use api::names;
use celenv::Type;
use celenv::admission::Compiler;
use jiff::Timestamp;
use machinery::object::{list_at, set_default, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{CATEGORY, GROUP, policy, rules};
use crate::cells;
use crate::fields;

const ANNOTATIONS_MAX: usize = 20;
const VALUE_EXPRESSION_MAX: usize = 5 << 10;

struct ValidatingAdmissionPolicy;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        Scope::Cluster,
        ValidatingAdmissionPolicy,
    )
    .category(CATEGORY)
    .status()
}

impl Strategy for ValidatingAdmissionPolicy {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.failurePolicy", json!("Fail"));
        policy::match_defaults(obj, "spec.matchConstraints");
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

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        spec_rules(obj, None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        spec_rules(obj, Some(before), causes);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        let warnings = list_at(obj, "status.typeChecking.expressionWarnings");
        causes.at("status", |c| {
            for (i, one) in warnings.iter().enumerate() {
                c.at("typeChecking.expressionWarnings", |c| {
                    c.index(i, |c| {
                        fields::required(one, "warning", c);
                        fields::required(one, "fieldRef", c);
                    });
                });
            }
            c.at("conditions", |c| {
                fields::conditions(list_at(obj, "status.conditions"), c);
            });
        });
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        rules::name_warnings(obj)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::integer("Validations"),
            Column::new("ParamKind"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(list_at(obj, "spec.validations").len()),
            policy::param_kind_cell(obj),
            cells::age(obj, now),
        ]
    }
}

fn spec_rules(obj: &Value, before: Option<&Value>, causes: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    let (checks, notes) = (
        list_at(spec, "validations"),
        list_at(spec, "auditAnnotations"),
    );
    causes.at("spec", |c| {
        let scope = policy::scope(spec, false);
        policy::common(spec, before, &scope, c);
        if checks.is_empty() && notes.is_empty() {
            for field in ["validations", "auditAnnotations"] {
                c.at(field, |c| {
                    c.required("validations or auditAnnotations must contain at least one item");
                });
            }
            return;
        }
        for (i, one) in checks.iter().enumerate() {
            c.at("validations", |c| {
                c.index(i, |c| validation(one, &scope, c))
            });
        }
        c.at("auditAnnotations", |c| {
            audit_annotations(machinery::object::name(obj), notes, &scope, c);
        });
    });
}

fn validation(one: &Value, scope: &Compiler, c: &mut Causes) {
    let text = str_at(one, "expression");
    c.at("expression", |c| {
        if text.trim().is_empty() {
            c.required("expression is not specified");
        } else {
            rules::expression(&scope.compile(text, &[Type::Bool]), c);
        }
    });
    for field in ["message", "messageExpression"] {
        let text = str_at(one, field);
        c.at(field, |c| {
            if !text.is_empty() && text.trim().is_empty() {
                c.invalid(&json!(text), "must be non-empty if specified");
            } else if field == "messageExpression" && !text.is_empty() {
                let compiled = scope.without_authorizer().compile(text, &[Type::String]);
                rules::expression(&compiled, c);
            }
            if field == "message" && text.trim().contains('\n') {
                c.invalid(&json!(text), "must not contain line breaks");
            }
        });
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    fields::enumerated(one, "reason", &reasons, c);
}

fn audit_annotations(policy: &str, all: &[Value], scope: &Compiler, c: &mut Causes) {
    let scope = scope.without_authorizer();
    if all.len() > ANNOTATIONS_MAX {
        c.invalid(&json!(all), "must not have more than 20 auditAnnotations");
    }
    for (i, one) in all.iter().enumerate() {
        let (key, expression) = (str_at(one, "key"), str_at(one, "valueExpression"));
        c.index(i, |c| {
            c.at("key", |c| {
                let whole = if policy.is_empty() {
                    key.to_string()
                } else {
                    format!("{policy}/{key}")
                };
                fields::text(&whole, names::qualified_name, c);
            });
            c.at("valueExpression", |c| {
                if expression.trim().is_empty() {
                    c.required("valueExpression is not specified");
                } else if expression.len() > VALUE_EXPRESSION_MAX {
                    c.required("must not exceed 5120 bytes in length");
                } else {
                    let wanted = [Type::String, Type::Null];
                    rules::expression(&scope.compile(expression, &wanted), c);
                }
            });
        });
    }
    fields::unique(all, "key", c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"metadata": {"name": "p"}, "spec": {"validations": [{"expression": "true"}],
            "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]}}});
        ValidatingAdmissionPolicy.set_defaults(&mut obj);
        obj
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(
            texts(|c| ValidatingAdmissionPolicy.validate(&good(), c)),
            [""; 0]
        );
        for (path, value, expected) in [
            (
                "spec.matchConstraints",
                Value::Null,
                "spec.matchConstraints: Required value",
            ),
            (
                "spec.paramKind",
                json!({"apiVersion": "a/b/c", "kind": "K"}),
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ),
            (
                "spec.validations",
                json!([{"expression": " "}]),
                "spec.validations[0].expression: Required value: expression is not specified",
            ),
            (
                "spec.variables",
                json!([{"name": "1x", "expression": "true"}]),
                "spec.variables[0].name: Invalid value: \"1x\": must be a valid CEL identifier",
            ),
            (
                "spec.auditAnnotations",
                json!([{"key": "k"}]),
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
            ),
        ] {
            let mut obj = good();
            machinery::object::set(&mut obj, path, value);
            assert_eq!(
                texts(|c| ValidatingAdmissionPolicy.validate(&obj, c)),
                [expected]
            );
        }
    }

    #[test]
    fn bindings_need_a_policy_and_actions() {
        let binding = super::super::validating_admission_policy_binding::resource().strategy;
        let obj = json!({"spec": {"paramRef": {}, "validationActions": ["Deny", "Warn"]}});
        assert_eq!(
            texts(|c| binding.validate(&obj, c)),
            [
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.policyName: Required value",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            ]
        );
        let selector = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "paramRef": {"selector": {"matchLabels": {"k": "v"}}}}});
        assert_eq!(
            binding.row(&selector, Timestamp::UNIX_EPOCH)[2],
            "&LabelSelector{MatchLabels:map[string]string{k: v,},MatchExpressions:[]LabelSelectorRequirement{},}"
        );
    }
}
