//! Macros beyond the standard ones, which the parser knows: two-variable comprehensions, `optMap`,
//! `optFlatMap` and `sortBy`. Upstream: cel-go ext/comprehensions.go, cel/library.go, ext/lists.go.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators,
};

use crate::program::Environment;

const ACCUMULATOR: &str = "@result";
/// The list that `sortBy` sorts.
const SORTED: &str = "@__sortBy_input__";

/// A macro's expansion; an error with the id of what is wrong.
pub(crate) type Expansion = Option<Result<Expr, (u64, String)>>;

/// Expands a call that is a macro. `id` is that of the call: new nodes carry it.
pub(crate) fn expand(id: u64, call: &CallExpr, environment: &Environment) -> Expansion {
    let target = call.target.as_deref()?;
    let make = Maker { id };
    if !environment.knows(since(&call.func_name)) {
        return None;
    }
    let two = match (call.func_name.as_str(), call.args.len()) {
        ("all", 3) => Maker::all,
        ("exists", 3) => Maker::exists,
        ("existsOne" | "exists_one", 3) => Maker::exists_one,
        ("transformList", 3 | 4) => Maker::transform_list,
        ("transformMap", 3 | 4) => Maker::transform_map,
        ("transformMapEntry", 3 | 4) => Maker::transform_map_entry,
        ("optMap", 2) => return Some(make.optional_map(target, &call.args, true)),
        ("optFlatMap", 2) => return Some(make.optional_map(target, &call.args, false)),
        ("sortBy", 2) => return Some(make.sort_by(target, &call.args)),
        _ => return None,
    };
    let variables = name(&call.args[0]).and_then(|a| Ok((a, name(&call.args[1])?)));
    let (first, second) = match variables {
        Ok(pair) => pair,
        Err(e) => return Some(Err(e)),
    };
    if first == second {
        let message = format!("duplicate variable name: {first}");
        return Some(Err((call.args[1].id, message)));
    }
    let mut fold = two(&make, &first, &call.args[2..]);
    fold.iter_range = target.clone();
    fold.iter_var = first;
    fold.iter_var2 = Some(second);
    Some(Ok(Expr::Comprehension(Box::new(fold))))
}

/// The minor version that a macro came with.
fn since(name: &str) -> u32 {
    match name {
        "optMap" | "optFlatMap" => 28,
        "sortBy" => 34,
        _ => 32,
    }
}

fn name(e: &IdedExpr) -> Result<String, (u64, String)> {
    match &e.expr {
        Expr::Ident(name) if !name.starts_with('.') => Ok(name.clone()),
        _ => Err((e.id, "argument must be a simple name".to_string())),
    }
}

/// Makes nodes at the place of the macro's call.
struct Maker {
    id: u64,
}

impl Maker {
    fn at(&self, expr: Expr) -> IdedExpr {
        IdedExpr { id: self.id, expr }
    }

    fn ident(&self, name: &str) -> IdedExpr {
        self.at(Expr::Ident(name.to_string()))
    }

    fn accumulator(&self) -> IdedExpr {
        self.ident(ACCUMULATOR)
    }

    fn bool(&self, b: bool) -> IdedExpr {
        self.at(Expr::Literal(LiteralValue::Boolean(b.into())))
    }

    fn int(&self, i: i64) -> IdedExpr {
        self.at(Expr::Literal(LiteralValue::Int(i.into())))
    }

    fn call(&self, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.at(Expr::Call(CallExpr {
            func_name: function.to_string(),
            target: None,
            args,
        }))
    }

    fn member(&self, target: IdedExpr, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.at(Expr::Call(CallExpr {
            func_name: function.to_string(),
            target: Some(Box::new(target)),
            args,
        }))
    }

    fn fold(&self, init: IdedExpr, condition: IdedExpr, step: IdedExpr) -> ComprehensionExpr {
        ComprehensionExpr {
            accu_var: ACCUMULATOR.to_string(),
            accu_init: init,
            loop_cond: condition,
            loop_step: step,
            result: self.accumulator(),
            ..ComprehensionExpr::default()
        }
    }

    fn all(&self, _: &str, args: &[IdedExpr]) -> ComprehensionExpr {
        let condition = self.call(operators::NOT_STRICTLY_FALSE, vec![self.accumulator()]);
        let step = vec![self.accumulator(), args[0].clone()];
        self.fold(
            self.bool(true),
            condition,
            self.call(operators::LOGICAL_AND, step),
        )
    }

    fn exists(&self, _: &str, args: &[IdedExpr]) -> ComprehensionExpr {
        let not = self.call(operators::LOGICAL_NOT, vec![self.accumulator()]);
        let condition = self.call(operators::NOT_STRICTLY_FALSE, vec![not]);
        let step = vec![self.accumulator(), args[0].clone()];
        self.fold(
            self.bool(false),
            condition,
            self.call(operators::LOGICAL_OR, step),
        )
    }

    fn exists_one(&self, _: &str, args: &[IdedExpr]) -> ComprehensionExpr {
        let more = self.call(operators::ADD, vec![self.accumulator(), self.int(1)]);
        let step = vec![args[0].clone(), more, self.accumulator()];
        let step = self.call(operators::CONDITIONAL, step);
        let mut fold = self.fold(self.int(0), self.bool(true), step);
        fold.result = self.call(operators::EQUALS, vec![self.accumulator(), self.int(1)]);
        fold
    }

    /// The accumulator grows by `step` where the filter, if there is one, says so.
    fn transform(&self, init: Expr, args: &[IdedExpr], step: IdedExpr) -> ComprehensionExpr {
        let step = match args {
            [filter, _] => {
                let args = vec![filter.clone(), step, self.accumulator()];
                self.call(operators::CONDITIONAL, args)
            }
            _ => step,
        };
        self.fold(self.at(init), self.bool(true), step)
    }

    fn transform_list(&self, _: &str, args: &[IdedExpr]) -> ComprehensionExpr {
        let item = self.at(Expr::List(ListExpr::new(vec![
            args[args.len() - 1].clone(),
        ])));
        let step = self.call(operators::ADD, vec![self.accumulator(), item]);
        self.transform(Expr::List(ListExpr::default()), args, step)
    }

    fn transform_map(&self, key: &str, args: &[IdedExpr]) -> ComprehensionExpr {
        let step = vec![
            self.accumulator(),
            self.ident(key),
            args[args.len() - 1].clone(),
        ];
        let step = self.call("cel.@mapInsert", step);
        self.transform(Expr::Map(MapExpr::default()), args, step)
    }

    fn transform_map_entry(&self, _: &str, args: &[IdedExpr]) -> ComprehensionExpr {
        let step = vec![self.accumulator(), args[args.len() - 1].clone()];
        let step = self.call("cel.@mapInsert", step);
        self.transform(Expr::Map(MapExpr::default()), args, step)
    }

    /// `has a value ? optional.of(let v = its value in body) : optional.none()`.
    fn optional_map(
        &self,
        target: &IdedExpr,
        args: &[IdedExpr],
        wrap: bool,
    ) -> Result<Expr, (u64, String)> {
        let variable = name(&args[0]).map_err(|(id, _)| {
            (
                id,
                "optMap() variable name must be a simple identifier".to_string(),
            )
        })?;
        let bind = ComprehensionExpr {
            iter_range: self.at(Expr::List(ListExpr::default())),
            iter_var: "#unused".to_string(),
            iter_var2: None,
            accu_var: variable.clone(),
            accu_init: self.member(target.clone(), "value", Vec::new()),
            loop_cond: self.bool(false),
            loop_step: self.ident(&variable),
            result: args[1].clone(),
        };
        let body = self.at(Expr::Comprehension(Box::new(bind)));
        let body = if wrap {
            self.call("optional.of", vec![body])
        } else {
            body
        };
        let args = vec![
            self.member(target.clone(), "hasValue", Vec::new()),
            body,
            self.call("optional.none", Vec::new()),
        ];
        Ok(self.call(operators::CONDITIONAL, args).expr)
    }

    fn sort_by(&self, target: &IdedExpr, args: &[IdedExpr]) -> Result<Expr, (u64, String)> {
        let variable =
            name(&args[0]).map_err(|(id, _)| (id, "argument is not an identifier".to_string()))?;
        let item = self.at(Expr::List(ListExpr::new(vec![args[1].clone()])));
        let step = self.call(operators::ADD, vec![self.accumulator(), item]);
        let mut keys = self.fold(
            self.at(Expr::List(ListExpr::default())),
            self.bool(true),
            step,
        );
        keys.iter_var = variable;
        keys.iter_range = self.ident(SORTED);
        let keys = self.at(Expr::Comprehension(Box::new(keys)));
        // The list is bound to a name: it is worked out once.
        let bind = ComprehensionExpr {
            iter_range: self.at(Expr::List(ListExpr::default())),
            iter_var: "#unused".to_string(),
            iter_var2: None,
            accu_var: SORTED.to_string(),
            accu_init: target.clone(),
            loop_cond: self.bool(false),
            loop_step: self.ident(SORTED),
            result: self.member(self.ident(SORTED), "@sortByAssociatedKeys", vec![keys]),
        };
        Ok(Expr::Comprehension(Box::new(bind)))
    }
}
