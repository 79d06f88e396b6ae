//! The evaluator: walks a program and counts its cost. Upstream: cel-go interpreter, with the cost of
//! interpreter/runtimecost.go.

use std::sync::Arc;

use crate::cost;
use crate::library::{self, Foreign, Overload};
use crate::node::{Call, Fold, Node};
use crate::program::EvalError;
use crate::value::{Map, Value};

mod part;

use part::{at, go_type, has, optional_at, optional_select, select};

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
    /// Variables of macros. An accumulator may hold an error, which `&&` or `||` of a later turn makes up for.
    locals: Vec<Answer>,
    cost: u64,
    limit: u64,
}

pub(crate) fn no_overload() -> EvalError {
    EvalError::of("no such overload")
}

/// Whether upstream plans the node as an attribute: a name with what is selected of it.
fn is_attribute(node: &Node) -> bool {
    matches!(
        node,
        Node::Variable(_)
            | Node::Local(_)
            | Node::Select(..)
            | Node::OptionalSelect(..)
            | Node::Index(..)
            | Node::OptionalIndex(..)
            | Node::Conditional(..)
    )
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
            Node::Conditional(..) => self.attribute(node),
            node if is_attribute(node) => {
                let v = self.attribute(node);
                self.spend(cost::SELECT_AND_IDENT)?;
                v
            }
            Node::Has(operand, field) => self.has(operand, field),
            Node::And(a, b) => self.logical(a, b, false),
            Node::Or(a, b) => self.logical(a, b, true),
            Node::NotStrictlyFalse(a) => {
                let held = self.run(a);
                self.spend(1)?;
                match held {
                    Err(EvalError::TooCostly) => Err(EvalError::TooCostly),
                    Ok(Value::Bool(b)) => Ok(Value::Bool(b)),
                    _ => Ok(Value::Bool(true)),
                }
            }
            Node::Member(v, set) => {
                let v = self.run(v)?;
                Ok(set.items.iter().any(|x| x.equals(&v)).into())
            }
            Node::Call(call) => self.call(call),
            Node::List(items) => {
                let list = self.list(items);
                self.spend(cost::LIST_CREATE)?;
                list
            }
            Node::Map(entries) => {
                let map = self.map(entries);
                self.spend(cost::MAP_CREATE)?;
                map
            }
            Node::Struct(name, fields) => {
                let made = self.structure(name, fields);
                self.spend(cost::STRUCT_CREATE)?;
                made
            }
            Node::Fold(fold) => self.fold(fold),
            Node::Push(depth, item) => self.push(*depth, item),
            // All others are attributes.
            _ => Err(no_overload()),
        }
    }

    /// An attribute without the cost of naming it: that comes once, and not at all for a branch of `?:`.
    fn attribute(&mut self, node: &Node) -> Answer {
        let found = self.found(node)?;
        match &found {
            Value::Foreign(f) => match f.as_ref() {
                Foreign::Invalid(text) => Err(EvalError::of(text.clone())),
                _ => Ok(found),
            },
            _ => Ok(found),
        }
    }

    /// An attribute, be it one that must not be read.
    fn found(&mut self, node: &Node) -> Answer {
        match node {
            Node::Variable(index) => self.lookup.variable(*index),
            Node::Local(depth) => self.locals[*depth].clone(),
            Node::Select(operand, field) => {
                let operand = self.operand(operand)?;
                if matches!(operand, Value::Optional(_)) {
                    return self.if_present(optional_select(operand, field));
                }
                let v = select(&operand, field);
                self.spend(cost::SELECT_AND_IDENT)?;
                v
            }
            Node::OptionalSelect(operand, field) => {
                let operand = self.operand(operand)?;
                self.if_present(optional_select(operand, field))
            }
            Node::Index(operand, index) => self.index(operand, index, false),
            Node::OptionalIndex(operand, index) => self.index(operand, index, true),
            Node::Conditional(test, yes, no) => match self.run(test)? {
                Value::Bool(true) => self.operand(yes),
                Value::Bool(false) => self.operand(no),
                _ => Err(no_overload()),
            },
            other => self.run(other),
        }
    }

    fn operand(&mut self, node: &Node) -> Answer {
        if is_attribute(node) {
            self.attribute(node)
        } else {
            self.run(node)
        }
    }

    /// What is not there costs nothing.
    fn if_present(&mut self, found: Answer) -> Answer {
        if matches!(found, Ok(Value::Optional(Some(_)))) {
            self.spend(cost::SELECT_AND_IDENT)?;
        }
        found
    }

    fn index(&mut self, operand: &Node, index: &Node, optional: bool) -> Answer {
        let operand = self.operand(operand)?;
        if matches!(operand, Value::Optional(None)) {
            return Ok(operand);
        }
        let index = self.operand(index);
        if optional || matches!(operand, Value::Optional(_)) {
            return self.if_present(optional_at(operand, &index?));
        }
        let v = index.and_then(|i| at(&operand, &i));
        self.spend(cost::SELECT_AND_IDENT)?;
        v
    }

    fn has(&mut self, operand: &Node, field: &str) -> Answer {
        let operand = self.operand(operand)?;
        let set = has(&operand, field);
        if !matches!(operand, Value::Optional(_)) || matches!(set, Ok(true)) {
            self.spend(cost::SELECT_AND_IDENT)?;
        }
        set.map(Value::Bool)
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
        match (left, self.run(b)) {
            (_, Ok(Value::Bool(v))) if v == deciding => Ok(Value::Bool(v)),
            (_, Err(EvalError::TooCostly)) => Err(EvalError::TooCostly),
            (Err(e), _) => Err(e),
            (Ok(Value::Bool(_)), Ok(Value::Bool(v))) => Ok(Value::Bool(v)),
            (Ok(Value::Bool(_)), Err(e)) => Err(e),
            _ => Err(no_overload()),
        }
    }

    fn call(&mut self, call: &Call) -> Answer {
        if matches!(call.function, "or" | "orValue") && call.args.len() == 2 {
            return self.otherwise(call);
        }
        let mut args = Vec::with_capacity(call.args.len());
        let mut failed = None;
        for a in &call.args {
            match self.run(a) {
                Ok(v) => args.push(v),
                // Calls of up to two arguments evaluate both, and pay.
                Err(e) if e != EvalError::TooCostly && call.args.len() <= 2 => {
                    args.push(Value::Null);
                    failed.get_or_insert(e);
                }
                Err(e) => return Err(e),
            }
        }
        let result = match (failed, choose(&call.overloads, &args)) {
            (Some(e), _) => Err(e),
            (None, Some(overload)) => (overload.call)(&args),
            (None, None) => Err(no_overload_of(call.function, &args)),
        };
        let one = call.overloads.len() == 1;
        let spent = cost::of_call(call.function, one, &args, result.as_ref().ok());
        self.spend(spent)?;
        result
    }

    /// `or` and `orValue` of optionals cost nothing, and look at their argument only where they must.
    fn otherwise(&mut self, call: &Call) -> Answer {
        match self.run(&call.args[0])? {
            Value::Optional(None) => self.run(&call.args[1]),
            Value::Optional(Some(v)) if call.function == "orValue" => Ok(v.as_ref().clone()),
            v @ Value::Optional(Some(_)) => Ok(v),
            v => Err(no_overload_of(call.function, &[v])),
        }
    }

    fn push(&mut self, depth: usize, item: &Node) -> Answer {
        let made = self.run(item);
        if matches!(made, Err(EvalError::TooCostly)) {
            return made;
        }
        // A list of constants is one itself.
        let list = match item {
            Node::Const(_) => 0,
            _ => cost::LIST_CREATE,
        };
        self.spend(cost::SELECT_AND_IDENT + list + 1)?;
        let before = std::mem::replace(&mut self.locals[depth], Ok(Value::Null));
        let (mut before, item) = (before?, made?);
        let Value::List(list) = &mut before else {
            return Err(no_overload());
        };
        Arc::make_mut(list).items.push(item);
        Ok(before)
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
        Ok(Value::list(out))
    }

    fn map(&mut self, entries: &[(Node, Node, bool)]) -> Answer {
        let mut out = Map::default();
        for (key, value, optional) in entries {
            let key = self.run(key)?;
            let value = self.run(value)?;
            let Some(value) = taken(value, *optional, &library::shown(&key))? else {
                out.remove(&key);
                continue;
            };
            // Of equal keys the last one counts.
            if !out.insert(&key, value) {
                let t = key.type_name();
                return Err(EvalError::of(format!("unsupported key type: {t}")));
            }
        }
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
        Ok(Value::map(out))
    }

    fn fold(&mut self, f: &Fold) -> Answer {
        let range = self.run(&f.range)?;
        let init = self.run(&f.init);
        if matches!(init, Err(EvalError::TooCostly)) {
            return init;
        }
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
        match range {
            Value::List(l) => {
                for (i, v) in l.items.iter().enumerate() {
                    let index = Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
                    let (first, second) = if f.two {
                        (index, Some(v.clone()))
                    } else {
                        (v.clone(), None)
                    };
                    if !self.turn(f, depth, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(m) => {
                for (k, v) in m.entries() {
                    let second = f.two.then(|| v.clone());
                    if !self.turn(f, depth, k, second)? {
                        break;
                    }
                }
            }
            v => {
                let t = go_type(v);
                return Err(EvalError::of(match f.two {
                    true => format!("unsupported comprehension range type: {t}"),
                    false => format!("got '{t}', expected iterable type"),
                }));
            }
        }
        Ok(())
    }

    /// One turn of a comprehension. Says whether there may be another. An accumulator that is an error goes on.
    fn turn(
        &mut self,
        f: &Fold,
        depth: usize,
        first: Value,
        second: Option<Value>,
    ) -> Result<bool, EvalError> {
        self.locals.truncate(depth + 1);
        self.locals.push(Ok(first));
        self.locals.extend(second.map(Ok));
        match self.run(&f.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(EvalError::TooCostly) => return Err(EvalError::TooCostly),
            _ => {}
        }
        match self.run(&f.step) {
            Err(EvalError::TooCostly) => Err(EvalError::TooCostly),
            v => {
                self.locals[depth] = v;
                Ok(true)
            }
        }
    }
}

/// The first overload whose types go with the values.
fn choose(overloads: &[&'static Overload], args: &[Value]) -> Option<&'static Overload> {
    let fits = |o: &&&'static Overload| {
        o.params.len() == args.len() && o.params.iter().zip(args).all(|(t, v)| library::takes(t, v))
    };
    overloads.iter().find(fits).copied()
}

/// A call whose arguments are known.
pub(crate) fn constant_call(call: &Call, args: &[Value]) -> Answer {
    match choose(&call.overloads, args) {
        Some(overload) => (overload.call)(args),
        None => Err(no_overload_of(call.function, args)),
    }
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
