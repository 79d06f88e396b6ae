//! Owned fields after a change of their schema: what has become one whole is owned as one.
//! Upstream: structured-merge-diff/typed/reconcile_schema.go.

use super::fields::{Element, FieldSet};
use super::types::{Form, TypeRef};

/// A set as a type wants it, where it was written when lists or maps of the type were still owned item by item. What
/// was one whole before stays so.
pub fn reconciled(t: TypeRef<'_>, set: &FieldSet) -> Option<FieldSet> {
    let mut whole = FieldSet::default();
    walk(t, Some(set), false, &mut Vec::new(), &mut whole);
    (!whole.is_empty()).then(|| set.clone().without_below(&whole).union(whole))
}

/// `leaf`: the set has the value and nothing below it.
fn walk<'t, 's>(
    t: TypeRef<'t>,
    set: Option<&'s FieldSet>,
    leaf: bool,
    path: &mut Vec<&'s Element>,
    whole: &mut FieldSet,
) {
    let mut add = |path: &[&Element]| {
        let path: Vec<Element> = path.iter().map(|e| (*e).clone()).collect();
        whole.insert(&path);
    };
    let type_of: &dyn Fn(&Element) -> Option<TypeRef<'t>> = match t.atom().form() {
        Form::Scalar(_) => return,
        Form::List(l) if l.atomic && !leaf => return add(path),
        Form::List(l) => &move |_| Some(l.item),
        Form::Map(m) if m.is_deduced() => return,
        Form::Map(m) if m.atomic && !leaf => {
            if set.is_some_and(|s| !s.is_empty()) {
                add(path);
            }
            return;
        }
        Form::Map(m) => &move |e| match e {
            Element::Field(name) => m.value(name),
            _ => m.element,
        },
    };
    for (e, below) in set.into_iter().flat_map(FieldSet::elements) {
        if let Some(t) = type_of(e) {
            path.push(e);
            walk(t, below, below.is_none(), path, whole);
            path.pop();
        }
    }
}
