//! The evaluator: walks a program and counts its cost. Upstream: cel-go interpreter, with the cost of
//! interpreter/runtimecost.go.

use std::sync::Arc;

use crate::cost;
use crate::library::{self, Overload};
use crate::node::{Call, Fold, Node};
use crate::program::EvalError;
use crate::value::{List, Map, Value};

type Answer = Result<Value, EvalError>;

/// The values of an environment's variables.
pub trait Lookup {
    /// The value of the variable at this place among the declarations; an error if there is none.
    fn variable(&self, index: usize) -> Result<Value, EvalError>;
}

/// Values in the order of the declarations.
impl Lookup for [Value] {
    fn variable(&self, index: usize) -> Result<Value, EvalError> {
        self.get(index)
            .cloned()
            .ok_or_else(|| EvalError::of("no such attribute(s)"))
    }
}

impl Lookup for Vec<Value> {
    fn variable(&self, index: usize) -> Result<Value, EvalError> {
        self.as_slice().variable(index)
    }
}

/// One evaluation.
pub(crate) struct Evaluation<'a> {
    lookup: &'a dyn Lookup,
    locals: Vec<Value>,
    cost: u64,
    limit: u64,
}

pub(crate) fn no_overload() -> EvalError {
    EvalError::of("no such overload")
}

impl<'a> Evaluation<'a> {
    pub fn new(lookup: &'a dyn Lookup, limit: u64) -> Self {
        Self {
            lookup,
            locals: Vec::new(),
            cost: 0,
            limit,
        }
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            return Err(EvalError::TooCostly);
        }
        Ok(())
    }

    pub fn run(&mut self, node: &Node) -> Answer {
        match node {
            Node::Const(v) => Ok(v.clone()),
            Node::Variable(index) => {
                self.spend(cost::SELECT_AND_IDENT)?;
                self.lookup.variable(*index)
            }
            Node::Local(depth) => {
                self.spend(cost::SELECT_AND_IDENT)?;
                Ok(self.locals[*depth].clone())
            }
            Node::Select(operand, field) => {
                let operand = self.run(operand)?;
                self.spend(cost::SELECT_AND_IDENT)?;
                select(&operand, field)
            }
            Node::Has(operand, field) => {
                let operand = self.run(operand)?;
                has(&operand, field).map(Value::Bool)
            }
            Node::OptionalSelect(operand, field) => {
                let operand = self.run(operand)?;
                self.spend(cost::SELECT_AND_IDENT)?;
                optional_select(operand, field)
            }
            Node::Index(operand, index) => {
                let operand = self.run(operand)?;
                let index = self.run(index)?;
                self.spend(cost::SELECT_AND_IDENT)?;
                at(&operand, &index)
            }
            Node::OptionalIndex(operand, index) => {
                let operand = self.run(operand)?;
                let index = self.run(index)?;
                self.spend(cost::SELECT_AND_IDENT)?;
                optional_at(operand, &index)
            }
            Node::And(a, b) => self.logical(a, b, false),
            Node::Or(a, b) => self.logical(a, b, true),
            Node::Conditional(test, yes, no) => match self.run(test)? {
                Value::Bool(true) => self.run(yes),
                Value::Bool(false) => self.run(no),
                _ => Err(no_overload()),
            },
            Node::NotStrictlyFalse(a) => {
                let held = self.run(a);
                self.spend(1)?;
                match held {
                    Err(EvalError::TooCostly) => Err(EvalError::TooCostly),
                    Ok(Value::Bool(b)) => Ok(Value::Bool(b)),
                    _ => Ok(Value::Bool(true)),
                }
            }
            Node::Call(call) => self.call(call),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct(name, fields) => self.structure(name, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::Push(depth, item) => {
                let item = self.run(item)?;
                self.spend(cost::SELECT_AND_IDENT + cost::LIST_CREATE + 1)?;
                let mut before = std::mem::replace(&mut self.locals[*depth], Value::Null);
                let Value::List(list) = &mut before else {
                    return Err(no_overload());
                };
                Arc::make_mut(list).items.push(item);
                Ok(before)
            }
        }
    }

    /// `&&` and `||`: one side that decides makes up for an error on the other.
    fn logical(&mut self, a: &Node, b: &Node, deciding: bool) -> Answer {
        let left = self.run(a);
        if matches!(left, Err(EvalError::TooCostly)) {
            return left;
        }
        if matches!(left, Ok(Value::Bool(v)) if v == deciding) {
            return left;
        }
        let right = self.run(b)?;
        match (left, right) {
            (_, Value::Bool(v)) if v == deciding => Ok(Value::Bool(v)),
            (Err(e), _) => Err(e),
            (Ok(Value::Bool(_)), Value::Bool(v)) => Ok(Value::Bool(v)),
            _ => Err(no_overload()),
        }
    }

    fn call(&mut self, call: &Call) -> Answer {
        let mut args = Vec::with_capacity(call.args.len());
        for a in &call.args {
            args.push(self.run(a)?);
        }
        let Some(overload) = choose(&call.overloads, &args) else {
            return Err(no_overload_of(call.function, &args));
        };
        let result = (overload.call)(&args);
        let spent = cost::of_call(call.function, &args, result.as_ref().ok());
        self.spend(spent)?;
        result
    }

    fn list(&mut self, items: &[(Node, bool)]) -> Answer {
        let mut out = Vec::with_capacity(items.len());
        for (node, optional) in items {
            let v = self.run(node)?;
            match (optional, v) {
                (false, v) => out.push(v),
                (true, Value::Optional(Some(v))) => out.push(v.as_ref().clone()),
                (true, Value::Optional(None)) => {}
                (true, v) => {
                    let text = "cannot initialize optional list element from non-optional value";
                    return Err(EvalError::of(format!("{text} {}", library::shown(&v))));
                }
            }
        }
        self.spend(cost::LIST_CREATE)?;
        Ok(Value::list(out))
    }

    fn map(&mut self, entries: &[(Node, Node, bool)]) -> Answer {
        let mut out = Map::default();
        for (key, value, optional) in entries {
            let key = self.run(key)?;
            let value = self.run(value)?;
            let Some(value) = taken(value, *optional, &library::shown(&key))? else {
                continue;
            };
            if out.get(&key).is_some() {
                let key = library::shown(&key);
                return Err(EvalError::of(format!(
                    "insert failed: key {key} already exists"
                )));
            }
            if !out.insert(&key, value) {
                let t = key.type_name();
                return Err(EvalError::of(format!("unsupported key type: {t}")));
            }
        }
        self.spend(cost::MAP_CREATE)?;
        Ok(Value::map(out))
    }

    fn structure(&mut self, name: &Arc<str>, fields: &[(Arc<str>, Node, bool)]) -> Answer {
        let mut out = Map {
            type_name: Some(name.clone()),
            ..Map::default()
        };
        for (field, node, optional) in fields {
            let value = self.run(node)?;
            if let Some(value) = taken(value, *optional, field)? {
                out.fields.insert(field.clone(), value);
            }
        }
        self.spend(cost::STRUCT_CREATE)?;
        Ok(Value::map(out))
    }

    fn fold(&mut self, f: &Fold) -> Answer {
        let range = self.run(&f.range)?;
        let init = self.run(&f.init)?;
        let depth = self.locals.len();
        self.locals.push(init);
        let answer = self.turns(f, &range, depth).and_then(|()| {
            self.locals.truncate(depth + 1);
            self.run(&f.result)
        });
        self.locals.truncate(depth);
        answer
    }

    fn turns(&mut self, f: &Fold, range: &Value, depth: usize) -> Result<(), EvalError> {
        // An error that `&&` or `||` of a later turn may make up for.
        let mut pending = None;
        match range {
            Value::List(l) => {
                for (i, v) in l.items.iter().enumerate() {
                    let index = Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
                    let (first, second) = if f.two {
                        (index, Some(v.clone()))
                    } else {
                        (v.clone(), None)
                    };
                    if !self.turn(f, depth, &mut pending, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(m) => {
                for (k, v) in m.entries() {
                    let second = f.two.then(|| v.clone());
                    if !self.turn(f, depth, &mut pending, k, second)? {
                        break;
                    }
                }
            }
            _ => return Err(no_overload()),
        }
        pending.map_or(Ok(()), Err)
    }

    /// One turn of a comprehension. Says whether there may be another.
    fn turn(
        &mut self,
        f: &Fold,
        depth: usize,
        pending: &mut Option<EvalError>,
        first: Value,
        second: Option<Value>,
    ) -> Result<bool, EvalError> {
        self.locals.truncate(depth + 1);
        self.locals.push(first);
        self.locals.extend(second);
        // An accumulator that is an error is not strictly false: the loop goes on.
        if pending.is_none() && !matches!(self.run(&f.condition)?, Value::Bool(true)) {
            return Ok(false);
        }
        match (self.run(&f.step), logical_step(&f.step)) {
            (Ok(Value::Bool(b)), Some(deciding)) => {
                if b == deciding {
                    *pending = None;
                }
                self.locals[depth] = Value::Bool(b);
                Ok(b != deciding)
            }
            (Ok(v), _) => {
                self.locals[depth] = v;
                Ok(true)
            }
            (Err(EvalError::TooCostly), _) => Err(EvalError::TooCostly),
            (Err(e), Some(_)) => {
                pending.get_or_insert(e);
                Ok(true)
            }
            (Err(e), None) => Err(e),
        }
    }
}

/// What decides the step of `all` (false) or `exists` (true); nothing for other macros.
fn logical_step(step: &Node) -> Option<bool> {
    match step {
        Node::And(..) => Some(false),
        Node::Or(..) => Some(true),
        _ => None,
    }
}

/// The first overload whose types go with the values.
fn choose(overloads: &[&'static Overload], args: &[Value]) -> Option<&'static Overload> {
    let fits = |o: &&&'static Overload| {
        o.params.len() == args.len() && o.params.iter().zip(args).all(|(t, v)| library::takes(t, v))
    };
    overloads.iter().find(fits).copied()
}

fn no_overload_of(function: &str, args: &[Value]) -> EvalError {
    if library::is_operator(function) {
        return no_overload();
    }
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    EvalError::of(format!(
        "no such overload: {function}({})",
        types.join(", ")
    ))
}

/// The value to set: that of an optional, if it has one.
fn taken(v: Value, optional: bool, field: &str) -> Result<Option<Value>, EvalError> {
    match (optional, v) {
        (false, v) => Ok(Some(v)),
        (true, Value::Optional(v)) => Ok(v.map(|v| v.as_ref().clone())),
        (true, v) => {
            let v = library::shown(&v);
            let text =
                format!("cannot initialize optional entry '{field}' from non-optional value {v}");
            Err(EvalError::of(text))
        }
    }
}

fn select(operand: &Value, field: &str) -> Answer {
    match operand {
        Value::Map(m) => match m.field(field) {
            Some(v) => Ok(v.clone()),
            None => Err(EvalError::of(format!("no such key: {field}"))),
        },
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(v)) => optional_select(v.as_ref().clone(), field),
        _ => Err(no_overload()),
    }
}

fn has(operand: &Value, field: &str) -> Result<bool, EvalError> {
    match operand {
        // An object's field that is null is not set.
        Value::Map(m) => Ok(m
            .field(field)
            .is_some_and(|v| m.type_name.is_none() || !matches!(v, Value::Null))),
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(v)) => has(v, field),
        _ => Err(no_overload()),
    }
}

fn wrapped(v: Option<&Value>) -> Value {
    Value::Optional(v.map(|v| Arc::new(v.clone())))
}

fn optional_select(operand: Value, field: &str) -> Answer {
    match operand {
        Value::Map(m) => Ok(wrapped(m.field(field))),
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(v)) => optional_select(v.as_ref().clone(), field),
        _ => Err(no_overload()),
    }
}

fn position(l: &List, index: &Value) -> Option<usize> {
    let i = match index {
        Value::Int(i) => usize::try_from(*i).ok()?,
        Value::Uint(u) => usize::try_from(*u).ok()?,
        Value::Double(d) if d.trunc() == *d && *d >= 0.0 => *d as usize,
        _ => return None,
    };
    (i < l.items.len()).then_some(i)
}

fn at(operand: &Value, index: &Value) -> Answer {
    match operand {
        Value::List(l) if matches!(index, Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            match position(l, index) {
                Some(i) => Ok(l.items[i].clone()),
                None => {
                    let i = library::shown(index);
                    Err(EvalError::of(format!("index out of bounds: {i}")))
                }
            }
        }
        Value::Map(m) => m
            .get(index)
            .cloned()
            .ok_or_else(|| EvalError::of(format!("no such key: {}", library::shown(index)))),
        Value::Optional(_) => optional_at(operand.clone(), index),
        _ => Err(no_overload()),
    }
}

fn optional_at(operand: Value, index: &Value) -> Answer {
    match &operand {
        Value::List(l) => Ok(wrapped(position(l, index).map(|i| &l.items[i]))),
        Value::Map(m) => Ok(wrapped(m.get(index))),
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(v)) => optional_at(v.as_ref().clone(), index),
        _ => Err(no_overload()),
    }
}
