//! Quantities. Upstream: k8s.io/apiserver/pkg/cel/library/quantity.go.

use std::sync::Arc;

use api::quantity::{Format, Quantity};

use super::{Foreign, Row, fail, foreign, int, none, text};
use crate::program::EvalError;
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("quantity", "(string) Quantity", |a| {
        match Quantity::parse(text(a, 0)?) {
            Ok(q) => Ok(value(q)),
            Err(e) => fail(e.to_string()),
        }
    }),
    ("isQuantity", "(string) bool", |a| {
        Ok(Quantity::parse(text(a, 0)?).is_ok().into())
    }),
    ("sign", "(Quantity) int", |a| {
        Ok(i64::from(quantity(a, 0)?.sign()).into())
    }),
    ("isGreaterThan", "Quantity.(Quantity) bool", |a| {
        Ok((quantity(a, 0)? > quantity(a, 1)?).into())
    }),
    ("isLessThan", "Quantity.(Quantity) bool", |a| {
        Ok((quantity(a, 0)? < quantity(a, 1)?).into())
    }),
    ("compareTo", "Quantity.(Quantity) int", |a| {
        Ok((quantity(a, 0)?.cmp(quantity(a, 1)?) as i64).into())
    }),
    ("asApproximateFloat", "Quantity.() double", |a| {
        Ok(Value::Double(quantity(a, 0)?.as_f64()))
    }),
    ("asInteger", "Quantity.() int", |a| {
        match whole(quantity(a, 0)?) {
            Some(i) => Ok(i.into()),
            None => fail("cannot convert value to integer"),
        }
    }),
    ("isInteger", "Quantity.() bool", |a| {
        Ok(whole(quantity(a, 0)?).is_some().into())
    }),
    ("add", "Quantity.(Quantity) Quantity", |a| {
        Ok(value(quantity(a, 0)?.add(quantity(a, 1)?)))
    }),
    ("add", "Quantity.(int) Quantity", |a| {
        Ok(value(quantity(a, 0)?.add(&plain(int(a, 1)?))))
    }),
    ("sub", "Quantity.(Quantity) Quantity", |a| {
        Ok(value(quantity(a, 0)?.sub(quantity(a, 1)?)))
    }),
    ("sub", "Quantity.(int) Quantity", |a| {
        Ok(value(quantity(a, 0)?.sub(&plain(int(a, 1)?))))
    }),
];

fn value(q: Quantity) -> Value {
    Value::Foreign(Arc::new(Foreign::Quantity(q)))
}

fn plain(i: i64) -> Quantity {
    Quantity::new(i, Format::DecimalSi)
}

fn quantity(a: &[Value], n: usize) -> Result<&Quantity, EvalError> {
    match foreign(a, n)? {
        Foreign::Quantity(q) => Ok(q),
        _ => none(),
    }
}

fn whole(q: &Quantity) -> Option<i64> {
    let rounded = q.value();
    if rounded == i64::MAX || rounded == i64::MIN {
        // What does not fit is cut off there.
        return None;
    }
    (plain(rounded) == *q).then_some(rounded)
}
