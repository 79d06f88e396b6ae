//! Optional values. Upstream: cel-go cel/library.go, OptionalTypes.

use std::sync::Arc;

use super::{Answer, Row, fail, list, none};
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("optional.of", "(A) optional<A>", |a| Ok(some(a[0].clone()))),
    ("optional.ofNonZeroValue", "(A) optional<A>", |a| {
        Ok(if a[0].is_zero() {
            Value::Optional(None)
        } else {
            some(a[0].clone())
        })
    }),
    ("optional.none", "() optional<A>", |_| {
        Ok(Value::Optional(None))
    }),
    ("value", "optional<A>.() A", value),
    ("hasValue", "optional<A>.() bool", |a| match &a[0] {
        Value::Optional(v) => Ok(v.is_some().into()),
        _ => none(),
    }),
    (
        "or",
        "optional<A>.(optional<A>) optional<A>",
        |a| match &a[0] {
            Value::Optional(None) => Ok(a[1].clone()),
            _ => Ok(a[0].clone()),
        },
    ),
    ("orValue", "optional<A>.(A) A", |a| match &a[0] {
        Value::Optional(None) => Ok(a[1].clone()),
        Value::Optional(Some(v)) => Ok(v.as_ref().clone()),
        _ => none(),
    }),
    ("first", "list<A>.() optional<A>", |a| {
        Ok(Value::Optional(
            list(a, 0)?.items.first().cloned().map(Arc::new),
        ))
    }),
    ("last", "list<A>.() optional<A>", |a| {
        Ok(Value::Optional(
            list(a, 0)?.items.last().cloned().map(Arc::new),
        ))
    }),
    ("optional.unwrap", "(list<optional<A>>) list<A>", unwrap),
    ("unwrapOpt", "list<optional<A>>.() list<A>", unwrap),
];

fn some(v: Value) -> Value {
    Value::Optional(Some(Arc::new(v)))
}

fn value(a: &[Value]) -> Answer {
    match &a[0] {
        Value::Optional(Some(v)) => Ok(v.as_ref().clone()),
        Value::Optional(None) => fail("optional.none() dereference"),
        _ => none(),
    }
}

fn unwrap(a: &[Value]) -> Answer {
    let items = list(a, 0)?.items.iter();
    let items = items.filter_map(|v| match v {
        Value::Optional(v) => v.as_deref().cloned(),
        v => Some(v.clone()),
    });
    Ok(Value::list(items.collect()))
}
