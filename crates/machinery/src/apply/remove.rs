//! Taking fields out of a value. Upstream: structured-merge-diff/typed/remove.go (6.4.2, where a value that nothing is
//! left of becomes null; 6.3 made it empty).

use serde_json::{Map, Value};

use super::fields::{Element, FieldSet};
use super::types::{Form, TypeRef};
use super::validate::item_element;

/// A value without the items and fields of a set. Atomic lists and maps below stay or go as a whole.
pub fn remove(t: TypeRef<'_>, value: &Value, gone: &FieldSet) -> Value {
    walk(t, value, gone).unwrap_or(Value::Null)
}

/// What is left; `None` where that is nothing.
fn walk(t: TypeRef<'_>, value: &Value, gone: &FieldSet) -> Option<Value> {
    match (t.form(Some(value)), value) {
        (Form::Scalar(_), v) => Some(v.clone()),
        (Form::List(l), Value::Array(items)) if !l.atomic && !items.is_empty() => {
            let mut out = Vec::new();
            for item in items {
                let e = item_element(&l, item).unwrap_or_else(|_| Element::nameless());
                if gone.has_member(&e) {
                    continue;
                }
                out.push(match gone.below(&e) {
                    Some(below) => walk(l.item, item, below).unwrap_or(Value::Null),
                    None => item.clone(),
                });
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        (Form::Map(m), Value::Object(fields)) if !m.atomic && !fields.is_empty() => {
            let mut out = Map::new();
            for (name, below) in fields {
                let e = Element::Field(name.clone());
                if gone.has_member(&e) {
                    continue;
                }
                let value = match gone.below(&e) {
                    Some(set) => {
                        let t = m.value(name).unwrap_or(TypeRef::Deduced);
                        walk(t, below, set).unwrap_or(Value::Null)
                    }
                    None => below.clone(),
                };
                out.insert(name.clone(), value);
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        // Atomic, empty or of another type: nothing of it is left.
        _ => None,
    }
}
