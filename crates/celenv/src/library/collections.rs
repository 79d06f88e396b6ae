//! Sets. Upstream: ext/sets.go.

use super::{Answer, Row, list};
use crate::value::{List, Value};

pub(super) const TABLE: &[Row] = &[
    ("sets.contains", "(list<A>,list<A>) bool", |a| {
        Ok(contains(list(a, 0)?, list(a, 1)?).into())
    }),
    ("sets.equivalent", "(list<A>,list<A>) bool", equivalent),
    ("sets.intersects", "(list<A>,list<A>) bool", intersects),
];

fn has(l: &List, v: &Value) -> bool {
    l.items.iter().any(|x| x.equals(v))
}

fn contains(whole: &List, part: &List) -> bool {
    part.items.iter().all(|v| has(whole, v))
}

fn equivalent(a: &[Value]) -> Answer {
    let (x, y) = (list(a, 0)?, list(a, 1)?);
    Ok((contains(x, y) && contains(y, x)).into())
}

fn intersects(a: &[Value]) -> Answer {
    let (x, y) = (list(a, 0)?, list(a, 1)?);
    Ok(y.items.iter().any(|v| has(x, v)).into())
}
