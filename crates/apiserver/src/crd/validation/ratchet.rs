//! What a definition must not have unless it was stored so: rules that came later than objects which break them.
//! Upstream: the `require…` functions of apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go.

use machinery::Causes;
use machinery::object::{list_at, str_at};
use serde_json::Value;

use super::super::structural::{JsonType, Structural};
use super::unsupported::unsupported;
use super::{any, defaults, has_defaults, preserves, schema, schema_of, structural};

/// What is required of a definition's schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Required {
    /// Each version has one.
    pub schemas: bool,
    pub structural: bool,
    /// Types are those of OpenAPI.
    pub types: bool,
    pub pruned_defaults: bool,
    /// Items of sets are one value each.
    pub atomic_sets: bool,
    /// Keys of lists are always there, and items never null.
    pub map_keys: bool,
}

const ALL: Required = Required {
    schemas: true,
    structural: true,
    types: true,
    pruned_defaults: true,
    atomic_sets: true,
    map_keys: true,
};

/// Whether a value counts as set.
type IsSet = fn(&Value) -> bool;

/// Extensions that only structural schemas may have.
const EXTENSIONS: [(&str, IsSet); 6] = [
    ("x-kubernetes-embedded-resource", is_on),
    ("x-kubernetes-preserve-unknown-fields", Value::is_boolean),
    ("x-kubernetes-int-or-string", is_on),
    ("x-kubernetes-list-map-keys", has_items),
    ("x-kubernetes-list-type", Value::is_string),
    ("x-kubernetes-validations", has_items),
];

fn is_on(v: &Value) -> bool {
    *v == Value::Bool(true)
}

fn has_items(v: &Value) -> bool {
    v.as_array().is_some_and(|l| !l.is_empty())
}

fn has_extensions(schema: &Value) -> bool {
    let mut all = EXTENSIONS.iter();
    all.any(|(name, set)| schema.get(*name).is_some_and(set))
}

/// Whether a check finds anything in a schema.
fn finds(check: impl FnOnce(&mut Causes)) -> bool {
    let mut found = Causes::new();
    check(&mut found);
    !found.is_empty()
}

fn is_non_structural(s: &Value) -> bool {
    unsupported(s).is_some() || finds(|c| structural::validate(s, c))
}

fn has_unpruned_defaults(s: &Value) -> bool {
    !is_non_structural(s) && defaults::has_unpruned(&Structural::parse(s))
}

fn has_odd_type(s: &Value) -> bool {
    let kind = str_at(s, "type");
    !kind.is_empty() && JsonType::of(kind).is_none()
}

fn has_odd_set(s: &Value) -> bool {
    let set = str_at(s, "x-kubernetes-list-type") == "set";
    set && finds(|c| schema::set_items(&s["items"], c))
}

// === Required ===

impl Required {
    /// What is required of a definition, given the one before.
    pub fn of(obj: &Value, before: Option<&Value>) -> Self {
        let Some(before) = before else {
            return ALL;
        };
        let versions = list_at(before, "spec.versions");
        let schemas: Vec<&Value> = versions.iter().filter_map(schema_of).collect();
        let none = |f: &dyn Fn(&Value) -> bool| !schemas.iter().any(|s| f(s));
        let within = |f: &dyn Fn(&Value) -> bool| none(&|s| any(s, f));
        // Pruning, defaults and extensions need structure, whatever was before.
        let mut mine = list_at(obj, "spec.versions").iter().filter_map(schema_of);
        let needs_structure =
            !preserves(obj) || mine.any(|s| any(s, &|s| has_defaults(s) || has_extensions(s)));
        Self {
            schemas: schemas.len() == versions.len(),
            structural: needs_structure || none(&is_non_structural),
            types: within(&has_odd_type),
            pruned_defaults: none(&has_unpruned_defaults),
            atomic_sets: within(&has_odd_set),
            map_keys: within(&|s| finds(|c| schema::unique(s, c))),
        }
    }
}

impl Default for Required {
    fn default() -> Self {
        ALL
    }
}

/// Whether more selectable fields than are allowed were there before, the same ones.
pub fn keeps_selectable(version: &Value, before: Option<&Value>) -> bool {
    let field = "selectableFields";
    let name = str_at(version, "name");
    let mut old = before.into_iter().flat_map(|b| list_at(b, "spec.versions"));
    let old = old.find(|v| str_at(v, "name") == name);
    old.is_some_and(|v| {
        list_at(v, field).len() > super::SELECTABLE_MAX && v.get(field) == version.get(field)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::validation;

    fn definition(schema: Value, preserves: bool) -> Value {
        let mut version = json!({"name": "v1", "served": true, "storage": true});
        if !schema.is_null() {
            version["schema"] = json!({"openAPIV3Schema": schema});
        }
        json!({"metadata": {"name": "foos.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "preserveUnknownFields": preserves,
                "conversion": {"strategy": "None"}, "versions": [version],
                "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"}},
            "status": {"storedVersions": ["v1"]}})
    }

    /// What is wrong with a changed definition, by field.
    fn problems(obj: &Value, before: &Value) -> Vec<String> {
        let mut c = Causes::new();
        validation::validate(obj, Some(before), &mut c);
        let all = c.as_slice().iter();
        all.map(|c| c.field.replace("spec.validation.openAPIV3Schema.", ""))
            .collect()
    }

    fn object(properties: Value) -> Value {
        json!({"type": "object", "properties": properties})
    }

    #[test]
    fn what_was_stored_so_may_stay_so() {
        let set = |map: &str| {
            json!({"type": "array", "x-kubernetes-list-type": "set",
                "items": {"type": "object", "x-kubernetes-map-type": map}})
        };
        let keyed = |nullable: bool| {
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                "items": {"type": "object", "nullable": nullable, "required": ["a"],
                    "properties": {"a": {"type": "string"}}}})
        };
        let odd =
            json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string"}}});
        let no_type = object(json!({"a": {"description": "of no type"}}));
        let table = [
            (
                object(json!({"x": set("granular")})),
                object(json!({"x": set("atomic")})),
                false,
            ),
            (
                object(json!({"x": keyed(true)})),
                object(json!({"x": keyed(false)})),
                false,
            ),
            (
                object(json!({"x": odd})),
                object(json!({"x": {"type": "object"}})),
                false,
            ),
            (
                object(json!({"x": {"type": "number2"}})),
                object(json!({"x": {"type": "number"}})),
                false,
            ),
            (no_type.clone(), object(json!({})), true),
            (Value::Null, object(json!({})), true),
        ];
        for (bad, good, preserves) in table {
            let (bad, good) = (definition(bad, preserves), definition(good, preserves));
            assert_eq!(problems(&bad, &bad), [""; 0], "{bad}");
            assert_eq!(problems(&good, &bad), [""; 0], "{good}");
            assert_ne!(problems(&bad, &good), [""; 0], "{bad}");
        }
        // Whoever wants pruning needs structure.
        let (kept, pruned) = (
            definition(no_type.clone(), true),
            definition(no_type, false),
        );
        assert_eq!(problems(&pruned, &kept), ["properties[a].type"]);
        let (kept, pruned) = (
            definition(Value::Null, true),
            definition(Value::Null, false),
        );
        assert_eq!(
            problems(&pruned, &kept),
            ["spec.versions[0].schema.openAPIV3Schema"]
        );
    }

    #[test]
    fn too_many_selectable_fields_may_stay() {
        let of = |n: usize| {
            let names = (0..n).map(|i| format!("f{i}"));
            let fields: serde_json::Map<String, Value> = names
                .clone()
                .map(|n| (n, json!({"type": "string"})))
                .collect();
            let mut out = definition(
                object(json!({"spec": object(Value::Object(fields))})),
                false,
            );
            let all: Vec<Value> = names
                .map(|n| json!({"jsonPath": format!(".spec.{n}")}))
                .collect();
            out["spec"]["versions"][0]["selectableFields"] = json!(all);
            out
        };
        assert_eq!(problems(&of(9), &of(9)), [""; 0]);
        assert_eq!(problems(&of(8), &of(9)), [""; 0]);
        assert_eq!(problems(&of(9), &of(8)), ["spec.selectableFields"]);
        assert_eq!(problems(&of(10), &of(9)), ["spec.selectableFields"]);
    }
}
