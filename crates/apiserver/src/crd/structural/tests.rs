use machinery::Causes;
use serde_json::{Value, json};

use super::{Before, Check, Structural};
use crate::crd::validation;

fn schema(spec: Value) -> Structural {
    let full = json!({"type": "object", "properties": {"spec": spec}});
    Structural::parse(&full)
}

fn check(s: &Structural, object: &Value, before: Option<&Value>, causes: &mut Causes) {
    let check = Check {
        object,
        before,
        status: false,
        scale: None,
    };
    s.validate(&check, causes);
}

fn problems(schema: &Structural, spec: Value) -> Vec<String> {
    let mut causes = Causes::new();
    check(schema, &json!({"spec": spec}), None, &mut causes);
    causes
        .as_slice()
        .iter()
        .map(machinery::causes::Cause::text)
        .collect()
}

#[test]
fn values_are_checked_with_upstreams_texts() {
    let object = |p: Value| json!({"type": "object", "properties": p});
    for (spec, value, expected) in [
        (
            object(json!({"x": {"type": "string"}})),
            json!({"x": 1}),
            "spec.x: Invalid value: \"integer\": spec.x in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "required": ["x"]}),
            json!({}),
            "spec.x: Required value",
        ),
        (
            object(json!({"x": {"type": "string", "enum": ["b", "a"]}})),
            json!({"x": "c"}),
            "spec.x: Unsupported value: \"c\": supported values: \"b\", \"a\"",
        ),
        (
            object(json!({"x": {"type": "string", "maxLength": 5}})),
            json!({"x": "abcdef"}),
            "spec.x: Too long: may not be more than 5 bytes",
        ),
        (
            object(json!({"x": {"type": "array", "maxItems": 2, "items": {"type": "integer"}}})),
            json!({"x": [1, 2, 3]}),
            "spec.x: Too many: 3: must have at most 2 items",
        ),
        (
            object(json!({"x": {"type": "integer", "minimum": 1}})),
            json!({"x": 0}),
            "spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1",
        ),
        (
            object(json!({"x": {"type": "string", "pattern": "^a$"}})),
            json!({"x": "b"}),
            "spec.x: Invalid value: \"b\": spec.x in body should match '^a$'",
        ),
        (
            object(
                json!({"x": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "string"}}}}}),
            ),
            json!({"x": [{"n": "a"}, {"n": "a"}]}),
            "spec.x[1]: Duplicate value: {\"n\":\"a\"}",
        ),
        (
            object(json!({"x": {"x-kubernetes-int-or-string": true}})),
            json!({"x": true}),
            "spec.x: Invalid value: \"boolean\": spec.x in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": "1", "b": "2"}),
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
    ] {
        assert_eq!(problems(&schema(spec), value), [expected]);
    }
}

#[test]
fn unchanged_parts_are_not_checked_again() {
    let s = schema(
        json!({"type": "object", "properties": {"x": {"type": "string", "maxLength": 1}, "y": {"type": "string"}}}),
    );
    let before = json!({"spec": {"x": "long", "y": "1"}});
    let mut causes = Causes::new();
    check(
        &s,
        &json!({"spec": {"x": "long", "y": "2"}}),
        Some(&before),
        &mut causes,
    );
    assert!(causes.is_empty());
    check(
        &s,
        &json!({"spec": {"x": "longer", "y": "2"}}),
        Some(&before),
        &mut causes,
    );
    assert!(!causes.is_empty());
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let s = schema(json!({"type": "object", "properties": {
        "a": {"type": "integer", "default": 3},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"k": {"type": "object", "properties": {"in": {"type": "string"}}}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string", "default": "x"}}}}}}));
    let mut v = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "other": 1,
        "spec": {"a": null, "zzz": 1, "free": {"any": {"thing": 1}, "k": {"out": 1}}, "list": [{"c": 1}]}});
    let gone = s.prune(&mut v, true);
    s.drop_nulls(&mut v);
    assert_eq!(
        gone,
        ["other", "spec.free.k.out", "spec.list[0].c", "spec.zzz"]
    );
    s.set_defaults(&mut v);
    assert_eq!(
        v["spec"],
        json!({"a": 3, "free": {"any": {"thing": 1}, "k": {}}, "list": [{"b": "x"}]})
    );
}

#[test]
fn schemas_that_are_not_structural_are_refused() {
    for (schema, expected) in [
        (
            json!({}),
            "type: Required value: must not be empty at the root",
        ),
        (
            json!({"type": "string"}),
            "type: Invalid value: \"string\": must be object at the root",
        ),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            "properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array"}}}),
            "properties[a].items: Required value: must be specified",
        ),
        (
            json!({"type": "object", "$ref": "x"}),
            "$ref: Forbidden: $ref is not supported",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "text"}}}),
            "properties[a].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
    ] {
        let crd = json!({"spec": {"versions": [{"name": "v1", "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
        let mut causes = Causes::new();
        validation::validate(&crd, None, &mut causes);
        let all: Vec<String> = causes.as_slice().iter().map(|c| c.text()).collect();
        let expected = format!("spec.validation.openAPIV3Schema.{expected}");
        assert!(all.contains(&expected), "{expected} not in {all:#?}");
    }
}

#[test]
fn rules_read_as_upstreams() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max"},
            {"rule": "self.min >= 0", "messageExpression": "'min is ' + string(self.min)", "fieldPath": ".min"},
            {"rule": "self.max >= oldSelf.max", "message": "max must not shrink"}],
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
            "name": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self.startsWith('a')", "reason": "FieldValueForbidden", "message": "no"}]}}}}});
    let s = parse(schema);
    let texts = |object: Value, before: Option<Value>| {
        let mut c = Causes::new();
        check(&s, &object, before.as_ref(), &mut c);
        c.as_slice().iter().map(|x| x.text()).collect::<Vec<_>>()
    };
    let with =
        |min: i64, max: i64, name: &str| json!({"spec": {"min": min, "max": max, "name": name}});
    assert_eq!(texts(with(1, 2, "a"), None), [""; 0]);
    assert_eq!(
        texts(with(-3, -5, "b"), None),
        [
            "spec: Invalid value: failed rule: self.min <= self.max",
            "spec.min: Invalid value: min is -3",
            "spec.name: Forbidden: no",
        ]
    );
    assert_eq!(
        texts(with(1, 2, "b"), Some(with(1, 3, "b"))),
        ["spec: Invalid value: max must not shrink"],
        "what did not change passes"
    );
    assert_eq!(
        texts(json!({"spec": {"min": 1}}), None),
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"]
    );
}

#[test]
fn rules_must_compile() {
    let mut c = Causes::new();
    parse(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.nope == 1"}]}))
        .check_rules(&Before::default(), &|_| false, &mut c);
    let text = c.as_slice()[0].text();
    assert!(
        text.starts_with("x-kubernetes-validations[0].rule: Invalid value: ")
            && text.contains("compilation failed: ERROR: <input>:1:5: undefined field 'nope'"),
        "{text}"
    );
}

#[test]
fn rules_must_not_cost_too_much() {
    let found = |schema: Value| {
        let mut c = Causes::new();
        parse(schema).check_rules(&Before::default(), &|_| false, &mut c);
        c.as_slice().iter().map(|x| x.text()).collect::<Vec<_>>()
    };
    let nested = |max: Option<u64>| {
        let mut list = json!({"type": "array", "items": {"type": "string", "maxLength": 10}});
        if let Some(max) = max {
            list["maxItems"] = json!(max);
        }
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"list": list},
            "x-kubernetes-validations": [{"rule": "self.list.all(x, self.list.all(y, x == y))"}]}}})
    };
    let hint = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    let rule = "properties[spec].x-kubernetes-validations[0].rule: Forbidden: ";
    assert_eq!(
        found(nested(None)),
        [
            format!("{rule}estimated rule cost exceeds budget by factor of more than 100x {hint}"),
            format!(
                "{rule}contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            ),
            format!(
                "<nil>: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {hint}"
            ),
        ]
    );
    assert!(found(nested(Some(100))).is_empty());
    let text = json!({"type": "object", "properties": {"s": {"type": "string"}, "m": {"type": "object",
        "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self.contains('abc')"}]}}}});
    assert_eq!(
        found(text),
        [
            format!("properties[m].additionalProperties.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {hint}"),
            "properties[m].additionalProperties.x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema".to_string(),
            format!("<nil>: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {hint}"),
        ]
    );
}

/// What upstream's server says of the schema in `costs.json`; what it does not name is cheap enough.
#[test]
fn estimates_are_those_of_upstream() {
    let schema = serde_json::from_str(include_str!("costs.json")).expect("a schema");
    let mut c = Causes::new();
    parse(schema).check_rules(&Before::default(), &|_| false, &mut c);
    let short = |x: &machinery::causes::Cause| {
        let text = x.text();
        let end = text.find(" (try").unwrap_or(text.len());
        text[..end]
            .replace("x-kubernetes-validations[0]", "*")
            .replace("properties[spec].", "")
    };
    let mut found: Vec<String> = c.as_slice().iter().map(short).collect();
    found.sort();
    let rule = "estimated rule cost exceeds budget by factor of";
    let part =
        "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
    let mut wanted = vec![
        format!("properties[i].*.rule: Forbidden: {rule} 1.8x"),
        format!("properties[c].*.rule: Forbidden: {rule} more than 100x"),
        "properties[c].*.messageExpression: Forbidden: estimated messageExpression cost exceeds budget by factor of more than 100x".to_string(),
        format!("properties[k].*.rule: Forbidden: {rule} more than 100x"),
        format!("properties[b].items.*.rule: Forbidden: {rule} more than 100x"),
        format!("properties[a].*.rule: Forbidden: {rule} more than 100x"),
        format!("*.rule: Forbidden: {rule} 11.5x"),
        format!("properties[c].*.messageExpression: Forbidden: {part}"),
        format!("properties[k].*.rule: Forbidden: {part}"),
        format!("properties[a].*.rule: Forbidden: {part}"),
        format!("properties[b].items.*.rule: Forbidden: {part}"),
        "<nil>: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x".to_string(),
    ];
    wanted.sort();
    assert_eq!(found, wanted);
}

fn parse(full: Value) -> Structural {
    Structural::parse(&full)
}
