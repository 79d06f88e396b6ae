//! Operators.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Answer, Row, fail, none};
use crate::value::{Map, Value};

pub(super) const TABLE: &[Row] = &[
    ("_?_:_", "(bool,A,A) A", |a| Ok(a[1].clone())),
    ("_&&_", "(bool,bool) bool", |a| Ok(a[1].clone())),
    ("_||_", "(bool,bool) bool", |a| Ok(a[1].clone())),
    ("@not_strictly_false", "(bool) bool", |a| Ok(a[0].clone())),
    ("!_", "(bool) bool", not),
    ("-_", "(int) int", negate),
    ("-_", "(double) double", negate),
    ("_==_", "(A,A) bool", equal),
    ("_!=_", "(A,A) bool", |a| match equal(a)? {
        Value::Bool(b) => Ok(Value::Bool(!b)),
        _ => none(),
    }),
    ("_+_", "(int,int) int", add),
    ("_+_", "(uint,uint) uint", add),
    ("_+_", "(double,double) double", add),
    ("_+_", "(string,string) string", add),
    ("_+_", "(bytes,bytes) bytes", add),
    ("_+_", "(list<A>,list<A>) list<A>", add),
    ("_+_", "(duration,duration) duration", add),
    ("_+_", "(duration,timestamp) timestamp", add),
    ("_+_", "(timestamp,duration) timestamp", add),
    ("_-_", "(int,int) int", subtract),
    ("_-_", "(uint,uint) uint", subtract),
    ("_-_", "(double,double) double", subtract),
    ("_-_", "(duration,duration) duration", subtract),
    ("_-_", "(timestamp,duration) timestamp", subtract),
    ("_-_", "(timestamp,timestamp) duration", subtract),
    ("_*_", "(int,int) int", multiply),
    ("_*_", "(uint,uint) uint", multiply),
    ("_*_", "(double,double) double", multiply),
    ("_/_", "(int,int) int", divide),
    ("_/_", "(uint,uint) uint", divide),
    ("_/_", "(double,double) double", divide),
    ("_%_", "(int,int) int", modulo),
    ("_%_", "(uint,uint) uint", modulo),
    ("_[_]", "(list<A>,int) A", never),
    ("_[_]", "(map<A,B>,A) B", never),
    ("_[_]", "(optional<list<A>>,int) optional<A>", never),
    ("_[_]", "(optional<map<A,B>>,A) optional<B>", never),
    ("_[?_]", "(list<A>,int) optional<A>", never),
    ("_[?_]", "(map<A,B>,A) optional<B>", never),
    ("_[?_]", "(optional<list<A>>,int) optional<A>", never),
    ("_[?_]", "(optional<map<A,B>>,A) optional<B>", never),
    ("@in", "(A,list<A>) bool", within),
    ("@in", "(A,map<A,B>) bool", within),
    ("_<_", "(bool,bool) bool", less),
    ("_<_", "(int,int) bool", less),
    ("_<_", "(int,double) bool", less),
    ("_<_", "(int,uint) bool", less),
    ("_<_", "(uint,uint) bool", less),
    ("_<_", "(uint,double) bool", less),
    ("_<_", "(uint,int) bool", less),
    ("_<_", "(double,double) bool", less),
    ("_<_", "(double,int) bool", less),
    ("_<_", "(double,uint) bool", less),
    ("_<_", "(string,string) bool", less),
    ("_<_", "(bytes,bytes) bool", less),
    ("_<_", "(timestamp,timestamp) bool", less),
    ("_<_", "(duration,duration) bool", less),
    ("_<=_", "(bool,bool) bool", less_equals),
    ("_<=_", "(int,int) bool", less_equals),
    ("_<=_", "(int,double) bool", less_equals),
    ("_<=_", "(int,uint) bool", less_equals),
    ("_<=_", "(uint,uint) bool", less_equals),
    ("_<=_", "(uint,double) bool", less_equals),
    ("_<=_", "(uint,int) bool", less_equals),
    ("_<=_", "(double,double) bool", less_equals),
    ("_<=_", "(double,int) bool", less_equals),
    ("_<=_", "(double,uint) bool", less_equals),
    ("_<=_", "(string,string) bool", less_equals),
    ("_<=_", "(bytes,bytes) bool", less_equals),
    ("_<=_", "(timestamp,timestamp) bool", less_equals),
    ("_<=_", "(duration,duration) bool", less_equals),
    ("_>_", "(bool,bool) bool", greater),
    ("_>_", "(int,int) bool", greater),
    ("_>_", "(int,double) bool", greater),
    ("_>_", "(int,uint) bool", greater),
    ("_>_", "(uint,uint) bool", greater),
    ("_>_", "(uint,double) bool", greater),
    ("_>_", "(uint,int) bool", greater),
    ("_>_", "(double,double) bool", greater),
    ("_>_", "(double,int) bool", greater),
    ("_>_", "(double,uint) bool", greater),
    ("_>_", "(string,string) bool", greater),
    ("_>_", "(bytes,bytes) bool", greater),
    ("_>_", "(timestamp,timestamp) bool", greater),
    ("_>_", "(duration,duration) bool", greater),
    ("_>=_", "(bool,bool) bool", greater_equals),
    ("_>=_", "(int,int) bool", greater_equals),
    ("_>=_", "(int,double) bool", greater_equals),
    ("_>=_", "(int,uint) bool", greater_equals),
    ("_>=_", "(uint,uint) bool", greater_equals),
    ("_>=_", "(uint,double) bool", greater_equals),
    ("_>=_", "(uint,int) bool", greater_equals),
    ("_>=_", "(double,double) bool", greater_equals),
    ("_>=_", "(double,int) bool", greater_equals),
    ("_>=_", "(double,uint) bool", greater_equals),
    ("_>=_", "(string,string) bool", greater_equals),
    ("_>=_", "(bytes,bytes) bool", greater_equals),
    ("_>=_", "(timestamp,timestamp) bool", greater_equals),
    ("_>=_", "(duration,duration) bool", greater_equals),
    ("cel.@mapInsert", "(map<A,B>,A,B) map<A,B>", insert),
    ("cel.@mapInsert", "(map<A,B>,map<A,B>) map<A,B>", insert_all),
];

const OVERFLOW: &str = "integer overflow";
const UNSIGNED_OVERFLOW: &str = "unsigned integer overflow";
const TIMESTAMP_OVERFLOW: &str = "timestamp overflow";

fn never(_: &[Value]) -> Answer {
    none()
}

fn not(a: &[Value]) -> Answer {
    match a {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => none(),
    }
}

fn whole(i: Option<i64>) -> Answer {
    i.map_or_else(|| fail(OVERFLOW), |i| Ok(Value::Int(i)))
}

fn unsigned(u: Option<u64>) -> Answer {
    u.map_or_else(|| fail(UNSIGNED_OVERFLOW), |u| Ok(Value::Uint(u)))
}

fn span(d: Option<i64>) -> Answer {
    d.map_or_else(|| fail(OVERFLOW), |d| Ok(Value::Duration(d)))
}

fn moved(t: &jiff::Timestamp, nanos: i64) -> Answer {
    match t.checked_add(jiff::SignedDuration::from_nanos(nanos)) {
        Ok(t) if super::time::in_range(t) => Ok(Value::Timestamp(t)),
        _ => fail(TIMESTAMP_OVERFLOW),
    }
}

fn equal(a: &[Value]) -> Answer {
    match &a[0] {
        // Authorizers and what they are asked are not comparable.
        Value::Foreign(f) if f.is_receiver() => none(),
        v => Ok(v.equals(&a[1]).into()),
    }
}

fn negate(a: &[Value]) -> Answer {
    match a {
        [Value::Int(i)] => whole(i.checked_neg()),
        [Value::Double(d)] => Ok(Value::Double(-d)),
        _ => none(),
    }
}

fn add(a: &[Value]) -> Answer {
    match a {
        [Value::Int(a), Value::Int(b)] => whole(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => unsigned(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => {
            let mut s = String::with_capacity(a.len() + b.len());
            s.push_str(a);
            s.push_str(b);
            Ok(Value::from(s))
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            Ok(Value::Bytes(Arc::from([&a[..], &b[..]].concat())))
        }
        [Value::List(a), Value::List(b)] => Ok(Value::List(Arc::new(a.plus(b)))),
        [Value::Duration(a), Value::Duration(b)] => span(a.checked_add(*b)),
        [Value::Duration(d), Value::Timestamp(t)] | [Value::Timestamp(t), Value::Duration(d)] => {
            moved(t, *d)
        }
        _ => none(),
    }
}

fn subtract(a: &[Value]) -> Answer {
    match a {
        [Value::Int(a), Value::Int(b)] => whole(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => unsigned(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => span(a.checked_sub(*b)),
        [Value::Timestamp(t), Value::Duration(d)] => match d.checked_neg() {
            Some(d) => moved(t, d),
            None => fail(OVERFLOW),
        },
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            span(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
        }
        _ => none(),
    }
}

fn multiply(a: &[Value]) -> Answer {
    match a {
        [Value::Int(a), Value::Int(b)] => whole(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => unsigned(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => none(),
    }
}

fn divide(a: &[Value]) -> Answer {
    match a {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            fail("division by zero")
        }
        [Value::Int(a), Value::Int(b)] => whole(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => unsigned(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => none(),
    }
}

fn modulo(a: &[Value]) -> Answer {
    match a {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            fail("modulus by zero")
        }
        [Value::Int(a), Value::Int(b)] => whole(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => unsigned(a.checked_rem(*b)),
        _ => none(),
    }
}

fn within(a: &[Value]) -> Answer {
    match a {
        [v, Value::List(l)] => Ok(Value::Bool(l.items.iter().any(|x| x.equals(v)))),
        [v, Value::Map(m)] => Ok(Value::Bool(m.get(v).is_some())),
        _ => none(),
    }
}

fn ordered(a: &[Value], holds: fn(Ordering) -> bool) -> Answer {
    match a[0].order(&a[1]) {
        Some(o) => Ok(Value::Bool(holds(o))),
        None if a
            .iter()
            .any(|v| matches!(v, Value::Double(d) if d.is_nan())) =>
        {
            fail("NaN values cannot be ordered")
        }
        None => none(),
    }
}

fn less(a: &[Value]) -> Answer {
    ordered(a, Ordering::is_lt)
}

fn less_equals(a: &[Value]) -> Answer {
    ordered(a, Ordering::is_le)
}

fn greater(a: &[Value]) -> Answer {
    ordered(a, Ordering::is_gt)
}

fn greater_equals(a: &[Value]) -> Answer {
    ordered(a, Ordering::is_ge)
}

fn put(map: &mut Map, key: &Value, value: &Value) -> Result<(), crate::program::EvalError> {
    if map.get(key).is_some() {
        return fail(format!(
            "insert failed: key {} already exists",
            super::shown(key)
        ));
    }
    if !map.insert(key, value.clone()) {
        return fail(format!("unsupported key type: {}", key.type_name()));
    }
    Ok(())
}

fn insert(a: &[Value]) -> Answer {
    let [Value::Map(m), key, value] = a else {
        return none();
    };
    let mut map = m.as_ref().clone();
    put(&mut map, key, value)?;
    Ok(Value::map(map))
}

fn insert_all(a: &[Value]) -> Answer {
    let [Value::Map(m), Value::Map(more)] = a else {
        return none();
    };
    let mut map = m.as_ref().clone();
    for (k, v) in more.entries() {
        put(&mut map, &k, v)?;
    }
    Ok(Value::map(map))
}
