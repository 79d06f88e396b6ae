//! Which old value a value comes from. Upstream: k8s.io/apiserver/pkg/cel/common/{equality,maplist}.go.

use serde_json::Value;

use super::{ListKind, Structural};

/// An old value and its schema; nothing where none can be told.
#[derive(Clone, Copy, Default)]
pub struct Old<'a>(Option<(&'a Value, &'a Structural)>);

/// An old value beside the new one.
#[derive(Clone, Copy, Default)]
pub struct Both<'a>(Old<'a>, Option<&'a Value>);

impl Both<'_> {
    /// Whether an old value can be told.
    pub fn is_known(&self) -> bool {
        self.0.is_known()
    }

    /// Whether nothing has changed.
    pub fn is_same(&self) -> bool {
        self.1.is_some_and(|new| self.0.equals(new))
    }
}

impl<'a> Old<'a> {
    /// Of a value that is there.
    pub fn of(value: &'a Value, schema: &'a Structural) -> Self {
        Self(Some((value, schema)))
    }

    /// Whether an old value can be told.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// It and what it became.
    pub fn with_new(self, new: &'a Value) -> Both<'a> {
        Both(self, Some(new))
    }

    /// That of a field.
    pub fn key(&self, field: &str) -> Self {
        Self(
            self.0
                .and_then(|(old, s)| Some((old.get(field)?, s.below(field)?))),
        )
    }

    /// That of an item of a list.
    pub fn index(&self, item: &Value) -> Self {
        Self(self.0.and_then(|(old, s)| {
            let found = by_keys(&s.list, old.as_array()?, item)?;
            Some((found, s.items.as_deref()?))
        }))
    }

    /// Whether nothing has changed. Lists of type map may have another order.
    pub fn equals(&self, new: &Value) -> bool {
        let Some((old, s)) = self.0 else { return false };
        match (old, new) {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => match &s.list {
                ListKind::Map(keys) if !keys.is_empty() => {
                    b.iter().all(|item| self.index(item).equals(item))
                }
                _ => a == b,
            },
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && b.iter().all(|(k, v)| self.key(k).equals(v))
            }
            _ => old == new,
        }
    }
}

/// The first item that has the same keys as another.
pub fn by_keys<'a>(list: &ListKind, items: &'a [Value], like: &Value) -> Option<&'a Value> {
    let ListKind::Map(keys) = list else {
        return None;
    };
    let scalar = |v: &Value| !(v.is_null() || v.is_array() || v.is_object());
    let same = |item: &Value, key: &String| match (item.get(key), like.get(key)) {
        (Some(a), Some(b)) => scalar(a) && a == b,
        _ => false,
    };
    if keys.is_empty() {
        return None;
    }
    items.iter().find(|item| keys.iter().all(|k| same(item, k)))
}
