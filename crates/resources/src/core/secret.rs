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
            "kubernetes.io/dockercfg" => {
                require(causes, &[".dockercfg"]);
                docker_config(data, ".dockercfg", causes);
            }
            "kubernetes.io/dockerconfigjson" => {
                require(causes, &[".dockerconfigjson"]);
                docker_config(data, ".dockerconfigjson", causes);
            }
            "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
                require(causes, &["username", "password"]);
            }
            "kubernetes.io/ssh-auth" => {
                let key = "ssh-privatekey";
                if data
                    .and_then(|d| d.get(key))
                    .and_then(Value::as_str)
                    .is_none_or(str::is_empty)
                {
                    causes.at("data", |c| c.key(key, |c| c.required("")));
                }
            }
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

/// The file of a registry's credentials must be a JSON object.
fn docker_config(data: Option<&serde_json::Map<String, Value>>, key: &str, causes: &mut Causes) {
    use base64::Engine;
    let Some(text) = data.and_then(|d| d.get(key)).and_then(Value::as_str) else {
        return;
    };
    let bytes = base64::prelude::BASE64_STANDARD
        .decode(text)
        .unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let what = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                _ => "bool",
            };
            format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}")
        }
        Err(e) if e.is_eof() => "unexpected end of JSON input".into(),
        Err(e) => {
            let at = bytes.iter().find(|b| !b.is_ascii_whitespace());
            let first = at.map(|b| char::from(*b)).filter(|b| *b != '{');
            first.map_or(e.to_string(), |b| {
                format!("invalid character '{b}' looking for beginning of value")
            })
        }
    };
    let hidden = json!("<secret contents redacted>");
    causes.at("data", |c| c.key(key, |c| c.invalid(&hidden, why)));
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
    fn registry_credentials_are_json() {
        for (text, expected) in [
            ("{}", ""),
            ("", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
        ] {
            let mut c = Causes::new();
            let data = json!({".dockerconfigjson": base64(text.as_bytes())});
            Secret.validate(
                &json!({"type": "kubernetes.io/dockerconfigjson", "data": data}),
                &mut c,
            );
            let found: Vec<String> = c.as_slice().iter().map(|c| c.text()).collect();
            let start = "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": ";
            let wanted: Vec<String> = Some(format!("{start}{expected}"))
                .filter(|_| !expected.is_empty())
                .into_iter()
                .collect();
            assert_eq!(found, wanted);
        }
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
