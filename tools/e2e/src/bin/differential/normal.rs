//! Answers without what may differ between two servers: uids, versions, times, tokens.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

static UID: LazyLock<Regex> =
    LazyLock::new(|| pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)(resource ?version(?: in object meta| in precondition)?:? "?|current: |\()(\d+)"#,
    )
});
static INNER_VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(\\?"resourceVersion\\?":\\?")\d+"#));
/// `UPPER-` of the bodies, and what is left of it where one letter is broken.
static GENERATED: LazyLock<Regex> =
    LazyLock::new(|| pattern("(UPPE.|UPP.R|UP.ER|U.PER|.PPER)-[a-z0-9]{5}"));
static AGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d+s$"));
static RESOURCE_VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r#"resourceVersion: "\d+""#));

#[allow(clippy::expect_used)] // Constant patterns.
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// The names that uids and versions get, in the order in which they are seen.
#[derive(Clone, Default)]
pub struct Normal {
    uids: HashMap<String, usize>,
    versions: HashMap<String, usize>,
}

impl Normal {
    /// A JSON answer.
    pub fn value(&mut self, mut v: Value) -> Value {
        for (version, schemas) in [
            ("openapi", "/components/schemas"),
            ("swagger", "/definitions"),
        ] {
            if v.get(version).is_some() {
                return published(v.pointer(schemas));
            }
        }
        let is_list = v.get("items").is_some() || v["kind"] == "Table";
        if is_list {
            let version = v.pointer_mut("/metadata/resourceVersion");
            if let Some(version) = version.filter(|v| v.is_string()) {
                *version = json!("LIST");
            }
        }
        if let Some(Value::Array(resources)) = v.get_mut("resources") {
            // Upstream's come out of a map.
            resources.sort_by_key(|r| r["name"].to_string());
        }
        self.walk(&mut v, "");
        if v["kind"] == "Status" {
            unordered(&mut v);
        }
        v
    }

    /// A plain or YAML answer.
    pub fn text(&mut self, text: &str) -> String {
        let text = UID.replace_all(text, "UID");
        let text = TIME.replace_all(&text, "TIME");
        let text = RESOURCE_VERSION.replace_all(&text, "resourceVersion: RV");
        // The reference's objects lie in a folder of their own.
        text.replace("/registry/apiextensions.kubernetes.io/", "/registry/")
    }

    fn walk(&mut self, v: &mut Value, key: &str) {
        match v {
            Value::Object(map) => {
                for (key, v) in map.iter_mut() {
                    self.walk(v, key);
                }
                // Columns describe themselves in words of our own.
                if key == "columnDefinitions" {
                    map.remove("description");
                }
                for name in ["managedFields", "causes"] {
                    // Entries of one manager are in the order of their times; causes that Go finds
                    // in a map in any.
                    if let Some(Value::Array(list)) = map.get_mut(name) {
                        list.sort_by_key(Value::to_string);
                    }
                }
            }
            Value::Array(list) => {
                for v in list.iter_mut() {
                    self.walk(v, key);
                }
            }
            Value::String(text) => *text = self.string(key, text),
            _ => {}
        }
    }

    fn string(&mut self, key: &str, text: &str) -> String {
        match key {
            "resourceVersion"
                if text != "0" && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) =>
            {
                let next = self.versions.len();
                let n = self.versions.entry(text.into()).or_insert(next);
                return format!("rv{n}");
            }
            "continue" => return token(text),
            // Each server's own writes bear its program's name.
            "manager" if text == "refapi" => return "kube-apiserver".into(),
            "cells" if AGE.is_match(text) => return "AGE".into(),
            _ => {}
        }
        let text = UID.replace_all(text, |found: &Captures<'_>| {
            let next = self.uids.len();
            let n = self.uids.entry(found[0].to_string()).or_insert(next);
            format!("uid{n}")
        });
        let text = TIME.replace_all(&text, "TIME");
        let text = INNER_VERSION.replace_all(&text, "${1}RV");
        let text = GENERATED.replace_all(&text, "UPPER-RANDOM");
        // The reference's objects lie in a folder of their own.
        let text = text.replace("/registry/apiextensions.kubernetes.io/", "/registry/");
        let text = VERSION.replace_all(&text, "${1}RV");
        shown(&text).unwrap_or_else(|| text.into_owned())
    }
}

/// A text that shows a whole object as an invalid value, with the object's managers sorted as they are elsewhere.
fn shown(text: &str) -> Option<String> {
    let (before, quoted) = text.split_once("Invalid value: \"{")?;
    let quoted = &text[text.len() - quoted.len() - 2..];
    let mut values = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
    let mut object: Value = serde_json::from_str(&values.next()?.ok()?).ok()?;
    let rest = &quoted[values.byte_offset()..];
    let managers = object.pointer_mut("/metadata/managedFields");
    let managers = managers.and_then(Value::as_array_mut)?;
    managers.sort_by_key(Value::to_string);
    let object = Value::String(object.to_string());
    Some(format!("{before}Invalid value: {object}{rest}"))
}

/// Of an OpenAPI document what the definitions of custom resources say: the rest is about built-in kinds, of which
/// each server has its own, and descriptions are in words of our own.
fn published(schemas: Option<&Value>) -> Value {
    let schemas = schemas.and_then(Value::as_object).into_iter().flatten();
    let custom = schemas.filter(|(name, _)| name.starts_with("com.example."));
    let mut out = Map::new();
    for (name, schema) in custom {
        let mut schema = schema.clone();
        undescribed(&mut schema);
        out.insert(name.clone(), schema);
    }
    json!({"published": out})
}

/// Without descriptions, and references without what held them beside those.
fn undescribed(v: &mut Value) {
    if let Value::Array(list) = v {
        return list.iter_mut().for_each(undescribed);
    }
    let Value::Object(map) = v else {
        return;
    };
    if map.get("description").is_some_and(Value::is_string) {
        map.remove("description");
    }
    let of = map.get("allOf").and_then(|all| all.get(0)).cloned();
    match of.filter(|of| map.len() == 1 && of.get("$ref").is_some()) {
        Some(of) => *v = of,
        None => map.values_mut().for_each(undescribed),
    }
}

/// Sorts the causes within a message: those that Go finds in a map come in any order.
fn unordered(status: &mut Value) {
    let text = |v: &Value, name: &str| v[name].as_str().unwrap_or("").to_string();
    let causes = status["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut all: Vec<String> = causes
        .iter()
        .map(|c| format!("{}: {}", text(c, "field"), text(c, "message")))
        .collect();
    all.sort_unstable();
    all.dedup();
    let message = text(status, "message");
    if message.contains("errors:\n  ") {
        let mut lines: Vec<&str> = message.split('\n').collect();
        lines.sort_unstable();
        status["message"] = json!(lines.join("\n"));
        return;
    }
    let Some((head, tail)) = message.split_once(" is invalid: [") else {
        return;
    };
    let joined = all.join(", ");
    if tail.len() == joined.len() + 1 && all.iter().all(|one| tail.contains(one.as_str())) {
        status["message"] = json!(format!("{head} is invalid: [{joined}]"));
    }
}

/// A continue token without its version.
fn token(text: &str) -> String {
    let data = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    match serde_json::from_slice::<Value>(&data) {
        Ok(mut v) => {
            if v["rv"].as_i64().is_some_and(|n| n > 0) {
                v["rv"] = json!("RV");
            }
            v.to_string()
        }
        Err(_) => text.into(),
    }
}

/// Where two values first differ.
pub fn difference(a: &Value, b: &Value, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (k, v) in x {
                match y.get(k) {
                    None => return Some(format!("{path}/{k}: ours {v}, not there at the peer's")),
                    Some(w) => {
                        if let Some(d) = difference(v, w, &format!("{path}/{k}")) {
                            return Some(d);
                        }
                    }
                }
            }
            let more = y.iter().find(|(k, _)| !x.contains_key(*k));
            more.map(|(k, w)| format!("{path}/{k}: only the peer has {w}"))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let mut both = x.iter().zip(y).enumerate();
            both.find_map(|(i, (v, w))| difference(v, w, &format!("{path}/{i}")))
        }
        _ if a == b => None,
        _ => Some(format!("{path}:\n      ours {a}\n      peer {b}")),
    }
}
