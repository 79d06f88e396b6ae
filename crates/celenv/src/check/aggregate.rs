//! Literals, lists, maps and objects.

use super::*;

impl Checker<'_> {
    /// The type of an aggregate's elements so far. Elements of several types make `dyn`, of which the validators
    /// have something to say.
    pub(super) fn join(&mut self, before: Option<Type>, next: &Type) -> Type {
        let Some(before) = before else {
            return next.clone();
        };
        self.bindings.join(&before, next).unwrap_or(Type::Dyn)
    }

    pub(super) fn homogeneous(&mut self, elements: Vec<(u64, Type)>) {
        if self.within_format == 0 {
            self.literals.push(elements);
        }
    }

    /// The type within an optional element's value.
    pub(super) fn unwrapped(&mut self, id: u64, t: Type) -> Type {
        match self.bindings.resolve(&t, false) {
            Type::Optional(t) => t.as_ref().clone(),
            t if t.is_dyn() => Type::Dyn,
            t => {
                self.mismatch(id, &Type::optional(t.clone()), &t);
                t
            }
        }
    }

    pub(super) fn list(&mut self, l: &ListExpr) -> (Node, Type) {
        let mut joined = None;
        let mut items = Vec::with_capacity(l.elements.len());
        let mut types = Vec::with_capacity(l.elements.len());
        for (i, e) in l.elements.iter().enumerate() {
            let (node, mut t) = self.check(e);
            let optional = l.optional_indices.contains(&i);
            if optional {
                t = self.unwrapped(e.id, t);
            }
            joined = Some(self.join(joined, &t));
            items.push((node, optional));
            types.push((e.id, t));
        }
        self.homogeneous(types);
        let element = joined.unwrap_or_else(|| self.bindings.fresh());
        (Node::List(items), Type::list(element))
    }

    pub(super) fn map(&mut self, m: &MapExpr) -> (Node, Type) {
        let (mut key_type, mut value_type) = (None, None);
        let mut entries = Vec::with_capacity(m.entries.len());
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for e in &m.entries {
            let EntryExpr::MapEntry(entry) = &e.expr else {
                continue;
            };
            let (key, t) = self.check(&entry.key);
            key_type = Some(self.join(key_type, &t));
            keys.push((entry.key.id, t));
            let (value, mut t) = self.check(&entry.value);
            if entry.optional {
                t = self.unwrapped(entry.value.id, t);
            }
            value_type = Some(self.join(value_type, &t));
            values.push((entry.value.id, t));
            entries.push((key, value, entry.optional));
        }
        self.homogeneous(keys);
        self.homogeneous(values);
        let key = key_type.unwrap_or_else(|| self.bindings.fresh());
        let value = value_type.unwrap_or_else(|| self.bindings.fresh());
        (Node::Map(entries), Type::map(key, value))
    }

    pub(super) fn structure(&mut self, id: u64, s: &StructExpr) -> (Node, Type) {
        let name = s.type_name.trim_start_matches('.');
        let fields: &[(&str, Type)] = &[
            ("op", Type::String),
            ("path", Type::String),
            ("from", Type::String),
            ("value", Type::Dyn),
        ];
        let patch = name == "JSONPatch" && self.environment.patch_types;
        if !patch && !self.is_patch_object(name) {
            return self.undeclared(id, name);
        }
        let mut made = Vec::with_capacity(s.entries.len());
        for e in &s.entries {
            let EntryExpr::StructField(f) = &e.expr else {
                continue;
            };
            let (node, mut t) = self.check(&f.value);
            if f.optional {
                t = self.unwrapped(f.value.id, t);
            }
            if patch {
                match fields.iter().find(|(n, _)| *n == f.field) {
                    None => {
                        let t = self.bindings.resolve(&t, false).in_message();
                        let text = "expected type of field";
                        let message =
                            format!("{text} '{}' is '' but provided type is '{t}'", f.field);
                        self.issue(e.id, message);
                    }
                    Some((_, wanted)) if !self.bindings.assignable(wanted, &t) => {
                        let t = self.bindings.resolve(&t, false).in_message();
                        let wanted = wanted.in_message();
                        let text = "expected type of field";
                        self.issue(
                            e.id,
                            format!(
                                "{text} '{}' is '{wanted}' but provided type is '{t}'",
                                f.field
                            ),
                        );
                    }
                    Some(_) => {}
                }
            }
            made.push((Arc::from(f.field.as_str()), node, f.optional));
        }
        let fields = if patch { fields.to_vec() } else { Vec::new() };
        (
            Node::Struct(Arc::from(name), made),
            Type::object(name, fields),
        )
    }
}

pub(super) fn literal(l: &LiteralValue) -> (Node, Type) {
    let (value, t) = match l {
        LiteralValue::Boolean(b) => (Value::Bool(*b.inner()), Type::Bool),
        LiteralValue::Bytes(b) => (Value::Bytes(Arc::from(b.inner())), Type::Bytes),
        LiteralValue::Double(d) => (Value::Double(*d.inner()), Type::Double),
        LiteralValue::Int(i) => (Value::Int(*i.inner()), Type::Int),
        LiteralValue::Null => (Value::Null, Type::Null),
        LiteralValue::String(s) => (Value::text(s.inner()), Type::String),
        LiteralValue::UInt(u) => (Value::Uint(*u.inner()), Type::Uint),
    };
    (Node::Const(value), t)
}
