//! Filling in defaults, and dropping nulls that are not allowed.
//! Upstream: apiextensions-apiserver/pkg/apiserver/schema/defaulting/{algorithm,prunenulls}.go.

use serde_json::Value;

use super::Structural;

impl Structural {
    /// Drops nulls that are not allowed and have no default.
    pub fn drop_nulls(&self, v: &mut Value) {
        match v {
            Value::Object(map) => {
                map.retain(|key, value| match self.below(key) {
                    Some(below) if value.is_null() => below.nullable || below.default.is_some(),
                    Some(below) => {
                        below.drop_nulls(value);
                        true
                    }
                    None => true,
                });
            }
            Value::Array(items) => {
                if let Some(below) = self.items.as_deref() {
                    items.iter_mut().for_each(|item| below.drop_nulls(item));
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults, for nulls that are not allowed too.
    pub fn set_defaults(&self, v: &mut Value) {
        if !self.has_defaults {
            return;
        }
        match v {
            Value::Object(map) => {
                for (key, below) in &self.properties {
                    let missing = map.get(key).is_none_or(|v| v.is_null() && !below.nullable);
                    if let Some(default) = below.default.as_ref().filter(|_| missing) {
                        map.insert(key.clone(), default.clone());
                    }
                }
                for (key, value) in map.iter_mut() {
                    let Some(below) = self.below(key) else {
                        continue;
                    };
                    if let (Value::Null, false, Some(default)) =
                        (&*value, below.nullable, &below.default)
                    {
                        *value = default.clone();
                    }
                    below.set_defaults(value);
                }
            }
            Value::Array(items) => {
                let Some(below) = self.items.as_deref() else {
                    return;
                };
                for item in items {
                    if let (Value::Null, false, Some(default)) =
                        (&*item, below.nullable, &below.default)
                    {
                        *item = default.clone();
                    }
                    below.set_defaults(item);
                }
            }
            _ => {}
        }
    }
}
