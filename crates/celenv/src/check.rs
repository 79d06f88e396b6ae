//! The type checker, which also makes the program. Upstream: cel-go checker/checker.go.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr,
    SelectExpr, SourceInfo, StructExpr, operators,
};

use crate::estimate::Sketch;
use crate::library;
use crate::macros;
use crate::node::{Call, Fold, Node};
use crate::program::{Environment, Issue};
use crate::types::{Bindings, Type};
use crate::value::Value;

mod aggregate;
mod call;

/// A literal `format`: its place, its text, and the places and types of its arguments.
type Format = (u64, String, Vec<(u64, Type)>);

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
    /// What was checked, for estimates of its cost: the parts of the expression at hand.
    pub sketches: Vec<Sketch>,
    /// The function chosen for the call at hand.
    chosen: Option<(&'static str, Vec<&'static library::Overload>, bool)>,
    /// Elements of literals, each with its place, which have one type.
    literals: Vec<Vec<(u64, Type)>>,
    /// Found by the validators, which only look at what has no other issues.
    late: Vec<(u64, String)>,
    /// Formats that are literals: their place, text, and arguments.
    formats: Vec<Format>,
    /// How many calls of `format` are around.
    within_format: usize,
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
            sketches: Vec::new(),
            chosen: None,
            literals: Vec::new(),
            late: Vec::new(),
            formats: Vec::new(),
            within_format: 0,
        }
    }

    /// The program and its type; only of use if there are no issues.
    pub fn check_root(&mut self, e: &IdedExpr) -> (Node, Type) {
        let (node, t) = self.check(e);
        if self.issues.is_empty() {
            self.validate();
        }
        (node, self.bindings.resolve(&t, true))
    }

    /// Upstream's validators of checked expressions.
    fn validate(&mut self) {
        for elements in std::mem::take(&mut self.literals) {
            let mut types = elements
                .iter()
                .map(|(id, t)| (*id, self.bindings.resolve(t, true)));
            let Some((_, first)) = types.next() else {
                continue;
            };
            if let Some((id, other)) = types.find(|(_, t)| *t != first) {
                self.mismatch(id, &first, &other);
            }
        }
        for (id, template, args) in std::mem::take(&mut self.formats) {
            let resolved = args.iter().map(|(_, t)| self.bindings.resolve(t, true));
            let types: Vec<Type> = resolved.collect();
            if let Some((at, message)) = library::printf::problem(&template, &types) {
                self.issue(at.map_or(id, |n| args[n].0), message);
            }
        }
        for (id, message) in std::mem::take(&mut self.late) {
            self.issue(id, message);
        }
    }

    fn issue(&mut self, id: u64, message: String) {
        let offset = self
            .info
            .offset_for(id)
            .map_or(0, |(start, _)| start as usize);
        // Offsets count bytes.
        let mut offset = offset.min(self.source.len());
        while !self.source.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.source[..offset];
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
        let found = self.bindings.resolve(found, false).in_message();
        let wanted = wanted.in_message();
        self.issue(id, format!("expected type '{wanted}' but found '{found}'"));
    }

    fn check(&mut self, e: &IdedExpr) -> (Node, Type) {
        let from = self.sketches.len();
        let (node, t) = self.check_one(e);
        let below = self.sketches.split_off(from);
        let sketch = Sketch::new(e, t.clone(), below, self.chosen.take(), &mut self.bindings);
        self.sketches.push(sketch);
        (node, t)
    }

    fn check_one(&mut self, e: &IdedExpr) -> (Node, Type) {
        match &e.expr {
            Expr::Literal(l) => aggregate::literal(l),
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
        if name == "optional_type" && !self.environment.knows(28) {
            return None;
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
                let t = t.in_message();
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
                let t = t.in_message();
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

/// `a.b.c` as one name.
pub(crate) fn qualified(e: &IdedExpr) -> Option<String> {
    match &e.expr {
        Expr::Ident(name) => Some(name.trim_start_matches('.').to_string()),
        Expr::Select(s) if !s.test => Some(format!("{}.{}", qualified(&s.operand)?, s.field)),
        _ => None,
    }
}
