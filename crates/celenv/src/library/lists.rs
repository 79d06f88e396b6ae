//! Lists. Upstream: Kubernetes' lists library version 1 and cel-go ext/lists version 3.

use std::cmp::Ordering;

use super::{Answer, Row, fail, int, list, none};
use crate::limits;
use crate::program::EvalError;
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("isSorted", "list<int>.() bool", is_sorted),
    ("isSorted", "list<uint>.() bool", is_sorted),
    ("isSorted", "list<double>.() bool", is_sorted),
    ("isSorted", "list<bool>.() bool", is_sorted),
    ("isSorted", "list<duration>.() bool", is_sorted),
    ("isSorted", "list<timestamp>.() bool", is_sorted),
    ("isSorted", "list<string>.() bool", is_sorted),
    ("isSorted", "list<bytes>.() bool", is_sorted),
    ("sum", "list<int>.() int", |a| sum(a, Value::Int(0))),
    ("sum", "list<uint>.() uint", |a| sum(a, Value::Uint(0))),
    ("sum", "list<double>.() double", |a| {
        sum(a, Value::Double(0.0))
    }),
    ("sum", "list<duration>.() duration", |a| {
        sum(a, Value::Duration(0))
    }),
    ("max", "list<int>.() int", max),
    ("max", "list<uint>.() uint", max),
    ("max", "list<double>.() double", max),
    ("max", "list<bool>.() bool", max),
    ("max", "list<duration>.() duration", max),
    ("max", "list<timestamp>.() timestamp", max),
    ("max", "list<string>.() string", max),
    ("max", "list<bytes>.() bytes", max),
    ("min", "list<int>.() int", min),
    ("min", "list<uint>.() uint", min),
    ("min", "list<double>.() double", min),
    ("min", "list<bool>.() bool", min),
    ("min", "list<duration>.() duration", min),
    ("min", "list<timestamp>.() timestamp", min),
    ("min", "list<string>.() string", min),
    ("min", "list<bytes>.() bytes", min),
    ("indexOf", "list<A>.(A) int", |a| position(a, false)),
    ("lastIndexOf", "list<A>.(A) int", |a| position(a, true)),
    ("includes", "dyn.(dyn) bool", includes),
    ("slice", "list<A>.(int,int) list<A>", slice),
    ("flatten", "list<list<A>>.() list<A>", flatten),
    ("flatten", "list<dyn>.(int) list<dyn>", flatten),
    ("sort", "list<int>.() list<int>", sort),
    ("sort", "list<uint>.() list<uint>", sort),
    ("sort", "list<double>.() list<double>", sort),
    ("sort", "list<bool>.() list<bool>", sort),
    ("sort", "list<duration>.() list<duration>", sort),
    ("sort", "list<timestamp>.() list<timestamp>", sort),
    ("sort", "list<string>.() list<string>", sort),
    ("sort", "list<bytes>.() list<bytes>", sort),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<int>) list<A>",
        sort_by,
    ),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<uint>) list<A>",
        sort_by,
    ),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<double>) list<A>",
        sort_by,
    ),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<bool>) list<A>",
        sort_by,
    ),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<duration>) list<A>",
        sort_by,
    ),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<timestamp>) list<A>",
        sort_by,
    ),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<string>) list<A>",
        sort_by,
    ),
    (
        "@sortByAssociatedKeys",
        "list<A>.(list<bytes>) list<A>",
        sort_by,
    ),
    ("lists.range", "(int) list<int>", range),
    ("reverse", "list<A>.() list<A>", reverse),
    ("distinct", "list<A>.() list<A>", distinct),
];

fn order(a: &Value, b: &Value) -> Result<Ordering, EvalError> {
    a.order(b).map_or_else(none, Ok)
}

fn is_sorted(a: &[Value]) -> Answer {
    for pair in list(a, 0)?.items.windows(2) {
        if order(&pair[0], &pair[1])?.is_gt() {
            return Ok(false.into());
        }
    }
    Ok(true.into())
}

fn sum(a: &[Value], zero: Value) -> Answer {
    let add = super::function("_+_").and_then(|f| f.overloads.first());
    let Some(add) = add else {
        return none();
    };
    let mut total = zero;
    for v in &list(a, 0)?.items {
        total = (add.call)(&[total, v.clone()])?;
    }
    Ok(total)
}

fn extreme(a: &[Value], name: &str, better: fn(Ordering) -> bool) -> Answer {
    let mut items = list(a, 0)?.items.iter();
    let Some(mut best) = items.next() else {
        return fail(format!("{name} called on empty list"));
    };
    for v in items {
        if better(order(v, best)?) {
            best = v;
        }
    }
    Ok(best.clone())
}

fn max(a: &[Value]) -> Answer {
    extreme(a, "max", Ordering::is_gt)
}

fn min(a: &[Value]) -> Answer {
    extreme(a, "min", Ordering::is_lt)
}

fn position(a: &[Value], last: bool) -> Answer {
    let l = &list(a, 0)?.items;
    let same = |v: &Value| v.equals(&a[1]);
    let found = if last {
        l.iter().rposition(same)
    } else {
        l.iter().position(same)
    };
    Ok(found.map_or(-1, |i| i64::try_from(i).unwrap_or(-1)).into())
}

/// Whether a list has the value, or a value that is no list equals it.
fn includes(a: &[Value]) -> Answer {
    Ok(match &a[0] {
        Value::List(l) => l.items.iter().any(|v| v.equals(&a[1])),
        v => v.equals(&a[1]),
    }
    .into())
}

fn slice(a: &[Value]) -> Answer {
    let l = list(a, 0)?;
    let (from, to) = (int(a, 1)?, int(a, 2)?);
    if from < 0 || to < 0 {
        return fail(format!(
            "cannot slice({from}, {to}), negative indexes not supported"
        ));
    }
    if from > to {
        return fail(format!(
            "cannot slice({from}, {to}), start index must be less than or equal to end index"
        ));
    }
    let size = l.items.len();
    match (usize::try_from(from), usize::try_from(to)) {
        (Ok(f), Ok(t)) if t <= size => Ok(Value::list(l.items[f..t].to_vec())),
        _ => fail(format!("cannot slice({from}, {to}), list is length {size}")),
    }
}

fn flatten(a: &[Value]) -> Answer {
    let depth = if a.len() > 1 { int(a, 1)? } else { 1 };
    if depth < 0 {
        return fail("level must be non-negative");
    }
    fn flat(items: &[Value], depth: i64, out: &mut Vec<Value>) {
        for v in items {
            match v {
                Value::List(l) if depth > 0 => flat(&l.items, depth - 1, out),
                v => out.push(v.clone()),
            }
        }
    }
    let mut out = Vec::new();
    flat(&list(a, 0)?.items, depth, &mut out);
    Ok(Value::list(out))
}

fn sort(a: &[Value]) -> Answer {
    sort_by(&[a[0].clone(), a[0].clone()])
}

fn sort_by(a: &[Value]) -> Answer {
    let (items, keys) = (&list(a, 0)?.items, &list(a, 1)?.items);
    if items.len() != keys.len() {
        return fail(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list",
        );
    }
    if let Some(first) = keys.first()
        && keys
            .iter()
            .any(|k| k.type_name() != first.type_name() || k.order(first).is_none())
    {
        return fail("list elements must have the same type");
    }
    let mut places: Vec<usize> = (0..items.len()).collect();
    places.sort_by(|x, y| keys[*x].order(&keys[*y]).unwrap_or(Ordering::Equal));
    Ok(Value::list(
        places.into_iter().map(|i| items[i].clone()).collect(),
    ))
}

fn range(a: &[Value]) -> Answer {
    let n = int(a, 0)?;
    if n < 0 {
        return fail(format!("lists.range: size must be non-negative, got {n}"));
    }
    if n > limits::RANGE_ITEMS_MAX {
        return fail(format!(
            "lists.range() size {n} exceeds limit {}",
            limits::RANGE_ITEMS_MAX
        ));
    }
    Ok(Value::list((0..n).map(Value::Int).collect()))
}

fn reverse(a: &[Value]) -> Answer {
    Ok(Value::list(
        list(a, 0)?.items.iter().rev().cloned().collect(),
    ))
}

fn distinct(a: &[Value]) -> Answer {
    let mut out: Vec<Value> = Vec::new();
    for v in &list(a, 0)?.items {
        if !out.iter().any(|x| x.equals(v)) {
            out.push(v.clone());
        }
    }
    Ok(Value::list(out))
}
