//! Parts of values: fields, entries, elements. Upstream: cel-go interpreter/attributes.go.

use std::sync::Arc;

use super::Answer;
use crate::library;
use crate::program::EvalError;
use crate::value::{List, Value};

/// The name of upstream's type of a value that nothing can be repeated over.
pub(super) fn go_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "types.Null",
        Value::Bool(_) => "types.Bool",
        Value::Int(_) => "types.Int",
        Value::Uint(_) => "types.Uint",
        Value::Double(_) => "types.Double",
        Value::String(_) => "types.String",
        Value::Bytes(_) => "types.Bytes",
        Value::Timestamp(_) => "types.Timestamp",
        Value::Duration(_) => "types.Duration",
        Value::Type(_) => "*types.Type",
        Value::Optional(_) => "*types.Optional",
        Value::Foreign(f) => f.type_name(),
        Value::List(_) => "traits.Lister",
        Value::Map(_) => "traits.Mapper",
    }
}

fn missing(key: impl std::fmt::Display) -> EvalError {
    EvalError::of(format!("no such key: {key}"))
}

fn not_an_index(v: &Value) -> EvalError {
    EvalError::of(match v {
        Value::Double(_) => format!("unsupported index value {} in list", library::shown(v)),
        v => format!("unsupported index type '{}' in list", v.type_name()),
    })
}

pub(super) fn select(operand: &Value, field: &str) -> Answer {
    match operand {
        Value::Map(m) => m.field(field).cloned().ok_or_else(|| missing(field)),
        Value::List(_) => Err(not_an_index(&Value::text(""))),
        _ => Err(missing(field)),
    }
}

pub(super) fn has(operand: &Value, field: &str) -> Result<bool, EvalError> {
    match operand {
        // An object's field that is null is not set.
        Value::Map(m) => Ok(m
            .field(field)
            .is_some_and(|v| m.type_name.is_none() || !matches!(v, Value::Null))),
        Value::Optional(Some(v)) => has(v, field),
        Value::List(_) => Err(not_an_index(&Value::text(""))),
        _ => Ok(false),
    }
}

fn wrapped(v: Option<&Value>) -> Value {
    Value::Optional(v.map(|v| Arc::new(v.clone())))
}

pub(super) fn optional_select(operand: Value, field: &str) -> Answer {
    match operand {
        Value::Map(m) => Ok(wrapped(m.field(field))),
        Value::Optional(Some(v)) => optional_select(v.as_ref().clone(), field),
        Value::List(_) => Err(not_an_index(&Value::text(""))),
        _ => Ok(Value::Optional(None)),
    }
}

/// The place that an index means; none beyond the list.
fn position(l: &List, index: &Value) -> Result<Option<usize>, EvalError> {
    let i = match index {
        Value::Int(i) => usize::try_from(*i).ok(),
        Value::Uint(u) => usize::try_from(*u).ok(),
        Value::Double(d) if d.trunc() == *d => (*d >= 0.0).then_some(*d as usize),
        other => return Err(not_an_index(other)),
    };
    Ok(i.filter(|i| *i < l.items.len()))
}

pub(super) fn at(operand: &Value, index: &Value) -> Answer {
    match operand {
        Value::List(l) => match position(l, index)? {
            Some(i) => Ok(l.items[i].clone()),
            None => {
                let i = library::shown(index);
                Err(EvalError::of(format!("index out of bounds: {i}")))
            }
        },
        Value::Map(m) => m
            .get(index)
            .cloned()
            .ok_or_else(|| missing(library::shown(index))),
        _ => Err(missing(library::shown(index))),
    }
}

pub(super) fn optional_at(operand: Value, index: &Value) -> Answer {
    match &operand {
        Value::List(l) => Ok(wrapped(position(l, index)?.map(|i| &l.items[i]))),
        Value::Map(m) => Ok(wrapped(m.get(index))),
        Value::Optional(Some(v)) => optional_at(v.as_ref().clone(), index),
        _ => Ok(Value::Optional(None)),
    }
}
