//! The type checker, which also makes the program. Upstream: cel-go checker/checker.go.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr,
    SelectExpr, SourceInfo, StructExpr, operators,
};

use crate::library;
use crate::macros;
use crate::node::{Call, Fold, Node};
use crate::program::{Environment, Issue};
use crate::types::{Bindings, Type};
use crate::value::Value;

mod call;

/// One expression's check.
pub(crate) struct Checker<'e> {
    environment: &'e Environment,
    info: &'e SourceInfo,
    source: &'e str,
    pub issues: Vec<Issue>,
    bindings: Bindings,
    /// Variables of macros around, innermost last.
    scopes: Vec<(String, Type)>,
    /// Variables of the environment that are asked for.
    pub used: BTreeSet<usize>,
}

impl<'e> Checker<'e> {
    pub fn new(environment: &'e Environment, info: &'e SourceInfo, source: &'e str) -> Self {
        Self {
            environment,
            info,
            source,
            issues: Vec::new(),
            bindings: Bindings::default(),
            scopes: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// The program and its type; only of use if there are no issues.
    pub fn check_root(&mut self, e: &IdedExpr) -> (Node, Type) {
        let (node, t) = self.check(e);
        (node, self.bindings.resolve(&t, true))
    }

    fn issue(&mut self, id: u64, message: String) {
        let offset = self
            .info
            .offset_for(id)
            .map_or(0, |(start, _)| start as usize);
        let before: String = self.source.chars().take(offset).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count());
        self.issues.push(Issue {
            line,
            column,
            message,
        });
    }

    fn failed(&mut self, id: u64, message: String) -> (Node, Type) {
        self.issue(id, message);
        (Node::Const(Value::Null), Type::Error)
    }

    fn undeclared(&mut self, id: u64, name: &str) -> (Node, Type) {
        self.failed(
            id,
            format!("undeclared reference to '{name}' (in container '')"),
        )
    }

    fn mismatch(&mut self, id: u64, wanted: &Type, found: &Type) {
        let found = self.bindings.resolve(found, false);
        self.issue(id, format!("expected type '{wanted}' but found '{found}'"));
    }

    fn check(&mut self, e: &IdedExpr) -> (Node, Type) {
        match &e.expr {
            Expr::Literal(l) => literal(l),
            Expr::Ident(name) => match self.name(name.trim_start_matches('.')) {
                Some(found) => found,
                None => self.undeclared(e.id, name.trim_start_matches('.')),
            },
            Expr::Select(s) => self.select(e.id, s),
            Expr::Call(c) => self.call(e.id, c),
            Expr::List(l) => self.list(l),
            Expr::Map(m) => self.map(m),
            Expr::Struct(s) => self.structure(e.id, s),
            Expr::Comprehension(c) => self.comprehension(c),
            Expr::Unspecified => self.failed(e.id, "unspecified expression".to_string()),
        }
    }

    /// A variable of a macro, one of the environment, or a type.
    fn name(&mut self, name: &str) -> Option<(Node, Type)> {
        if let Some(depth) = self.scopes.iter().rposition(|(n, _)| n == name) {
            return Some((Node::Local(depth), self.scopes[depth].1.clone()));
        }
        let mut variables = self.environment.variables.iter();
        if let Some(index) = variables.position(|(n, _)| n == name) {
            let t = self.environment.variables[index].1.clone();
            self.used.insert(index);
            return Some((Node::Variable(index), t));
        }
        let t = library::type_named(name)?;
        let node = Node::Const(Value::Type(Arc::from(name)));
        Some((node, Type::Type(Arc::new(t))))
    }

    fn select(&mut self, id: u64, s: &SelectExpr) -> (Node, Type) {
        if !s.test
            && let Some(prefix) = qualified(&s.operand)
        {
            let first = prefix.split('.').next().unwrap_or_default();
            let shadowed = self.scopes.iter().any(|(n, _)| n == first);
            let whole = format!("{prefix}.{}", s.field);
            if !shadowed && let Some(found) = self.name(&whole) {
                return found;
            }
        }
        let (operand, t) = self.check(&s.operand);
        let t = self.field_type(id, &t, &s.field, false);
        let (operand, field) = (Box::new(operand), Arc::from(s.field.as_str()));
        if s.test {
            return (Node::Has(operand, field), Type::Bool);
        }
        (Node::Select(operand, field), t)
    }

    fn field_type(&mut self, id: u64, of: &Type, field: &str, optional: bool) -> Type {
        let of = self.bindings.resolve(of, false);
        let (target, wrapped) = match &of {
            Type::Optional(t) => (t.as_ref().clone(), true),
            t => (t.clone(), false),
        };
        let found = match &target {
            Type::Map(_, v) => v.as_ref().clone(),
            Type::Object(o) => match o.fields.get(field) {
                Some(t) => t.clone(),
                None if self.is_patch_object(&o.name) => Type::Dyn,
                None => {
                    self.issue(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Var(_) => {
                self.bindings.assignable(&target, &Type::Dyn);
                Type::Dyn
            }
            t if t.is_dyn() => Type::Dyn,
            t => {
                self.issue(id, format!("type '{t}' does not support field selection"));
                Type::Dyn
            }
        };
        if wrapped || optional {
            return Type::optional(found);
        }
        found
    }

    fn is_patch_object(&self, name: &str) -> bool {
        self.environment.patch_types && (name == "Object" || name.starts_with("Object."))
    }

    /// The elements of an aggregate have one type; `dyn` widens it.
    fn join(&mut self, id: u64, before: Option<Type>, next: &Type) -> Type {
        let Some(before) = before else {
            return next.clone();
        };
        match self.bindings.join(&before, next) {
            Some(t) => t,
            None => {
                let before = self.bindings.resolve(&before, false);
                self.mismatch(id, &before, next);
                Type::Error
            }
        }
    }

    /// The type within an optional element's value.
    fn unwrapped(&mut self, id: u64, t: Type) -> Type {
        match self.bindings.resolve(&t, false) {
            Type::Optional(t) => t.as_ref().clone(),
            t if t.is_dyn() => Type::Dyn,
            t => {
                self.mismatch(id, &Type::optional(t.clone()), &t);
                t
            }
        }
    }

    fn list(&mut self, l: &ListExpr) -> (Node, Type) {
        let mut joined = None;
        let mut items = Vec::with_capacity(l.elements.len());
        for (i, e) in l.elements.iter().enumerate() {
            let (node, mut t) = self.check(e);
            let optional = l.optional_indices.contains(&i);
            if optional {
                t = self.unwrapped(e.id, t);
            }
            joined = Some(self.join(e.id, joined, &t));
            items.push((node, optional));
        }
        let element = joined.unwrap_or_else(|| self.bindings.fresh());
        (Node::List(items), Type::list(element))
    }

    fn map(&mut self, m: &MapExpr) -> (Node, Type) {
        let (mut key_type, mut value_type) = (None, None);
        let mut entries = Vec::with_capacity(m.entries.len());
        for e in &m.entries {
            let EntryExpr::MapEntry(entry) = &e.expr else {
                continue;
            };
            let (key, t) = self.check(&entry.key);
            key_type = Some(self.join(entry.key.id, key_type, &t));
            let (value, mut t) = self.check(&entry.value);
            if entry.optional {
                t = self.unwrapped(entry.value.id, t);
            }
            value_type = Some(self.join(entry.value.id, value_type, &t));
            entries.push((key, value, entry.optional));
        }
        let key = key_type.unwrap_or_else(|| self.bindings.fresh());
        let value = value_type.unwrap_or_else(|| self.bindings.fresh());
        (Node::Map(entries), Type::map(key, value))
    }

    fn structure(&mut self, id: u64, s: &StructExpr) -> (Node, Type) {
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
                    None => self.issue(e.id, format!("undefined field '{}'", f.field)),
                    Some((_, wanted)) if !self.bindings.assignable(wanted, &t) => {
                        let t = self.bindings.resolve(&t, false);
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

    fn comprehension(&mut self, c: &ComprehensionExpr) -> (Node, Type) {
        let (range, range_type) = self.check(&c.iter_range);
        let (init, accumulator) = self.check(&c.accu_init);
        let two = c.iter_var2.is_some();
        let (first, second) = self.range_types(c.iter_range.id, &range_type, two);
        let depth = self.scopes.len();
        self.scopes.push((c.accu_var.clone(), accumulator.clone()));
        self.scopes.push((c.iter_var.clone(), first));
        if let Some(name) = &c.iter_var2 {
            self.scopes.push((name.clone(), second));
        }
        let (condition, t) = self.check(&c.loop_cond);
        if !self.bindings.assignable(&Type::Bool, &t) {
            self.mismatch(c.loop_cond.id, &Type::Bool, &t);
        }
        let (step, t) = self.check(&c.loop_step);
        if !self.bindings.assignable(&accumulator, &t) {
            let wanted = self.bindings.resolve(&accumulator, false);
            self.mismatch(c.loop_step.id, &wanted, &t);
        }
        self.scopes.truncate(depth + 1);
        let (result, t) = self.check(&c.result);
        self.scopes.truncate(depth);
        let t = self.bindings.resolve(&t, false);
        let fold = Fold {
            range,
            two,
            init,
            condition,
            step: grow_in_place(step, depth),
            result,
        };
        (Node::Fold(Box::new(fold)), t)
    }

    fn range_types(&mut self, id: u64, range: &Type, two: bool) -> (Type, Type) {
        match self.bindings.resolve(range, false) {
            Type::Map(k, v) => (k.as_ref().clone(), v.as_ref().clone()),
            Type::List(t) if two => (Type::Int, t.as_ref().clone()),
            Type::List(t) => (t.as_ref().clone(), Type::Error),
            t if t.is_dyn() || matches!(t, Type::Var(_)) => {
                self.bindings.assignable(&Type::Dyn, &t);
                (Type::Dyn, Type::Dyn)
            }
            t => {
                let text = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.issue(id, format!("expression of type '{t}' {text}"));
                (Type::Error, Type::Error)
            }
        }
    }
}

/// `accumulator + [item]` needs no copy of what was gathered so far.
fn grow_in_place(step: Node, depth: usize) -> Node {
    match step {
        Node::Conditional(test, yes, no) => {
            let yes = grow_in_place(*yes, depth);
            Node::Conditional(test, Box::new(yes), no)
        }
        Node::Call(mut c) if c.function == operators::ADD && c.args.len() == 2 => {
            let one = matches!(&c.args[1], Node::List(items) if items.len() == 1 && !items[0].1);
            if matches!(c.args[0], Node::Local(d) if d == depth)
                && one
                && let Some(Node::List(mut items)) = c.args.pop()
                && let Some((item, _)) = items.pop()
            {
                return Node::Push(depth, Box::new(item));
            }
            Node::Call(c)
        }
        other => other,
    }
}

fn literal(l: &LiteralValue) -> (Node, Type) {
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

/// `a.b.c` as one name.
fn qualified(e: &IdedExpr) -> Option<String> {
    match &e.expr {
        Expr::Ident(name) => Some(name.trim_start_matches('.').to_string()),
        Expr::Select(s) if !s.test => Some(format!("{}.{}", qualified(&s.operand)?, s.field)),
        _ => None,
    }
}
