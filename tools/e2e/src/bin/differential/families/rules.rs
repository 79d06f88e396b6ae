//! Generated CEL rules: typed expressions over a schema that has everything they can be about, messages and message
//! expressions, transition rules with and without an optional old value, rules of fields, items and values; objects
//! against them, changes of objects that are older than their rules, and rules that do not compile.

mod expressions;

use serde_json::{Map, Value, json};

use crate::step::{Ask, Dice, Sequence, Step};

use expressions::{OldSelf, Scope, boolean, text};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Objects that are older than the rules.
const OLD: &[&str] = &["a", "b", "c"];
const CREATES: usize = 8;
const CHANGES: usize = 9;
const BROKEN: usize = 3;

/// What rules may point to.
const PATHS: &[&str] = &[".i", ".s", ".o.x", ".l", ".m", "['a-b']", ".items", ".o"];
const REASONS: &[&str] = &[
    "FieldValueInvalid",
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
];

fn group(seed: u64) -> String {
    format!("r{seed}.rules.example.com")
}

/// The properties of `spec`; without bounds what is done for each item costs too much.
fn properties(bounded: bool) -> Value {
    let mut p = json!({
        "i": {"type": "integer"}, "j": {"type": "integer", "format": "int32"}, "n": {"type": "number"},
        "b": {"type": "boolean"}, "s": {"type": "string", "maxLength": 12}, "t": {"type": "string", "maxLength": 12},
        "e": {"type": "string", "enum": ["x", "y"]}, "nul": {"type": "string", "nullable": true, "maxLength": 5},
        "d": {"type": "integer", "default": 7},
        "when": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"},
        "span": {"type": "string", "format": "duration"}, "by": {"type": "string", "format": "byte", "maxLength": 20},
        "ios": {"x-kubernetes-int-or-string": true}, "a-b": {"type": "string", "maxLength": 5},
        "namespace": {"type": "string", "maxLength": 5},
        "l": {"type": "array", "maxItems": 4, "items": {"type": "string", "maxLength": 5}},
        "li": {"type": "array", "maxItems": 4, "items": {"type": "integer"}},
        "set": {"type": "array", "maxItems": 4, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 5}},
        "m": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "integer"}},
        "o": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string", "maxLength": 5}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "integer"}}},
        "emb": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
        "items": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "maxLength": 5}, "n": {"type": "integer"}}}},
    });
    if !bounded {
        for field in p.as_object_mut().into_iter().flatten().map(|(_, f)| f) {
            for s in [true, false] {
                let at = if s {
                    Some(&mut *field)
                } else {
                    field.get_mut("items")
                };
                if let Some(map) = at.and_then(Value::as_object_mut) {
                    map.retain(|k, _| !k.starts_with("max"));
                }
            }
        }
    }
    p
}

fn definition(seed: u64, root: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("ruled.{}", group(seed))},
        "spec": {"group": group(seed), "scope": "Cluster", "names": {"plural": "ruled", "kind": "Ruled"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": root}}]}})
}

/// A schema whose `probe` tells which one is served.
fn root(properties: Value, probe: &str) -> Value {
    json!({"type": "object", "properties": {
        "probe": {"type": "string", "enum": ["any", probe]},
        "spec": {"type": "object", "properties": properties},
        "status": {"type": "object", "properties": {"phase": {"type": "string", "maxLength": 5}}}}})
}

/// A rule within a scope.
fn rule(d: &mut Dice, scope: Scope) -> Value {
    let old = match d.roll(5) {
        // Items of sets have no older selves.
        _ if scope == Scope::SetItem => OldSelf::None,
        0 => OldSelf::There,
        1 => OldSelf::Optional,
        _ => OldSelf::None,
    };
    let mut out = json!({"rule": boolean(d, scope, old, 2)});
    let speaks = out["rule"].as_str().is_some_and(|r| r.contains("oldSelf"));
    match d.roll(5) {
        0 | 1 => {}
        2 => out["message"] = json!(d.pick(&["plain", " trimmed ", "with 'quotes' and \"more\""])),
        _ => {
            // Without the flag the old value is not optional.
            let old = if speaks { old } else { OldSelf::None };
            out["messageExpression"] = json!(text(d, scope, old, 1));
            if d.once_in(2) {
                out["message"] = json!("instead");
            }
        }
    }
    if d.once_in(4) {
        out["reason"] = json!(d.pick(REASONS));
    }
    if scope == Scope::Spec && d.once_in(4) {
        out["fieldPath"] = json!(d.pick(PATHS));
    }
    if old == OldSelf::Optional && speaks {
        out["optionalOldSelf"] = json!(true);
    }
    out
}

/// Puts rules into a schema.
fn with_rules(d: &mut Dice, root: &mut Value) {
    const PLACES: &[(&str, Scope)] = &[
        ("/properties/spec", Scope::Spec),
        ("/properties/spec", Scope::Spec),
        ("/properties/spec", Scope::Spec),
        ("/properties/spec", Scope::Spec),
        ("", Scope::Root),
        ("/properties/spec/properties/s", Scope::Text),
        ("/properties/spec/properties/i", Scope::Int),
        ("/properties/spec/properties/o", Scope::Object),
        ("/properties/spec/properties/items/items", Scope::Item),
        (
            "/properties/spec/properties/m/additionalProperties",
            Scope::Int,
        ),
        ("/properties/spec/properties/set/items", Scope::SetItem),
        ("/properties/spec/properties/l", Scope::List),
        ("/properties/status", Scope::Status),
    ];
    for _ in 0..3 + d.roll(4) {
        let (place, scope) = d.pick(PLACES);
        let one = rule(d, scope);
        if let Some(schema) = root.pointer_mut(place) {
            match schema["x-kubernetes-validations"].as_array_mut() {
                Some(all) => all.push(one),
                None => schema["x-kubernetes-validations"] = json!([one]),
            }
        }
    }
}

/// A spec; `wrong` times in twelve something in it has another type.
fn spec(d: &mut Dice, wrong: u64) -> Value {
    const VALUES: &[(&str, &[&str])] = &[
        ("i", &["0", "1", "-5", "7", "9223372036854775807"]),
        ("j", &["0", "3", "-1"]),
        ("n", &["0.5", "2", "-1.25", "1e20", "3.0"]),
        ("b", &["true", "false"]),
        (
            "s",
            &[
                "\"\"",
                "\"abc\"",
                "\"ABC\"",
                "\"a,b\"",
                "\"été\"",
                "\"12\"",
                "\"10Mi\"",
                "\"1.2.3\"",
                "\"10.0.0.1\"",
            ],
        ),
        (
            "t",
            &[
                "\"abc\"",
                "\"x\"",
                "\"b\"",
                "\"2\"",
                "\"10.0.0.0/8\"",
                "\"http://a/b\"",
            ],
        ),
        ("e", &["\"x\"", "\"y\""]),
        ("nul", &["null", "\"v\""]),
        ("d", &["1", "8"]),
        (
            "when",
            &[
                "\"2024-01-02T03:04:05Z\"",
                "\"1999-12-31T23:59:59.5+01:00\"",
            ],
        ),
        ("day", &["\"2024-02-29\"", "\"2000-01-01\""]),
        ("span", &["\"90m\"", "\"1h\"", "\"-1.5s\""]),
        ("by", &["\"aGVsbG8=\"", "\"\""]),
        ("ios", &["5", "\"50%\"", "0"]),
        ("a-b", &["\"q\"", "\"abc\""]),
        ("namespace", &["\"ns\"", "\"abc\""]),
        (
            "l",
            &["[]", "[\"a\"]", "[\"b\",\"a\",\"a\"]", "[\"abc\",\"x\"]"],
        ),
        ("li", &["[]", "[1]", "[3,1,2]", "[5,5]"]),
        (
            "set",
            &["[\"a\"]", "[\"b\",\"a\"]", "[]", "[\"abc\",\"a\"]"],
        ),
        ("m", &["{}", "{\"k1\":1}", "{\"k1\":0,\"k.2\":7}"]),
        (
            "o",
            &[
                "{}",
                "{\"x\":1}",
                "{\"x\":7,\"y\":\"abc\"}",
                "{\"y\":\"x\"}",
            ],
        ),
        ("free", &["{}", "{\"x\":1,\"z\":[1]}", "{\"z\":{}}"]),
        (
            "emb",
            &[
                "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"abc\"}}",
                "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\",\"labels\":{\"a\":\"b\"}},\"spec\":{\"x\":1}}",
            ],
        ),
        (
            "items",
            &[
                "[]",
                "[{\"k\":\"a\",\"n\":1}]",
                "[{\"k\":\"b\",\"n\":3},{\"k\":\"a\"}]",
                "[{\"k\":\"abc\",\"n\":7},{\"k\":\"a\",\"n\":0}]",
            ],
        ),
    ];
    let mut out = Map::new();
    for (name, values) in VALUES {
        if d.roll(4) > 0 {
            let value = d.pick(values);
            out.insert(
                (*name).into(),
                serde_json::from_str(value).unwrap_or_default(),
            );
        }
    }
    if d.roll(12) < wrong {
        let (name, _) = d.pick(VALUES);
        let odd = d.pick(&["5", "\"odd\"", "[]", "{\"z\":1}", "null", "1.5", "[null]"]);
        out.insert(name.into(), serde_json::from_str(odd).unwrap_or_default());
    }
    Value::Object(out)
}

fn object(seed: u64, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{}/v1", group(seed)), "kind": "Ruled", "metadata": {"name": name}, "spec": spec})
}

/// Objects of a definition without rules; then the rules, and what they say of these and of new ones.
pub fn sequence(seed: u64) -> Sequence {
    let mut d = Dice::new(seed + 31_000);
    let base = format!("/apis/{}/v1/ruled", group(seed));
    let plain = root(properties(true), "first");
    let mut steps: Vec<Step> = vec![
        Ask::new("POST", CRDS)
            .json(JSON, &definition(seed, plain))
            .into(),
        Step::probe(&base, object(seed, "probe", &json!({})), "first"),
    ];
    for name in OLD {
        let body = object(seed, name, &spec(&mut d, 0));
        steps.push(Ask::new("POST", &base).json(JSON, &body).into());
    }
    let mut ruled = root(properties(true), "second");
    with_rules(&mut d, &mut ruled);
    let path = format!("{CRDS}/ruled.{}", group(seed));
    for _ in 0..BROKEN {
        let broken = broken(&mut d, seed);
        let path = format!("{CRDS}?dryRun=All");
        steps.push(Ask::new("POST", path).json(JSON, &broken).into());
    }
    let mut crd = definition(seed, ruled);
    crd["metadata"]["resourceVersion"] = json!(format!("«rv:ruled.{}»", group(seed)));
    steps.push(Step::established(&path));
    steps.push(Step::Gate(Ask::new("PUT", &path).json(JSON, &crd)));
    steps.push(Step::probe(
        &base,
        object(seed, "probe", &json!({})),
        "second",
    ));
    for i in 0..CREATES {
        let body = object(seed, &format!("n{i}"), &spec(&mut d, 2));
        steps.push(Ask::new("POST", &base).json(JSON, &body).into());
    }
    for _ in 0..CHANGES {
        steps.push(change(&mut d, seed, &base));
    }
    let status = json!({"status": {"phase": d.pick(&["abc", "x", "ABC"])}});
    let path = format!("{base}/a/status");
    steps.push(Ask::new("PATCH", path).json(MERGE, &status).into());
    // Each definition that stays costs the later ones time.
    let path = format!("{CRDS}/ruled.{}", group(seed));
    steps.push(Step::Quiet(Ask::new("DELETE", path)));
    Sequence {
        name: String::new(),
        namespace: String::new(),
        steps,
    }
}

/// A definition with a rule that does not compile, or costs too much.
fn broken(d: &mut Dice, seed: u64) -> Value {
    let bounded = d.once_in(3);
    let mut root = root(properties(bounded), "any");
    let mut one = rule(d, Scope::Spec);
    if bounded {
        let whole = one["rule"].as_str().unwrap_or("").to_string();
        let (from, to) = d.pick(&[
            ("self.i", "self.none"),
            ("self.s", "self.i"),
            ("(", ""),
            ("==", "="),
            ("self.", "other."),
            ("'", "\""),
            ("&&", "+"),
            (">", "+"),
            (")", " "),
            ("size(", "sizes("),
        ]);
        one["rule"] = json!(whole.replacen(from, to, 1));
        if d.once_in(4) {
            one["messageExpression"] =
                json!(d.pick(&["self.i", "'a' + 1", "self.none", "'", "oldSelf.s"]));
        }
    }
    root["properties"]["spec"]["x-kubernetes-validations"] = json!([one]);
    let mut crd = definition(seed, root);
    crd["metadata"]["name"] = json!(format!("broken.{}", group(seed)));
    crd["spec"]["names"] = json!({"plural": "broken", "kind": "Broken"});
    crd
}

fn change(d: &mut Dice, seed: u64, base: &str) -> Step {
    let name = d.pick(OLD);
    let path = format!("{base}/{name}");
    let fresh = spec(d, 1);
    match d.roll(4) {
        0 => {
            let mut body = object(seed, name, &fresh);
            body["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»"));
            Ask::new("PUT", path).json(JSON, &body).into()
        }
        1 => {
            let path = format!("{path}?fieldManager=m&force=true");
            let body = object(seed, name, &fresh);
            Ask::new("PATCH", path).json(APPLY, &body).into()
        }
        _ => {
            // Some fields, so that the rest goes on as it is.
            let mut few = Map::new();
            for (k, v) in fresh.as_object().into_iter().flatten() {
                if d.once_in(6) {
                    few.insert(k.clone(), v.clone());
                }
            }
            Ask::new("PATCH", path)
                .json(MERGE, &json!({"spec": few}))
                .into()
        }
    }
}
