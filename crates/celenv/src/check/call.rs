//! Calls: macros, operators that are no functions, and the choice of overloads.

use super::*;

impl Checker<'_> {
    pub(super) fn call(&mut self, id: u64, c: &CallExpr) -> (Node, Type) {
        match macros::expand(id, c, self.environment) {
            Some(Ok(expr)) => return self.check(&IdedExpr { id, expr }),
            Some(Err((at, message))) => return self.failed(at, message),
            None => {}
        }
        if c.func_name == operators::OPT_SELECT
            && let [operand, field] = c.args.as_slice()
            && let Expr::Literal(LiteralValue::String(field)) = &field.expr
        {
            let (node, t) = self.check(operand);
            let t = self.field_type(id, &t, field.inner(), true);
            let field = Arc::from(field.inner());
            self.chosen = Some(("_?._", Vec::new(), false));
            return (Node::OptionalSelect(Box::new(node), field), t);
        }
        let mut args = Vec::with_capacity(c.args.len() + 1);
        let mut types = Vec::with_capacity(c.args.len() + 1);
        let formats = usize::from(c.func_name == "format");
        self.within_format += formats;
        for a in &c.args {
            let (node, t) = self.check(a);
            args.push(node);
            types.push(t);
        }
        self.within_format -= formats;
        let Some(target) = c.target.as_deref() else {
            let name = c.func_name.trim_start_matches('.');
            return self.function(id, name, false, (args, types), c);
        };
        if let Some(prefix) = qualified(target) {
            let name = format!("{prefix}.{}", c.func_name);
            if library::function(&name).is_some() {
                return self.function(id, &name, false, (args, types), c);
            }
        }
        let (node, t) = self.check(target);
        args.insert(0, node);
        types.insert(0, t);
        self.function(id, &c.func_name, true, (args, types), c)
    }

    fn function(
        &mut self,
        id: u64,
        name: &str,
        member: bool,
        given: (Vec<Node>, Vec<Type>),
        call: &CallExpr,
    ) -> (Node, Type) {
        let (args, types) = given;
        let known = |o: &library::Overload| self.environment.knows(o.since);
        let Some(function) = library::function(name).filter(|f| f.overloads.iter().any(known))
        else {
            return self.undeclared(id, name);
        };
        if matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            return self.logical(name, args, &types, call);
        }
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for o in function.overloads.iter().filter(|o| o.member == member) {
            if o.params.len() != types.len() || !self.environment.knows(o.since) {
                continue;
            }
            let before = self.bindings.clone();
            let (params, t) = self.instance(o);
            let fits = params
                .iter()
                .zip(&types)
                .all(|(p, t)| self.bindings.assignable(p, t));
            if !fits {
                self.bindings = before;
                continue;
            }
            fitting.push(o);
            let t = self.bindings.resolve(&t, false);
            result = Some(match result {
                None => t,
                Some(r) if r.is_dyn() || r == t => r,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = types
                .iter()
                .map(|t| self.bindings.resolve(t, true).in_message())
                .collect();
            let shown = match shown.split_first() {
                Some((target, rest)) if member => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            return self.failed(
                id,
                format!("found no matching overload for '{name}' applied to '{shown}'"),
            );
        };
        self.literal_problems(id, name, &args, call);
        self.chosen = Some((function.name, fitting.clone(), member));
        (self.node(function.name, fitting, args), result)
    }

    fn node(
        &self,
        name: &'static str,
        overloads: Vec<&'static library::Overload>,
        mut args: Vec<Node>,
    ) -> Node {
        match (name, args.len()) {
            (operators::CONDITIONAL, 3) => {
                let (c, b) = (args.pop(), args.pop());
                match (args.pop(), b, c) {
                    (Some(a), Some(b), Some(c)) => {
                        Node::Conditional(Box::new(a), Box::new(b), Box::new(c))
                    }
                    _ => Node::Const(Value::Null),
                }
            }
            (operators::INDEX | operators::OPT_INDEX, 2) => match (args.pop(), args.pop()) {
                (Some(i), Some(o)) if name == operators::INDEX => {
                    Node::Index(Box::new(o), Box::new(i))
                }
                (Some(i), Some(o)) => Node::OptionalIndex(Box::new(o), Box::new(i)),
                _ => Node::Const(Value::Null),
            },
            (operators::NOT_STRICTLY_FALSE, 1) => match args.pop() {
                Some(a) => Node::NotStrictlyFalse(Box::new(a)),
                None => Node::Const(Value::Null),
            },
            _ => Node::Call(Box::new(Call {
                function: name,
                overloads,
                args,
            })),
        }
    }

    fn logical(
        &mut self,
        name: &str,
        mut args: Vec<Node>,
        types: &[Type],
        call: &CallExpr,
    ) -> (Node, Type) {
        for (t, e) in types.iter().zip(&call.args) {
            if !self.bindings.assignable(t, &Type::Bool) {
                self.mismatch(e.id, &Type::Bool, t);
            }
        }
        let overloads =
            library::function(name).map_or(Vec::new(), |f| f.overloads.iter().collect());
        let name_of = library::function(name).map_or("", |f| f.name);
        self.chosen = Some((name_of, overloads, false));
        let node = match (args.pop(), args.pop()) {
            (Some(b), Some(a)) if name == operators::LOGICAL_AND => {
                Node::And(Box::new(a), Box::new(b))
            }
            (Some(b), Some(a)) => Node::Or(Box::new(a), Box::new(b)),
            _ => Node::Const(Value::Null),
        };
        (node, Type::Bool)
    }

    /// An overload's types with parameters of their own.
    fn instance(&mut self, o: &library::Overload) -> (Vec<Type>, Type) {
        let (a, b) = (self.bindings.fresh(), self.bindings.fresh());
        let params = o.params.iter().map(|t| put_in(t, &a, &b)).collect();
        (params, put_in(&o.result, &a, &b))
    }

    /// Literals that can never work: upstream's validators of syntax trees.
    fn literal_problems(&mut self, id: u64, name: &str, args: &[Node], call: &CallExpr) {
        if name == "format" {
            return self.literal_format(id, call);
        }
        let place = usize::from(name == "matches");
        let Some(Node::Const(Value::String(text))) = args.get(place) else {
            return;
        };
        let bad = match name {
            "duration" => library::time::parse_duration(text).is_err(),
            "timestamp" => library::time::parse_timestamp(text).is_err(),
            "matches" => library::regex::pattern(text).is_err(),
            _ => return,
        };
        if bad && let Some(e) = call.args.last() {
            self.late.push((e.id, format!("invalid {name} argument")));
        }
    }

    /// A format and its arguments, if both are literals: the arguments' types are known later.
    fn literal_format(&mut self, id: u64, call: &CallExpr) {
        let template = call.target.as_deref().map(|t| &t.expr);
        let (Some(Expr::Literal(LiteralValue::String(template))), Some(args)) =
            (template, call.args.first())
        else {
            return;
        };
        let Expr::List(l) = &args.expr else {
            return;
        };
        // The arguments were checked right before the receiver.
        let Some(list) = self.sketches.iter().rev().nth(1) else {
            return;
        };
        let types = list.below.iter().map(|s| s.t.clone());
        let args = l.elements.iter().map(|e| e.id).zip(types).collect();
        self.formats.push((id, template.inner().to_string(), args));
    }
}

fn put_in(t: &Type, a: &Type, b: &Type) -> Type {
    match t {
        Type::Param('A') => a.clone(),
        Type::Param(_) => b.clone(),
        Type::List(t) => Type::list(put_in(t, a, b)),
        Type::Map(k, v) => Type::map(put_in(k, a, b), put_in(v, a, b)),
        Type::Optional(t) => Type::optional(put_in(t, a, b)),
        Type::Type(t) => Type::Type(Arc::new(put_in(t, a, b))),
        t => t.clone(),
    }
}
