//! Which fields a value sets. Upstream: structured-merge-diff/typed/tofieldset.go.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::{Element, FieldSet};
use super::types::{Form, List, MapType, TypeRef};
use super::validate::item_element;

/// Every leaf of a value, every item of its lists, every key of its maps.
pub fn field_set(t: TypeRef<'_>, value: &Value) -> FieldSet {
    let mut out = FieldSet::default();
    walk(t, value, &mut out);
    out
}

/// Collects what is below a value; tells whether the value itself is a leaf.
fn walk(t: TypeRef<'_>, value: &Value, out: &mut FieldSet) -> bool {
    match t.form(Some(value)) {
        Form::Scalar(_) => return true,
        Form::List(l) if l.atomic => return true,
        Form::Map(m) if m.atomic => return true,
        Form::List(l) => {
            if let Value::Array(items) = value {
                list(&l, items, out);
            }
        }
        Form::Map(m) => {
            if let Value::Object(fields) = value {
                map(&m, fields, out);
            }
        }
    }
    false
}

fn list(l: &List<'_>, items: &[Value], out: &mut FieldSet) {
    let element = |item| item_element(l, item).unwrap_or_else(|_| Element::nameless());
    let elements: Vec<Element> = items.iter().map(element).collect();
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for e in &elements {
        if !seen.insert(e) {
            twice.insert(e);
        }
    }
    for (item, e) in items.iter().zip(&elements) {
        let mut below = FieldSet::default();
        if !twice.contains(e) {
            walk(l.item, item, &mut below);
        }
        out.put(e, true, below);
    }
}

fn map(m: &MapType<'_>, fields: &serde_json::Map<String, Value>, out: &mut FieldSet) {
    for (name, value) in fields {
        let mut below = FieldSet::default();
        let t = m.value(name).unwrap_or(TypeRef::Deduced);
        let leaf = walk(t, value, &mut below);
        let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        let member = leaf || empty || m.declared(name).is_none();
        out.put(&Element::Field(name.clone()), member, below);
    }
}

/// A set in which every declared field on the way to a member is a member too.
pub fn named_fields(set: &FieldSet, t: TypeRef<'_>) -> FieldSet {
    let atom = t.atom();
    let more = set.children().filter_map(|(e, _)| match (e, &atom.map) {
        (Element::Field(name), Some(m)) if m.declared(name).is_some() => Some(e.clone()),
        _ => None,
    });
    let more: Vec<Element> = more.collect();
    set.mapped(more.into_iter(), |e, below| {
        let t = match (e, &atom.map, &atom.list) {
            (Element::Field(name), Some(m), _) => m.value(name),
            (_, _, Some(l)) => Some(l.item),
            _ => None,
        };
        named_fields(below, t.unwrap_or(TypeRef::Untyped))
    })
}
