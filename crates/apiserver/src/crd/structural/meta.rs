//! The metadata of embedded resources. Upstream: apiextensions-apiserver/pkg/apiserver/schema/objectmeta.

use api::{names, schema};
use machinery::causes::Cause;
use machinery::object::{set, str_at};
use machinery::{Causes, conform};
use serde_json::{Value, json};

use super::Structural;

impl Structural {
    /// Puts the metadata of embedded resources into its canonical form; gives the paths of its unknown fields.
    pub fn coerce(&self, object: &mut Value) -> Result<Vec<String>, String> {
        self.coerce_at(object, "").map_err(|e| e.text())
    }

    /// The same for a value at a path.
    pub fn coerce_at(&self, object: &mut Value, path: &str) -> Result<Vec<String>, Cause> {
        let (mut c, mut unknown) = (Causes::new(), Vec::new());
        if self.has_embedded {
            match path {
                "" => coerce(self, object, &mut c, &mut unknown),
                path => c.at(path, |c| coerce(self, object, c, &mut unknown)),
            }
        }
        unknown.sort_unstable();
        match c.as_slice().first() {
            Some(first) => Err(first.clone()),
            None => Ok(unknown),
        }
    }
}

/// Adds the first thing that is wrong.
fn coerce(s: &Structural, v: &mut Value, c: &mut Causes, unknown: &mut Vec<String>) {
    match v {
        Value::Object(map) => {
            for (key, value) in map {
                if s.embedded {
                    c.at(key, |c| field(key, value, c, unknown));
                }
                if let Some(below) = s.properties.get(key) {
                    c.at(key, |c| coerce(below, value, c, unknown));
                } else if let Some(below) = &s.additional {
                    c.key(key, |c| coerce(below, value, c, unknown));
                }
                if !c.is_empty() {
                    return;
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = s.items.as_deref() else {
                return;
            };
            for (i, item) in items.iter_mut().enumerate() {
                c.index(i, |c| coerce(below, item, c, unknown));
                if !c.is_empty() {
                    return;
                }
            }
        }
        _ => {}
    }
}

fn field(name: &str, value: &mut Value, c: &mut Causes, unknown: &mut Vec<String>) {
    match name {
        "apiVersion" | "kind" if !value.is_string() => c.invalid(value, "must be a string"),
        "metadata" => {
            let before = value.clone();
            let Some(meta) = schema::lookup("meta.k8s.io", "v1", "ObjectMeta") else {
                return;
            };
            match conform::conform_at(meta, value, c.path()) {
                Ok(found) => {
                    let bare = |t: String| {
                        t.strip_prefix("unknown field \"")
                            .map(|t| t.trim_end_matches('"').to_string())
                    };
                    unknown.extend(found.into_iter().filter_map(bare));
                    if value.is_null() {
                        *value = json!({});
                    }
                }
                Err(e) => c.invalid(&before, e),
            }
        }
        _ => {}
    }
}

/// Adds what is wrong with embedded resources.
pub fn validate(s: &Structural, v: &Value, c: &mut Causes) {
    if !s.has_embedded {
        return;
    }
    match v {
        Value::Object(map) => {
            if s.embedded {
                embedded(v, c);
            }
            for (key, value) in map {
                if let Some(below) = s.properties.get(key) {
                    c.at(key, |c| validate(below, value, c));
                } else if let Some(below) = &s.additional {
                    c.key(key, |c| validate(below, value, c));
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = s.items.as_deref() else {
                return;
            };
            for (i, item) in items.iter().enumerate() {
                c.index(i, |c| validate(below, item, c));
            }
        }
        _ => {}
    }
}

/// Adds what is wrong with one embedded resource.
pub fn embedded(v: &Value, c: &mut Causes) {
    for field in ["apiVersion", "kind"] {
        c.at(field, |c| match v.get(field) {
            None => c.required(""),
            Some(Value::String(text)) if text.is_empty() => {
                c.invalid(&json!(text), "must not be empty")
            }
            Some(Value::String(text)) if field == "kind" => {
                let problems = names::dns1035_label(&text.to_lowercase()).join(",");
                if !problems.is_empty() {
                    let why =
                        format!("may have mixed case, but should otherwise match: {problems}");
                    c.invalid(&json!(text), why);
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                c.invalid(
                    &json!(text),
                    format!("unexpected GroupVersion string: {text}"),
                );
            }
            Some(Value::String(_)) => {}
            Some(other) => c.invalid(other, "must be a string"),
        });
    }
    if !v.get("metadata").is_some_and(Value::is_object) {
        return;
    }
    let mut named = json!({"metadata": v["metadata"]});
    if str_at(&named, "metadata.name").is_empty() {
        // A name is not asked for.
        set(&mut named, "metadata.name", json!("fakename"));
    }
    let namespaced = !str_at(&named, "metadata.namespace").is_empty();
    machinery::meta::validate_generic(&named, namespaced, &names::path_segment, c);
}
