//! What changed between two values. Upstream: structured-merge-diff/typed/compare.go.

use std::collections::BTreeMap;
use std::sync::LazyLock;

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

/// Compares two values of a type. What `metadata.managedFields` of an object say is no matter of it.
pub fn compare(t: TypeRef<'_>, old: &Value, new: &Value) -> Comparison {
    let mut found = Found::default();
    found.walk(t, At::Object, Some(old), Some(new));
    found.below
}

/// Where in an object a value is.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Object,
    Metadata,
    Below,
}

impl At {
    /// Where a field is; `None` for the managed fields.
    fn field(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Object, "metadata") => Some(Self::Metadata),
            (Self::Metadata, "managedFields") => None,
            _ => Some(Self::Below),
        }
    }
}

/// What was found at a path: whether it is itself gone, changed or new, and what is below it.
#[derive(Default)]
struct Found {
    removed: bool,
    modified: bool,
    added: bool,
    below: Comparison,
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

impl Found {
    fn walk(&mut self, t: TypeRef<'_>, at: At, old: Option<&Value>, new: Option<&Value>) {
        let (was, is) = (t.form(old), t.form(new));
        let leaf = match (old, new) {
            (_, None) => self.form(was, at, old, new),
            (None, _) => self.form(is, at, old, new),
            _ if was.same(&is) => self.form(is, at, old, new),
            _ => {
                self.form(was, at, old, new);
                self.form(is, at, old, new)
            }
        };
        if !leaf {
            match (old, new) {
                (None, _) => self.added = true,
                (_, None) => self.removed = true,
                _ => {}
            }
        }
    }

    /// Walks a value as one form; tells whether it was taken as one leaf.
    fn form(&mut self, form: Form<'_>, at: At, old: Option<&Value>, new: Option<&Value>) -> bool {
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
                self.map(&m, at, fields(old), fields(new));
                false
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.added = true,
            (_, None) => self.removed = true,
            (Some(a), Some(b)) => self.modified |= !equal(a, b),
        }
    }

    /// Takes over what was found below.
    fn put(&mut self, e: &Element, found: Found) {
        let all = &mut self.below;
        all.removed.put(e, found.removed, found.below.removed);
        all.modified.put(e, found.modified, found.below.modified);
        all.added.put(e, found.added, found.below.added);
    }

    fn is_nothing(&self) -> bool {
        let sets = [&self.below.removed, &self.below.modified, &self.below.added];
        !(self.removed || self.modified || self.added) && sets.iter().all(|s| s.is_empty())
    }

    fn map(
        &mut self,
        m: &MapType<'_>,
        at: At,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
    ) {
        static HOLLOW: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
        let names = old.into_iter().flatten().map(|(k, _)| k);
        let only_new = new
            .into_iter()
            .flatten()
            .map(|(k, _)| k)
            .filter(|k| old.is_none_or(|o| !o.contains_key(*k)));
        for name in names.chain(only_new) {
            let Some(at) = at.field(name) else { continue };
            let (a, b) = (old.and_then(|v| v.get(name)), new.and_then(|v| v.get(name)));
            // A struct is there where its holder is.
            let hollow = || m.is_struct(name).then(|| &*HOLLOW);
            let a = a.or_else(|| old.and_then(|_| hollow()));
            let b = b.or_else(|| new.and_then(|_| hollow()));
            let t = m.value(name).unwrap_or(TypeRef::Deduced);
            let mut found = Found::default();
            found.walk(t, at, a, b);
            if !found.is_nothing() {
                self.put(&Element::Field(name.clone()), found);
            }
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
            let mut found = Found::default();
            match (a.as_slice(), b.as_slice()) {
                // Duplicates on both sides are one leaf.
                ([_, _, ..], [_, _, ..]) => {
                    let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| equal(a, b));
                    found.modified = !same;
                }
                ([_, _, ..], rest) => {
                    if let Some(first) = rest.first() {
                        found.walk(l.item, At::Below, None, Some(first));
                    }
                    found.removed = true;
                }
                (rest, [_, _, ..]) => {
                    if let Some(first) = rest.first() {
                        found.walk(l.item, At::Below, Some(first), None);
                    }
                    found.added = true;
                }
                (a, b) => found.walk(l.item, At::Below, a.first().copied(), b.first().copied()),
            }
            self.put(&e, found);
        }
    }
}
