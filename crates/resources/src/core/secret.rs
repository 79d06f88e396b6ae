//! Secret. Upstream: pkg/registry/core/secret, ValidateSecret.

use api::names;
use jiff::Timestamp;
use machinery::object::{map_at, map_mut, remove, set, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::config_map::{decoded_len, immutable, key_problems};
use crate::cells;

/// Sum of all values.
const BYTES_MAX: usize = 1 << 20;

struct Secret;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new("", "v1", "Secret", "secrets", Scope::Namespaced, Secret)
}

impl Strategy for Secret {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if let Some(Value::Object(text)) = remove(obj, "stringData") {
            let data = map_mut(obj, "data");
            for (key, value) in text {
                let plain = value.as_str().unwrap_or_default();
                data.insert(key, json!(base64(plain.as_bytes())));
            }
        }
        if str_at(obj, "type").is_empty() {
            set(obj, "type", json!("Opaque"));
        }
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        if str_at(obj, "type").is_empty() {
            set(obj, "type", json!(str_at(before, "type")));
        }
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let data = map_at(obj, "data");
        let mut total = 0;
        causes.at("data", |c| {
            for (key, value) in data.into_iter().flatten() {
                c.key(key, |c| key_problems(key, c));
                total += decoded_len(value);
            }
            if total > BYTES_MAX {
                c.too_long(BYTES_MAX);
            }
        });
        let has = |key: &str| data.is_some_and(|d| d.contains_key(key));
        let require = |causes: &mut Causes, keys: &[&str]| {
            for key in keys.iter().filter(|k| !has(k)) {
                causes.at("data", |c| c.key(key, |c| c.required("")));
            }
        };
        match str_at(obj, "type") {
            "kubernetes.io/service-account-token" => {
                let name = "kubernetes.io/service-account.name";
                let given = map_at(obj, "metadata.annotations").and_then(|a| a.get(name));
                if given.and_then(Value::as_str).unwrap_or("").is_empty() {
                    causes.at("metadata", |c| {
                        c.at("annotations", |c| c.key(name, |c| c.required("")));
                    });
                }
            }
            "kubernetes.io/dockercfg" => require(causes, &[".dockercfg"]),
            "kubernetes.io/dockerconfigjson" => require(causes, &[".dockerconfigjson"]),
            "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
                require(causes, &["username", "password"]);
            }
            "kubernetes.io/ssh-auth" => require(causes, &["ssh-privatekey"]),
            "kubernetes.io/tls" => require(causes, &["tls.crt", "tls.key"]),
            _ => {}
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        if str_at(obj, "type") != str_at(before, "type") {
            let new = json!(str_at(obj, "type"));
            causes.at("type", |c| c.invalid(&new, "field is immutable"));
        }
        immutable(obj, before, &["data"], causes);
        self.validate(obj, causes);
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["type"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("type", str_at(obj, "type").to_string())]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Type"),
            Column::integer("Data"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let count = map_at(obj, "data").map_or(0, serde_json::Map::len);
        vec![
            cells::name(obj),
            json!(str_at(obj, "type")),
            json!(count),
            cells::age(obj, now),
        ]
    }
}

/// Standard base64 with padding.
fn base64(data: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_becomes_data() {
        let mut s = json!({"data": {"a": "AA=="}, "stringData": {"a": "hi", "b": ""}});
        Secret.set_defaults(&mut s);
        assert_eq!(s, json!({"data": {"a": "aGk=", "b": ""}, "type": "Opaque"}));
    }

    #[test]
    fn types_ask_for_their_keys() {
        for (kind, expected) in [
            (
                "kubernetes.io/tls",
                vec![
                    "data[tls.crt]: Required value",
                    "data[tls.key]: Required value",
                ],
            ),
            (
                "kubernetes.io/ssh-auth",
                vec!["data[ssh-privatekey]: Required value"],
            ),
            ("anything", vec![]),
        ] {
            let mut c = Causes::new();
            Secret.validate(&json!({"type": kind}), &mut c);
            let found: Vec<String> = c
                .as_slice()
                .iter()
                .map(machinery::causes::Cause::text)
                .collect();
            assert_eq!(found, expected);
        }
    }
}
