//! Lists of type set and map have no two equal items.
//! Upstream: apiextensions-apiserver/pkg/apiserver/schema/listtype/validation.go.

use std::collections::HashMap;

use machinery::Causes;
use serde_json::{Map, Value};

use super::{ListKind, Structural};

/// Adds what is wrong with the lists of a value.
pub fn validate(s: &Structural, v: &Value, c: &mut Causes) {
    match v {
        Value::Array(list) => {
            match &s.list {
                ListKind::Set => {
                    for i in repeated(list) {
                        c.index(i, |c| c.duplicate(&list[i]));
                    }
                }
                ListKind::Map(keys) => map(keys, list, c),
                ListKind::Atomic => {}
            }
            if let Some(below) = s.items.as_deref() {
                for (i, item) in list.iter().enumerate() {
                    c.index(i, |c| validate(below, item, c));
                }
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(below) = &s.additional {
                    c.key(key, |c| validate(below, value, c));
                } else if let Some(below) = s.properties.get(key) {
                    c.at(key, |c| validate(below, value, c));
                }
            }
        }
        _ => {}
    }
}

fn map(keys: &[String], list: &[Value], c: &mut Causes) {
    let odd = list.iter().position(|v| !v.is_object() && !v.is_null());
    if let Some(i) = odd {
        return c.index(i, |c| {
            c.invalid(&list[i], "must be an object for an array of list-type map");
        });
    }
    let key_of = |item: &Value| {
        let pick = |k: &String| item.get(k).map(|v| (k.clone(), v.clone()));
        Value::Object(keys.iter().filter_map(pick).collect::<Map<_, _>>())
    };
    let all: Vec<Value> = list.iter().map(key_of).collect();
    for i in repeated(&all) {
        c.index(i, |c| c.duplicate(&all[i]));
    }
}

/// Where a value stands for the second time.
fn repeated(list: &[Value]) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(list.len());
    let mut out = Vec::new();
    for (i, v) in list.iter().enumerate() {
        let times = seen.entry(v.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            out.push(i);
        }
    }
    out
}
