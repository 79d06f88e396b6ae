//! Filling in defaults. A null where null is not allowed counts as absent.

use serde_json::Value;

use super::Structural;

impl Structural {
    /// Drops nulls that are not allowed and fills in defaults.
    pub fn set_defaults(&self, v: &mut Value) {
        match v {
            Value::Object(map) => {
                map.retain(|key, value| {
                    let below = self.properties.get(key).or(self.additional.as_deref());
                    // A null stays where it is allowed, unknown, or an error to report.
                    !value.is_null() || below.is_none_or(|b| b.nullable || b.kind.is_none())
                });
                for (key, below) in &self.properties {
                    if let Some(default) = &below.default
                        && !map.contains_key(key)
                    {
                        map.insert(key.clone(), default.clone());
                    }
                }
                for (key, value) in map.iter_mut() {
                    if let Some(below) = self.properties.get(key).or(self.additional.as_deref()) {
                        below.set_defaults(value);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(below) = self.items.as_deref() {
                    for item in items {
                        if let (Value::Null, false, Some(default)) =
                            (&*item, below.nullable, &below.default)
                        {
                            *item = default.clone();
                        }
                        below.set_defaults(item);
                    }
                }
            }
            _ => {}
        }
    }
}
