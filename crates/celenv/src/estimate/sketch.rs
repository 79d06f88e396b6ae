//! What is kept of a checked expression for the estimate of its cost.

use cel::common::ast::{Expr, IdedExpr, LiteralValue};

use crate::library::Overload;
use crate::types::{Bindings, Type};

/// A part of a checked expression.
#[derive(Debug)]
pub(crate) struct Sketch {
    pub(super) shape: Shape,
    /// The type, as far as it was known when the part was checked.
    pub t: Type,
    /// Parts below, in the order they were checked in: of calls the arguments, then the receiver.
    pub below: Vec<Sketch>,
}

#[derive(Debug)]
pub(super) enum Shape {
    Literal {
        size: u64,
        whole: Option<i64>,
    },
    Ident(String),
    Select {
        field: String,
        test: bool,
    },
    Call {
        function: &'static str,
        overloads: Vec<&'static Overload>,
        member: bool,
    },
    List,
    Map,
    Struct,
    Fold(Names),
    /// Nothing that checks.
    Wrong,
}

#[derive(Debug)]
pub(super) struct Names {
    pub accumulator: String,
    pub first: String,
    pub second: Option<String>,
}

impl Sketch {
    /// Of an expression that was just checked.
    pub fn new(
        e: &IdedExpr,
        t: Type,
        mut below: Vec<Sketch>,
        chosen: Option<(&'static str, Vec<&'static Overload>, bool)>,
        bindings: &mut Bindings,
    ) -> Self {
        let t = bindings.resolve(&t, false);
        let shape = match (&e.expr, chosen) {
            (_, Some((function, overloads, member))) => Shape::Call {
                function,
                overloads,
                member,
            },
            // A macro is what it was expanded to.
            (Expr::Call(_), None) if below.len() == 1 => match below.pop() {
                Some(expanded) => return expanded,
                None => Shape::Wrong,
            },
            (Expr::Literal(l), _) => literal(l),
            (Expr::Ident(name), _) => Shape::Ident(name.trim_start_matches('.').to_string()),
            (Expr::Select(s), _) if below.is_empty() => {
                Shape::Ident(crate::check::qualified(e).unwrap_or_else(|| s.field.clone()))
            }
            (Expr::Select(s), _) => Shape::Select {
                field: s.field.clone(),
                test: s.test,
            },
            (Expr::List(_), _) => Shape::List,
            (Expr::Map(_), _) => Shape::Map,
            (Expr::Struct(_), _) => Shape::Struct,
            (Expr::Comprehension(c), _) => Shape::Fold(Names {
                accumulator: c.accu_var.clone(),
                first: c.iter_var.clone(),
                second: c.iter_var2.clone(),
            }),
            _ => Shape::Wrong,
        };
        Self { shape, t, below }
    }
}

fn literal(l: &LiteralValue) -> Shape {
    let (size, whole) = match l {
        LiteralValue::String(s) => (s.inner().chars().count(), None),
        LiteralValue::Bytes(b) => (b.inner().len(), None),
        LiteralValue::Int(i) => (1, Some(*i.inner())),
        _ => (1, None),
    };
    Shape::Literal {
        size: size as u64,
        whole,
    }
}
