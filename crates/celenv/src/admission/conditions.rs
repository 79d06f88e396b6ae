//! Match conditions. Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions.

use super::{Activation, Compiled, Compiler, Failure, OUT_OF_BUDGET, Options, Run, Variable};
use crate::limits;
use crate::types::Type;
use crate::value::Value;

/// A condition with its expression compiled.
#[derive(Clone, Debug)]
pub struct Condition {
    pub name: String,
    pub compiled: Compiled,
}

/// All conditions of a webhook or policy.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    all: Vec<Condition>,
    variables: Vec<Variable>,
}

/// What conditions come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    Yes,
    /// The condition of this name does not hold.
    No(String),
    /// None is false, and these failed: failurePolicy decides.
    Failed(String),
}

impl Conditions {
    /// Compiles names and expressions. One that does not compile fails when it is evaluated.
    pub fn compile<'a>(
        conditions: impl IntoIterator<Item = (&'a str, &'a str)>,
        params: bool,
    ) -> Self {
        let scope = Compiler::new(Options {
            params,
            authorizer: true,
            patch_types: false,
        });
        let one = |(name, source): (&str, &str)| Condition {
            name: name.to_string(),
            compiled: scope.compile(source, &[Type::Bool]),
        };
        Self {
            all: conditions.into_iter().map(one).collect(),
            variables: Vec::new(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A verdict for each condition in order; after the budget is used up there is only its error.
    pub fn verdicts(&self, activation: &Activation) -> Vec<Result<bool, String>> {
        let budget = limits::MATCH_CONDITIONS_COST_BUDGET;
        let mut run = Run::new(activation, &self.variables, budget);
        let mut out = Vec::with_capacity(self.all.len());
        for c in &self.all {
            out.push(match run.evaluate(&c.compiled) {
                Ok(Value::Bool(b)) => Ok(b),
                Ok(_) => Err(format!("expression '{}' is no bool", c.compiled.source)),
                Err(Failure::Expression(e)) => Err(e),
                Err(Failure::OutOfBudget) => return vec![Err(OUT_OF_BUDGET.to_string())],
            });
        }
        out
    }

    /// Whether all hold: one that is false decides, whatever the others come to.
    pub fn matched(&self, activation: &Activation) -> Matched {
        let verdicts = self.verdicts(activation);
        if let Some(i) = verdicts.iter().position(|v| *v == Ok(false)) {
            return Matched::No(self.all[i].name.clone());
        }
        let mut errors: Vec<String> = Vec::new();
        for e in verdicts.into_iter().filter_map(Result::err) {
            if !errors.contains(&e) {
                errors.push(e);
            }
        }
        match errors.len() {
            0 => Matched::Yes,
            1 => Matched::Failed(errors.remove(0)),
            _ => Matched::Failed(format!("[{}]", errors.join(", "))),
        }
    }
}
