//! What the checker makes of a syntax tree: names are resolved, overloads chosen as far as types are known.

use std::sync::Arc;

use crate::library::Overload;
use crate::value::{List, Value};

/// One step of a program.
#[derive(Debug)]
pub(crate) enum Node {
    Const(Value),
    /// A variable of the environment, by its place among the declarations.
    Variable(usize),
    /// A variable of a macro, by its depth.
    Local(usize),
    Select(Box<Node>, Arc<str>),
    /// `has(a.b)`.
    Has(Box<Node>, Arc<str>),
    /// `a.?b`.
    OptionalSelect(Box<Node>, Arc<str>),
    Index(Box<Node>, Box<Node>),
    /// `a[?b]`.
    OptionalIndex(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Conditional(Box<Node>, Box<Node>, Box<Node>),
    NotStrictlyFalse(Box<Node>),
    /// `a in [constants]`.
    Member(Box<Node>, Arc<List>),
    Call(Box<Call>),
    /// Each with whether it is an optional's value.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Struct(Arc<str>, Vec<(Arc<str>, Node, bool)>),
    Fold(Box<Fold>),
    /// `accumulator + [item]`, which grows the accumulator in place.
    Push(usize, Box<Node>),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub function: &'static str,
    /// What goes with the types that are known; values decide between several.
    pub overloads: Vec<&'static Overload>,
    /// The receiver first, if there is one.
    pub args: Vec<Node>,
}

/// A comprehension. Locals at run time: the accumulator, then one or two variables.
#[derive(Debug)]
pub(crate) struct Fold {
    pub range: Node,
    pub two: bool,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

impl Node {
    /// Shows this node and all below it, in no order that means anything.
    pub fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Node)) {
        see(self);
        match self {
            Self::Const(_) | Self::Variable(_) | Self::Local(_) => {}
            Self::Select(a, _)
            | Self::Has(a, _)
            | Self::OptionalSelect(a, _)
            | Self::NotStrictlyFalse(a)
            | Self::Member(a, _)
            | Self::Push(_, a) => a.visit(see),
            Self::Index(a, b) | Self::OptionalIndex(a, b) | Self::And(a, b) | Self::Or(a, b) => {
                a.visit(see);
                b.visit(see);
            }
            Self::Conditional(a, b, c) => [a, b, c].into_iter().for_each(|n| n.visit(see)),
            Self::Call(call) => call.args.iter().for_each(|n| n.visit(see)),
            Self::List(items) => items.iter().for_each(|(n, _)| n.visit(see)),
            Self::Map(entries) => entries.iter().for_each(|(k, v, _)| {
                k.visit(see);
                v.visit(see);
            }),
            Self::Struct(_, fields) => fields.iter().for_each(|(_, n, _)| n.visit(see)),
            Self::Fold(f) => [&f.range, &f.init, &f.condition, &f.step, &f.result]
                .into_iter()
                .for_each(|n| n.visit(see)),
        }
    }
}
