//! Calls: macros, operators that are no functions, and the choice of overloads.

use super::*;

impl Checker<'_> {
    pub(super) fn call(&mut self, id: u64, c: &CallExpr) -> (Node, Type) {
        match macros::expand(id, c) {
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
            return (Node::OptionalSelect(Box::new(node), field), t);
        }
        let mut args = Vec::with_capacity(c.args.len() + 1);
        let mut types = Vec::with_capacity(c.args.len() + 1);
        for a in &c.args {
            let (node, t) = self.check(a);
            args.push(node);
            types.push(t);
        }
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
        let Some(function) = library::function(name) else {
            return self.undeclared(id, name);
        };
        if matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            return self.logical(name, args, &types, call);
        }
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for o in function.overloads.iter().filter(|o| o.member == member) {
            if o.params.len() != types.len() {
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
                .map(|t| self.bindings.resolve(t, true).to_string())
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
        self.literal_problems(name, &args, call);
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
    fn literal_problems(&mut self, name: &str, args: &[Node], call: &CallExpr) {
        let place = match name {
            "matches" | "find" | "findAll" => 1,
            "duration" | "timestamp" => 0,
            _ => return,
        };
        let Some(Node::Const(Value::String(text))) = args.get(place) else {
            return;
        };
        let bad = match name {
            "duration" => library::time::parse_duration(text).is_err(),
            "timestamp" => library::time::parse_timestamp(text).is_err(),
            _ => library::regex::pattern(text).is_err(),
        };
        if bad && let Some(e) = call.args.last() {
            let name = if matches!(name, "find" | "findAll") {
                "matches"
            } else {
                name
            };
            self.issue(e.id, format!("invalid {name} argument"));
        }
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
