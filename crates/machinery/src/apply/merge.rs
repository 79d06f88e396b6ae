//! A configuration laid over a live value. Upstream: structured-merge-diff/typed/merge.go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::Element;
use super::types::{Form, List, MapType, TypeRef};
use super::validate::item_element;

/// `live` with everything that `config` says; nothing is removed.
pub fn merge(t: TypeRef<'_>, live: &Value, config: &Value) -> Value {
    walk(t, Some(live), Some(config)).unwrap_or(Value::Null)
}

fn walk(t: TypeRef<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let form = match config {
        None => t.form(live),
        Some(_) => t.form(config),
    };
    let keep = || config.or(live).cloned();
    match form {
        Form::Scalar(_) => keep(),
        Form::List(l) => {
            let (a, b) = (items(live), items(config));
            if l.atomic || (a.is_empty() && b.is_empty()) {
                return keep();
            }
            let out = list(&l, a, b);
            (!out.is_empty()).then_some(Value::Array(out))
        }
        Form::Map(m) => {
            let (a, b) = (fields(live), fields(config));
            let none = |v: Option<&Map<String, Value>>| v.is_none_or(Map::is_empty);
            if m.atomic || (none(a) && none(b)) {
                return keep();
            }
            let out = map(&m, a, b);
            (!out.is_empty()).then_some(Value::Object(out))
        }
    }
}

fn fields(v: Option<&Value>) -> Option<&Map<String, Value>> {
    v.and_then(Value::as_object)
}

fn items(v: Option<&Value>) -> &[Value] {
    v.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn map<'a>(
    m: &MapType<'_>,
    live: Option<&'a Map<String, Value>>,
    config: Option<&'a Map<String, Value>>,
) -> Map<String, Value> {
    let mut out = Map::new();
    let names: BTreeSet<&String> = live
        .into_iter()
        .chain(config)
        .flat_map(|v| v.keys())
        .collect();
    for name in names {
        let t = m.value(name).unwrap_or(TypeRef::Deduced);
        let get = |v: Option<&'a Map<String, Value>>| v.and_then(|v| v.get(name));
        if let Some(value) = walk(t, get(live), get(config)) {
            out.insert(name.clone(), value);
        }
    }
    out
}

/// The items of a list with their paths; repeated ones are told apart by `None`.
struct Indexed<'a> {
    elements: Vec<Element>,
    items: Vec<&'a Value>,
    by_element: BTreeMap<Element, Option<&'a Value>>,
}

impl<'a> Indexed<'a> {
    fn of(l: &List<'_>, list: &'a [Value]) -> Self {
        let mut out = Self {
            elements: Vec::new(),
            items: Vec::new(),
            by_element: BTreeMap::new(),
        };
        for item in list {
            let Ok(e) = item_element(l, item) else {
                continue;
            };
            out.by_element
                .entry(e.clone())
                .and_modify(|v| *v = None)
                .or_insert(Some(item));
            out.elements.push(e);
            out.items.push(item);
        }
        out
    }

    fn get(&self, e: &Element) -> Option<&'a Value> {
        self.by_element.get(e).copied().flatten()
    }

    fn has(&self, e: &Element) -> bool {
        self.by_element.contains_key(e)
    }
}

/// Live items keep their order; those that the configuration adds come after what they follow there.
/// Where both order shared items differently, the configuration's order counts.
fn list(l: &List<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let (a, b) = (Indexed::of(l, live), Indexed::of(l, config));
    let mut shared = b.elements.iter().filter(|e| a.has(e));
    let mut next = shared.next();
    let mut merged: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let both = |e: &Element| walk(l.item, a.get(e), b.get(e));
    let (mut i, mut j) = (0, 0);
    while i < a.elements.len() || j < b.elements.len() {
        if let (Some(x), Some(y)) = (a.elements.get(i), b.elements.get(j)) {
            if x == y {
                merged.insert(y);
                out.extend(both(x));
                i += 1;
                j += 1;
                next = shared.next();
                continue;
            }
            if b.has(x) && next.is_some_and(|n| n != x) {
                // Shared, but its turn comes later.
                i += 1;
                continue;
            }
        }
        if let Some(x) = a.elements.get(i) {
            if !b.has(x) {
                out.extend(walk(l.item, Some(a.items[i]), None));
                i += 1;
                continue;
            }
            if merged.contains(x) {
                i += 1;
            }
        }
        if let Some(y) = b.elements.get(j) {
            merged.insert(y);
            out.extend(both(y));
            j += 1;
            if next == Some(y) {
                next = shared.next();
            }
        }
    }
    out
}
