//! ValidatingAdmissionPolicy: expressions decide on writes. Upstream: plugin/policy/validating.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use celenv::Type;
use celenv::admission::{self, Activation, Compiled, Compiler, Failure, Run};
use celenv::limits::RUNTIME_COST_BUDGET;
use celenv::value::Value as Cel;
use machinery::ApiError;
use machinery::error::StatusCause;
use machinery::object::{list_at, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::{Value, json};

use crate::hooks::{Invocation as Shown, View};
use crate::limits::{ANNOTATION_BYTES_MAX, AUDITED_FAILURES_MAX};
use crate::policies::{self, Invocation, Met, Policies, Policy, Seen};
use crate::{Context, metrics};

/// The audit annotation of failures under action Audit.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// One of `validations`.
struct Validation {
    expression: Compiled,
    message: String,
    message_expression: Option<Compiled>,
    reason: String,
}

/// What a validating policy does.
struct Rules {
    validations: Vec<Validation>,
    /// Keys and values of audit annotations.
    annotations: Vec<(String, Compiled)>,
}

/// Why a write is not wanted. Errors have no reason of their own.
#[derive(Debug, PartialEq)]
struct Decision {
    message: String,
    reason: String,
    /// The validation's place.
    index: usize,
    /// Errors of annotations refuse whatever the binding's actions are.
    always: bool,
    /// Of the evaluation.
    took: Duration,
}

/// The plugin.
pub struct ValidatingAdmissionPolicy(Policies<Rules>);

impl ValidatingAdmissionPolicy {
    /// Reads policies and bindings from the caches.
    pub fn new(context: Context) -> Self {
        Self(Policies::new(
            context,
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            Rules::new,
        ))
    }
}

impl Rules {
    fn new(spec: &Value, scope: &Compiler) -> Self {
        let plain = scope.without_authorizer();
        let validations = list_at(spec, "validations").iter();
        let annotations = list_at(spec, "auditAnnotations").iter();
        Self {
            validations: validations
                .map(|v| Validation {
                    expression: scope.compile(str_at(v, "expression"), &[Type::Bool]),
                    message: str_at(v, "message").trim().to_string(),
                    message_expression: match str_at(v, "messageExpression") {
                        "" => None,
                        text => Some(plain.compile(text, &[Type::String])),
                    },
                    reason: match str_at(v, "reason") {
                        "" => "Invalid".to_string(),
                        reason => reason.to_string(),
                    },
                })
                .collect(),
            annotations: annotations
                .map(|x| {
                    let wanted = [Type::String, Type::Null];
                    let value = plain.compile(str_at(x, "valueExpression"), &wanted);
                    (str_at(x, "key").to_string(), value)
                })
                .collect(),
        }
    }
}

fn error(message: String, index: usize) -> Decision {
    Decision {
        message,
        reason: String::new(),
        index,
        always: false,
        took: Duration::ZERO,
    }
}

/// Upstream's word for what kind of error a decision is.
fn error_type(d: &Decision) -> &'static str {
    match d.message.as_str() {
        _ if !d.reason.is_empty() => "no_error",
        m if m.ends_with(admission::OUT_OF_BUDGET) => "out_of_budget",
        m if m.starts_with("compilation error") => "compile_error",
        _ => "invalid_error",
    }
}

/// Evaluates a policy on a write: what speaks against it, under its failurePolicy.
fn decide(policy: &Policy<Rules>, seen: &Activation) -> Vec<Decision> {
    let mut out = Vec::new();
    let mut run = Run::new(seen, &policy.scope.variables, RUNTIME_COST_BUDGET);
    for (i, v) in policy.rules.validations.iter().enumerate() {
        let (begun, known) = (Instant::now(), out.len());
        match run.evaluate(&v.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => match message(v, &mut run) {
                Ok(message) => out.push(Decision {
                    message,
                    reason: v.reason.clone(),
                    index: i,
                    always: false,
                    took: Duration::ZERO,
                }),
                Err(e) if policy.fails => out.push(error(e, i)),
                Err(_) => {}
            },
            Err(Failure::Expression(e)) if policy.fails => out.push(error(e, i)),
            Err(Failure::Expression(_)) => {}
            // Nothing is evaluated any more, and this is all there is to say.
            Err(Failure::OutOfBudget) if policy.fails => {
                return vec![error(admission::OUT_OF_BUDGET.to_string(), 0)];
            }
            Err(Failure::OutOfBudget) => return Vec::new(),
        }
        for d in &mut out[known..] {
            d.took = begun.elapsed();
        }
    }
    out
}

/// The message of a failed validation. The error is that of a used-up budget.
fn message(v: &Validation, run: &mut Run<'_>) -> Result<String, String> {
    let computed = match v.message_expression.as_ref().map(|m| run.evaluate(m)) {
        Some(Ok(value)) => admission::message(&value),
        Some(Err(Failure::OutOfBudget)) => {
            return Err(format!(
                "failed messageExpression: {}",
                admission::OUT_OF_BUDGET
            ));
        }
        // An error of a message harms nothing.
        Some(Err(Failure::Expression(_))) | None => None,
    };
    Ok(computed.unwrap_or_else(|| match v.message.as_str() {
        "" => format!("failed expression: {}", v.expression.source.trim()),
        message => message.to_string(),
    }))
}

/// Distinct values of annotations by their keys, over all bindings of a policy.
type Published = BTreeMap<String, Vec<String>>;

/// Evaluates a policy's annotations; errors refuse the write under failurePolicy Fail.
fn annotate(policy: &Policy<Rules>, seen: &Activation, published: &mut Published) -> Vec<Decision> {
    let mut run = Run::new(seen, &policy.scope.variables, RUNTIME_COST_BUDGET);
    let mut out = Vec::new();
    for (key, x) in &policy.rules.annotations {
        let message = match run.evaluate(x) {
            Ok(Cel::String(text)) => {
                let text = text.trim();
                let mut end = text.len().min(ANNOTATION_BYTES_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                let values = published.entry(key.clone()).or_default();
                if !text.is_empty() && !values.iter().any(|v| v == &text[..end]) {
                    values.push(text[..end].to_string());
                }
                continue;
            }
            Ok(Cel::Null) => continue,
            Ok(other) => format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                x.source,
                other.type_name()
            ),
            Err(Failure::Expression(e)) => e,
            Err(Failure::OutOfBudget) => admission::OUT_OF_BUDGET.to_string(),
        };
        if policy.fails {
            out.push(Decision {
                always: true,
                ..error(message, 0)
            });
        }
    }
    out
}

fn code_of(reason: &str) -> u16 {
    match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    }
}

/// The answer to a refused write.
fn refusal(a: &Attempt<'_>, message: String, reason: &str) -> ApiError {
    let reason = if reason.is_empty() { "Invalid" } else { reason };
    let mut e = a.forbidden(&message);
    e.code = code_of(reason);
    e.reason = reason.to_string();
    e.details.get_or_insert_default().causes.push(StatusCause {
        message,
        ..StatusCause::default()
    });
    e
}

/// Does what the binding says; gives the first thing to refuse with.
fn act(
    i: &Invocation<'_, Rules>,
    decisions: Vec<Decision>,
    a: &Attempt<'_>,
    failures: &mut Vec<Value>,
) -> Option<(String, String)> {
    let (policy, binding) = (&i.policy.name, &i.binding.name);
    let mut first = None;
    for d in decisions {
        let has = |action: &str| !d.always && i.binding.actions.iter().any(|x| x == action);
        for (action, word) in [("Deny", "deny"), ("Audit", "audit"), ("Warn", "warn")] {
            if has(action) {
                metrics::checked(policy, binding, word, error_type(&d), d.took);
            }
        }
        if has("Warn") {
            a.warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                d.message
            ));
        }
        if has("Audit") && failures.len() < AUDITED_FAILURES_MAX {
            failures.push(
                json!({"message": d.message, "policy": policy, "binding": binding,
                "expressionIndex": d.index, "validationActions": i.binding.actions}),
            );
        }
        if first.is_none() && (d.always || has("Deny")) {
            let text = format!(
                "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
                d.message
            );
            first = Some((text, d.reason));
        }
    }
    first
}

impl ValidatingAdmissionPolicy {
    /// Evaluates all that a write meets; gives the first thing to refuse with.
    async fn evaluate(
        &self,
        met: &Met<'_, Rules>,
        a: &Attempt<'_>,
    ) -> Result<Option<(String, String)>, ApiError> {
        let views = self.views(met, a).await?;
        let mut refused = None;
        let mut failures = Vec::new();
        let mut published: BTreeMap<&str, Published> = BTreeMap::new();
        for i in &met.invocations {
            let seen = views.iter().find(|(as_what, _)| as_what.shows_as(&i.shown));
            let Some((_, seen)) = seen else {
                continue;
            };
            let on = seen.with_params(i.param.as_ref());
            let decisions = match i.meets_conditions(&on) {
                Ok(true) => {
                    let values = published.entry(&i.policy.name).or_default();
                    let mut out = decide(i.policy, &on);
                    out.extend(annotate(i.policy, &on, values));
                    out
                }
                Ok(false) => continue,
                Err(e) => vec![error(e, 0)],
            };
            let first = act(i, decisions, a, &mut failures);
            refused = refused.or(first);
        }
        for (policy, values) in published {
            for (key, values) in values.into_iter().filter(|(_, v)| !v.is_empty()) {
                let key = format!("{policy}/{key}");
                a.audit_annotations.insert(key, values.join(", "));
            }
        }
        if !failures.is_empty() {
            let failures = Value::Array(failures).to_string();
            a.audit_annotations.insert(FAILURES, failures);
        }
        Ok(refused)
    }

    /// The write in every version that a policy wants to see, converted once.
    async fn views(
        &self,
        met: &Met<'_, Rules>,
        a: &Attempt<'_>,
    ) -> Result<Vec<(Shown, Activation)>, ApiError> {
        let mut all: Vec<(Shown, Activation)> = Vec::new();
        for i in &met.invocations {
            if all.iter().any(|(shown, _)| shown.shows_as(&i.shown)) {
                continue;
            }
            let mut view = View::default();
            view.show(a, &i.shown).await?;
            let seen = Seen::new(a, &view, &i.shown, &self.0.context).0;
            all.push((i.shown.clone(), seen));
        }
        Ok(all)
    }
}

#[async_trait]
impl Admission for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    fn metrics(&self) -> String {
        metrics::text()
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        if policies::exempt(a) {
            return Ok(());
        }
        let all = self.0.all();
        let met = self.0.met(&all, a);
        let mut refused = met.errors.iter().find(|e| e.policy.fails).map(|e| {
            let policy = &e.policy.name;
            let with = e.binding.map(|b| format!(" with binding '{}'", b.name));
            let with = with.unwrap_or_default();
            let message = &e.message;
            let text =
                format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {message}");
            (text, String::new())
        });
        if !met.invocations.is_empty() {
            let first = self.evaluate(&met, a).await?;
            refused = refused.or(first);
        }
        match refused {
            Some((message, reason)) => Err(refusal(a, message, &reason)),
            None => Ok(()),
        }
    }
}
