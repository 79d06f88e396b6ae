//! What is constant is worked out once, before a program runs. Upstream: cel-go interpreter/decorators.go with
//! `OptOptimize`, and the regular expressions that cel/program.go compiles ahead.

use std::sync::Arc;

use crate::eval;
use crate::library;
use crate::node::{Call, Fold, Node};
use crate::program::EvalError;
use crate::types::Type;
use crate::value::{Map, Value};

/// Conversions of constants are constants.
const CONVERSIONS: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "string",
    "timestamp",
    "type",
    "uint",
];

type Planned = Result<Node, EvalError>;

/// The program with its constants worked out; an error if one cannot be.
pub(crate) fn planned(node: Node) -> Planned {
    Ok(match node {
        Node::Const(_) | Node::Variable(_) | Node::Local(_) => node,
        Node::Select(o, f) => Node::Select(boxed(*o)?, f),
        Node::Has(o, f) => Node::Has(boxed(*o)?, f),
        Node::OptionalSelect(o, f) => Node::OptionalSelect(boxed(*o)?, f),
        Node::Index(o, i) => Node::Index(boxed(*o)?, boxed(*i)?),
        Node::OptionalIndex(o, i) => Node::OptionalIndex(boxed(*o)?, boxed(*i)?),
        Node::And(a, b) => Node::And(boxed(*a)?, boxed(*b)?),
        Node::Or(a, b) => Node::Or(boxed(*a)?, boxed(*b)?),
        Node::Conditional(a, b, c) => Node::Conditional(boxed(*a)?, boxed(*b)?, boxed(*c)?),
        Node::NotStrictlyFalse(a) => Node::NotStrictlyFalse(boxed(*a)?),
        Node::Member(a, set) => Node::Member(boxed(*a)?, set),
        Node::Push(depth, item) => Node::Push(depth, boxed(*item)?),
        Node::Fold(f) => {
            let f = *f;
            Node::Fold(Box::new(Fold {
                range: planned(f.range)?,
                two: f.two,
                init: planned(f.init)?,
                condition: planned(f.condition)?,
                step: planned(f.step)?,
                result: planned(f.result)?,
            }))
        }
        Node::Struct(name, fields) => {
            let one = |(n, v, o)| Ok::<_, EvalError>((n, planned(v)?, o));
            Node::Struct(name, fields.into_iter().map(one).collect::<Result<_, _>>()?)
        }
        Node::List(items) => list(items)?,
        Node::Map(entries) => map(entries)?,
        Node::Call(c) => call(*c)?,
    })
}

fn boxed(node: Node) -> Result<Box<Node>, EvalError> {
    planned(node).map(Box::new)
}

fn list(items: Vec<(Node, bool)>) -> Planned {
    let one = |(v, o)| Ok::<_, EvalError>((planned(v)?, o));
    let items: Vec<(Node, bool)> = items.into_iter().map(one).collect::<Result<_, _>>()?;
    let constants: Option<Vec<Value>> = items
        .iter()
        .map(|(v, optional)| constant(v).filter(|_| !optional).cloned())
        .collect();
    Ok(match constants {
        Some(values) => Node::Const(Value::list(values)),
        None => Node::List(items),
    })
}

fn map(entries: Vec<(Node, Node, bool)>) -> Planned {
    let one = |(k, v, o)| Ok::<_, EvalError>((planned(k)?, planned(v)?, o));
    let entries: Vec<(Node, Node, bool)> =
        entries.into_iter().map(one).collect::<Result<_, _>>()?;
    let mut made = Map::default();
    for (k, v, optional) in &entries {
        match (constant(k), constant(v)) {
            (Some(k), Some(v)) if !optional && made.insert(k, v.clone()) => {}
            _ => return Ok(Node::Map(entries)),
        }
    }
    Ok(Node::Const(Value::map(made)))
}

fn constant(node: &Node) -> Option<&Value> {
    match node {
        Node::Const(v) => Some(v),
        _ => None,
    }
}

fn call(c: Call) -> Planned {
    let args: Vec<Node> = c
        .args
        .into_iter()
        .map(planned)
        .collect::<Result<_, EvalError>>()?;
    let c = Call { args, ..c };
    match c.args.as_slice() {
        [Node::Const(v)] if CONVERSIONS.contains(&c.function) => {
            return eval::constant_call(&c, std::slice::from_ref(v)).map(Node::Const);
        }
        [_, Node::Const(Value::String(text))]
            if matches!(c.function, "find" | "findAll" | "matches") =>
        {
            library::regex::pattern(text)?;
        }
        [_, Node::Const(Value::List(l))] if is_in_list(&c) => {
            if l.items.is_empty() {
                return Ok(Node::Const(Value::Bool(false)));
            }
            if l.items.iter().all(hashable) {
                let (l, mut args) = (Arc::clone(l), c.args);
                return Ok(Node::Member(Box::new(args.swap_remove(0)), l));
            }
        }
        _ => {}
    }
    Ok(Node::Call(Box::new(c)))
}

fn is_in_list(c: &Call) -> bool {
    let list = |o: &&library::Overload| matches!(o.params.get(1), Some(Type::List(_)));
    c.function == "@in" && c.overloads.len() == 1 && c.overloads.iter().any(list)
}

fn hashable(v: &Value) -> bool {
    matches!(
        v,
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_)
    )
}
