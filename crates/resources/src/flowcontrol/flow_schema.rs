//! FlowSchema. Upstream: pkg/registry/flowcontrol/flowschema, pkg/apis/flowcontrol.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, list_at, set, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, bootstrap, rules};
use crate::cells;
use crate::fields;

const PRECEDENCE_MAX: i64 = 10_000;

struct FlowSchema;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "FlowSchema",
        "flowschemas",
        Scope::Cluster,
        FlowSchema,
    )
    .status()
}

/// Checks the conditions of a status at the current path.
pub fn conditions(obj: &Value, c: &mut Causes) {
    let all = list_at(obj, "status.conditions");
    c.at("conditions", |c| {
        fields::unique(all, "type", c);
        for (i, one) in all.iter().enumerate() {
            c.index(i, |c| fields::required(one, "type", c));
        }
    });
}

impl Strategy for FlowSchema {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if i64_at(obj, "spec.matchingPrecedence").unwrap_or(0) == 0 {
            set(obj, "spec.matchingPrecedence", json!(1000));
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        let name = machinery::object::name(obj);
        causes.at("spec", |c| {
            spec_rules(name, spec, c);
            if bootstrap::fixed("FlowSchema", name).is_some_and(|f| f != *spec) {
                c.invalid(spec, format!("spec of '{name}' must equal the fixed value"));
            }
        });
        causes.at("status", |c| conditions(obj, c));
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        causes.at("status", |c| conditions(obj, c));
    }

    fn columns(&self) -> Vec<Column> {
        [
            "PriorityLevel",
            "MatchingPrecedence",
            "DistinguisherMethod",
            "Age",
            "MissingPL",
        ]
        .into_iter()
        .fold(vec![Column::name()], |mut all, name| {
            all.push(Column::new(name));
            all
        })
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let dangling = list_at(obj, "status.conditions")
            .iter()
            .find(|c| str_at(c, "type") == "Dangling");
        vec![
            cells::name(obj),
            json!(str_at(obj, "spec.priorityLevelConfiguration.name")),
            cells::integer(obj, "spec.matchingPrecedence"),
            cells::or_none(str_at(obj, "spec.distinguisherMethod.type")),
            cells::age(obj, now),
            json!(dangling.map_or("?", |c| str_at(c, "status"))),
        ]
    }
}

fn spec_rules(name: &str, spec: &Value, c: &mut Causes) {
    let precedence = i64_at(spec, "matchingPrecedence").unwrap_or(0);
    c.at("matchingPrecedence", |c| {
        let shown = json!(precedence);
        if precedence <= 0 {
            c.invalid(&shown, "must be a positive value");
        }
        if precedence > PRECEDENCE_MAX {
            c.invalid(&shown, "must not be greater than 10000");
        }
        if precedence == 1 && name != "exempt" {
            c.invalid(
                &shown,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            );
        }
    });
    if let Some(method) = at(spec, "distinguisherMethod") {
        let kind = str_at(method, "type");
        let allowed = ["ByNamespace", "ByUser"];
        if !allowed.contains(&kind) {
            c.at("distinguisherMethod.type", |c| {
                fields::unsupported(c, &json!({"Type": kind}), &allowed);
            });
        }
    }
    let level = str_at(spec, "priorityLevelConfiguration.name");
    c.at("priorityLevelConfiguration.name", |c| {
        if level.is_empty() {
            c.required("must reference a priority level");
        } else {
            fields::text(level, names::dns1123_subdomain, c);
        }
    });
    for (i, rule) in list_at(spec, "rules").iter().enumerate() {
        c.at("rules", |c| c.index(i, |c| rules::validate(rule, c)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn the_bootstrap_objects_pass_their_own_rules() {
        let levels = super::super::priority_level_configuration::resource().strategy;
        for mut obj in bootstrap::objects() {
            let before = obj.clone();
            let found = if obj["kind"] == "FlowSchema" {
                FlowSchema.set_defaults(&mut obj);
                texts(|c| FlowSchema.validate(&obj, c))
            } else {
                levels.set_defaults(&mut obj);
                texts(|c| levels.validate(&obj, c))
            };
            assert_eq!(found, [""; 0], "{obj}");
            assert_eq!(obj, before, "defaults add nothing");
        }
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "u"}, "group": {"name": "g"}}],
            "resourceRules": [{"verbs": ["get", "nope"], "apiGroups": ["*", "x"], "resources": ["pods"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["x"]}]});
        let obj =
            json!({"metadata": {"name": "f"}, "spec": {"matchingPrecedence": 1, "rules": [rule]}});
        assert_eq!(
            texts(|c| FlowSchema.validate(&obj, c)),
            [
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"get\",\"nope\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
                "spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"x\"]: if '*' is present, must not specify other api groups",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"x\": must start with slash",
            ]
        );
    }
}
