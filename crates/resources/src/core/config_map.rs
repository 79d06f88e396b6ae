//! ConfigMap. Upstream: pkg/registry/core/configmap, ValidateConfigMap.

use api::names;
use jiff::Timestamp;
use machinery::object::{bool_at, map_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::cells;

/// Sum of all values.
const BYTES_MAX: usize = 1 << 20;

struct ConfigMap;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "",
        "v1",
        "ConfigMap",
        "configmaps",
        Scope::Namespaced,
        ConfigMap,
    )
    .short(&["cm"])
}

impl Strategy for ConfigMap {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let mut total = 0;
        let data = map_at(obj, "data");
        let binary = map_at(obj, "binaryData");
        for (key, value) in data.into_iter().flatten() {
            causes.at("data", |c| {
                c.key(key, |c| {
                    key_problems(key, c);
                    if binary.is_some_and(|b| b.contains_key(key)) {
                        c.invalid(&json!(key), "duplicate of key present in binaryData");
                    }
                });
            });
            total += value.as_str().map_or(0, str::len);
        }
        for (key, value) in binary.into_iter().flatten() {
            causes.at("binaryData", |c| c.key(key, |c| key_problems(key, c)));
            total += decoded_len(value);
        }
        if total > BYTES_MAX {
            causes.at_root(|c| c.too_long(BYTES_MAX));
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        immutable(obj, before, &["data", "binaryData"], causes);
        self.validate(obj, causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::integer("Data"), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let count = |field| map_at(obj, field).map_or(0, serde_json::Map::len);
        vec![
            cells::name(obj),
            json!(count("data") + count("binaryData")),
            cells::age(obj, now),
        ]
    }
}

/// Checks a key of a ConfigMap or Secret at the current path.
pub fn key_problems(key: &str, c: &mut Causes) {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.len() > 253 {
        c.invalid(&json!(key), "must be no more than 253 characters");
    }
    if key.is_empty() || !key.bytes().all(fine) {
        c.invalid(
            &json!(key),
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        );
    }
    if key == "." || key == ".." {
        c.invalid(&json!(key), format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        c.invalid(&json!(key), "must not start with '..'");
    }
}

/// The rules of `immutable: true` for the given fields.
pub fn immutable(obj: &Value, before: &Value, fields: &[&str], causes: &mut Causes) {
    if bool_at(before, "immutable") != Some(true) {
        return;
    }
    let text = "field is immutable when `immutable` is set";
    if bool_at(obj, "immutable") != Some(true) {
        causes.at("immutable", |c| c.forbidden(text));
    }
    for field in fields {
        if obj.get(field) != before.get(field) {
            causes.at(field, |c| c.forbidden(text));
        }
    }
}

/// Bytes behind a base64 text.
pub fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or("").trim_end_matches('=');
    text.len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut c = Causes::new();
        match before {
            Some(b) => ConfigMap.validate_update(obj, b, &mut c),
            None => ConfigMap.validate(obj, &mut c),
        }
        c.as_slice()
            .iter()
            .map(machinery::causes::Cause::text)
            .collect()
    }

    #[test]
    fn keys_sizes_and_immutability() {
        assert!(
            problems(
                &json!({"data": {"a.b-c_D": "x"}, "binaryData": {"e": "AA=="}}),
                None
            )
            .is_empty()
        );
        let bad = problems(
            &json!({"data": {"a/b": "x", "..": "x", "d": "x"}, "binaryData": {"d": ""}}),
            None,
        );
        assert!(
            bad[0].starts_with("data[..]: Invalid value: \"..\": must not be '..'"),
            "{bad:?}"
        );
        assert!(bad[1].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key must"));
        assert_eq!(
            bad[2],
            "data[d]: Invalid value: \"d\": duplicate of key present in binaryData"
        );
        let big = json!({"data": {"a": "x".repeat((1 << 20) + 1)}});
        assert_eq!(
            problems(&big, None),
            ["[]: Too long: may not be more than 1048576 bytes"]
        );
        let before = json!({"immutable": true, "data": {"a": "1"}});
        assert_eq!(
            problems(&json!({"data": {"a": "2"}}), Some(&before)),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
    }
}
