//! Dropping what a schema does not know, and telling what that was.

use serde_json::Value;

use super::{ROOT, Structural};

impl Structural {
    /// Removes unknown fields of an object's root; gives their paths, sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut gone = Vec::new();
        prune(self, object, true, false, &mut String::new(), &mut gone);
        gone.sort_unstable();
        gone
    }
}

fn prune(
    s: &Structural,
    v: &mut Value,
    resource: bool,
    kept: bool,
    path: &mut String,
    gone: &mut Vec<String>,
) {
    let kept = kept || s.preserve_unknown;
    match v {
        Value::Object(map) => {
            map.retain(|key, _| {
                let known = kept
                    || s.additional.is_some()
                    || s.properties.contains_key(key)
                    || (resource && ROOT.contains(&key.as_str()));
                if !known {
                    gone.push(if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    });
                }
                known
            });
            for (key, value) in map.iter_mut() {
                if resource && ROOT.contains(&key.as_str()) {
                    continue;
                }
                let below = s.properties.get(key).or(s.additional.as_deref());
                let Some(below) = below else { continue };
                let len = path.len();
                if len > 0 {
                    path.push('.');
                }
                path.push_str(key);
                prune(
                    below,
                    value,
                    below.embedded,
                    kept && !declares(below),
                    path,
                    gone,
                );
                path.truncate(len);
            }
        }
        Value::Array(items) => {
            let Some(below) = s.items.as_deref() else {
                return;
            };
            for (i, item) in items.iter_mut().enumerate() {
                let len = path.len();
                path.push_str(&format!("[{i}]"));
                prune(
                    below,
                    item,
                    below.embedded,
                    kept && !declares(below),
                    path,
                    gone,
                );
                path.truncate(len);
            }
        }
        _ => {}
    }
}

/// Whether a schema says itself what is below it; then preserving ends there.
fn declares(s: &Structural) -> bool {
    !s.properties.is_empty() || s.additional.is_some() || s.items.is_some()
}
