//! The match conditions of webhooks.

use std::sync::Arc;

use async_trait::async_trait;
use celenv::admission::{Activation, Conditions, Inputs};
use celenv::library::{Immediate, Subject};

use crate::conditions::{self, Compiler, Condition, Input};

/// Compiles the match conditions of webhooks.
pub struct Expressions;

struct Compiled(Conditions);

impl Compiler for Expressions {
    fn compile(&self, all: &[Condition]) -> Arc<dyn conditions::Conditions> {
        let all = all.iter().map(|c| (c.name.as_str(), c.expression.as_str()));
        Arc::new(Compiled(Conditions::compile(all, false)))
    }
}

#[async_trait]
impl conditions::Conditions for Compiled {
    async fn evaluate(&self, input: &Input<'_, '_>) -> Vec<Result<bool, String>> {
        self.0.verdicts(&Activation::new(&Inputs {
            object: input.object,
            old_object: input.before,
            namespace: None,
            request: input.request,
            subject: Some(Subject {
                user: input.attempt.user.clone(),
                checks: Arc::new(Immediate(input.context.authorizer.clone())),
            }),
        }))
    }
}
