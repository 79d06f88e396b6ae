//! What changed between two values. Upstream: structured-merge-diff/typed/compare.go.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{Element, FieldSet};
use super::types::{Form, List, MapType, TypeRef};
use super::validate::item_element;

/// Fields that are gone, changed and new.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    pub removed: FieldSet,
    pub modified: FieldSet,
    pub added: FieldSet,
}

impl Comparison {
    /// Without what a reset set holds or has above it.
    pub fn without(self, reset: &FieldSet) -> Self {
        Self {
            removed: self.removed.without_below(reset),
            modified: self.modified.without_below(reset),
            added: self.added.without_below(reset),
        }
    }
}

struct Walk {
    path: Vec<Element>,
    out: Comparison,
}

/// Compares two values of a type.
pub fn compare(t: TypeRef<'_>, old: &Value, new: &Value) -> Comparison {
    let mut w = Walk {
        path: Vec::new(),
        out: Comparison::default(),
    };
    w.walk(t, Some(old), Some(new));
    w.out
}

/// Equality of JSON values in which 1 and 1.0 are the same.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| equal(a, b))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| equal(v, w)))
        }
        _ => a == b,
    }
}

fn fields(v: Option<&Value>) -> Option<&Map<String, Value>> {
    v.and_then(Value::as_object)
}

fn items(v: Option<&Value>) -> &[Value] {
    v.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Walk {
    fn walk(&mut self, t: TypeRef<'_>, old: Option<&Value>, new: Option<&Value>) {
        let (was, is) = (t.form(old), t.form(new));
        let leaf = match (old, new) {
            (_, None) => self.form(was, old, new),
            (None, _) => self.form(is, old, new),
            _ if was.same(&is) => self.form(is, old, new),
            _ => {
                self.form(was, old, new);
                self.form(is, old, new)
            }
        };
        if !leaf {
            match (old, new) {
                (None, _) => self.out.added.insert(&self.path),
                (_, None) => self.out.removed.insert(&self.path),
                _ => {}
            }
        }
    }

    /// Walks a value as one form; tells whether it was taken as one leaf.
    fn form(&mut self, form: Form<'_>, old: Option<&Value>, new: Option<&Value>) -> bool {
        match form {
            Form::Scalar(_) => {
                self.leaf(old, new);
                true
            }
            Form::List(l) => {
                if l.atomic || (items(old).is_empty() && items(new).is_empty()) {
                    self.leaf(old, new);
                    return true;
                }
                self.list(&l, items(old), items(new));
                false
            }
            Form::Map(m) => {
                let none = |v: Option<&Map<String, Value>>| v.is_none_or(Map::is_empty);
                if m.atomic || (none(fields(old)) && none(fields(new))) {
                    self.leaf(old, new);
                    return true;
                }
                self.map(&m, fields(old), fields(new));
                false
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(a), Some(b)) if !equal(a, b) => self.out.modified.insert(&self.path),
            _ => {}
        }
    }

    fn map(
        &mut self,
        m: &MapType<'_>,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
    ) {
        let names = old.into_iter().flatten().map(|(k, _)| k);
        let only_new = new
            .into_iter()
            .flatten()
            .map(|(k, _)| k)
            .filter(|k| old.is_none_or(|o| !o.contains_key(*k)));
        for name in names.chain(only_new) {
            self.path.push(Element::Field(name.clone()));
            let hollow = m.is_struct(name).then(|| Value::Object(Map::new()));
            let get = |v: Option<&'_ Map<String, Value>>| {
                v.and_then(|v| v.get(name).cloned().or_else(|| hollow.clone()))
            };
            let (a, b) = (get(old), get(new));
            let t = m.value(name).unwrap_or(TypeRef::Deduced);
            self.walk(t, a.as_ref(), b.as_ref());
            self.path.pop();
        }
    }

    fn list(&mut self, l: &List<'_>, old: &[Value], new: &[Value]) {
        let mut all: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            if let Ok(e) = item_element(l, item) {
                all.entry(e).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(e) = item_element(l, item) {
                all.entry(e).or_default().1.push(item);
            }
        }
        for (e, (a, b)) in all {
            self.path.push(e);
            match (a.as_slice(), b.as_slice()) {
                // Duplicates on both sides are one leaf.
                ([_, _, ..], [_, _, ..]) => {
                    let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| equal(a, b));
                    if !same {
                        self.out.modified.insert(&self.path);
                    }
                }
                ([_, _, ..], rest) => {
                    if let Some(first) = rest.first() {
                        self.walk(l.item, None, Some(first));
                    }
                    self.out.removed.insert(&self.path);
                }
                (rest, [_, _, ..]) => {
                    if let Some(first) = rest.first() {
                        self.walk(l.item, Some(first), None);
                    }
                    self.out.added.insert(&self.path);
                }
                (a, b) => self.walk(l.item, a.first().copied(), b.first().copied()),
            }
            self.path.pop();
        }
    }
}
