//! `matchConditions`: the seam to whoever compiles and evaluates their expressions, and what follows from the verdicts.
//! Upstream: plugin/webhook/matchconditions.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::request::{Attempt, GroupVersionKind};
use serde_json::Value;

pub use super::configuration::Condition;
use crate::Context;

/// Compiles conditions; one that does not compile gives its error at each evaluation.
pub trait Compiler: Send + Sync {
    /// Compiles the conditions of one webhook.
    fn compile(&self, conditions: &[Condition]) -> Arc<dyn Conditions>;
}

/// Compiled conditions of one webhook.
#[async_trait]
pub trait Conditions: Send + Sync {
    /// A verdict for each condition, in order, within upstream's cost budget of them all.
    async fn evaluate(&self, input: &Input<'_, '_>) -> Vec<Result<bool, String>>;
}

/// What conditions look at.
pub struct Input<'a, 'b> {
    pub attempt: &'a Attempt<'b>,
    /// The variable `object`, in the version that the webhook sees.
    pub object: Option<&'a Value>,
    /// The variable `oldObject`.
    pub before: Option<&'a Value>,
    /// The kind of both.
    pub kind: &'a GroupVersionKind,
    /// The variable `request`: an AdmissionRequest without objects.
    pub request: &'a Value,
    /// For the variable `authorizer`.
    pub context: &'a Context,
}

/// What conditions come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Matches,
    Excluded,
    /// Some failed, none is false, and failurePolicy is Fail.
    Failed(String),
}

/// Any false excludes; else any error is left to failurePolicy.
pub fn verdict(results: &[Result<bool, String>], ignores_failure: bool) -> Verdict {
    if results.contains(&Ok(false)) {
        return Verdict::Excluded;
    }
    let mut errors: Vec<&str> = Vec::new();
    for error in results.iter().filter_map(|r| r.as_ref().err()) {
        if !errors.contains(&error.as_str()) {
            errors.push(error);
        }
    }
    match errors.as_slice() {
        [] => Verdict::Matches,
        _ if ignores_failure => Verdict::Excluded,
        [one] => Verdict::Failed((*one).to_string()),
        many => Verdict::Failed(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_wins_over_errors_and_errors_follow_the_policy() {
        let e = |t: &str| Err(t.to_string());
        assert_eq!(verdict(&[Ok(true), Ok(true)], false), Verdict::Matches);
        assert_eq!(verdict(&[e("a"), Ok(false)], false), Verdict::Excluded);
        assert_eq!(verdict(&[e("a"), Ok(true)], true), Verdict::Excluded);
        let failed = |t: &str| Verdict::Failed(t.into());
        assert_eq!(verdict(&[e("a"), Ok(true)], false), failed("a"));
        assert_eq!(verdict(&[e("a"), e("b"), e("a")], false), failed("[a, b]"));
    }
}
