//! What webhooks and policies took and decided, under upstream's names. The process has one server, so they are
//! counted for the process. Upstream: apiserver/pkg/admission/metrics, plugin/policy/{validating,mutating}/metrics.

use std::time::Duration;

use celenv::admission::OUT_OF_BUDGET;
use machinery::metrics::Family;
use machinery::request::Attempt;

use crate::hooks::{Failure, operation};

static DURATIONS: Family = Family::histogram(
    "apiserver_admission_webhook_admission_duration_seconds",
    "[STABLE] Seconds that webhooks took, by their name, the operation, whether it was refused, and their kind.",
    &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0],
);
static REQUESTS: Family = Family::counter(
    "apiserver_admission_webhook_request_total",
    "[ALPHA] Calls of webhooks, by the code of the answer.",
);
static REJECTIONS: Family = Family::counter(
    "apiserver_admission_webhook_rejection_count",
    "[ALPHA] Writes that webhooks, or errors of calling them, refused.",
);
static FAILED_OPEN: Family = Family::counter(
    "apiserver_admission_webhook_fail_open_count",
    "[ALPHA] Failed calls of webhooks that were ignored.",
);
/// Upper bounds in seconds, as upstream's.
const CHECK_SECONDS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];
static CHECKS: Family = Family::counter(
    "apiserver_validating_admission_policy_check_total",
    "[BETA] Checks of validating policies that did not simply pass, by what followed.",
);
static CHECK_DURATIONS: Family = Family::histogram(
    "apiserver_validating_admission_policy_check_duration_seconds",
    "[BETA] Seconds that checks of validating policies took.",
    CHECK_SECONDS,
);
static MUTATIONS: Family = Family::counter(
    "apiserver_mutating_admission_policy_check_total",
    "[ALPHA] Mutations of mutating policies, by how they ended.",
);
static MUTATION_DURATIONS: Family = Family::histogram(
    "apiserver_mutating_admission_policy_check_duration_seconds",
    "[ALPHA] Seconds that mutations of mutating policies took.",
    CHECK_SECONDS,
);

/// Upstream's word for the kind of a webhook.
fn kind(mutating: bool) -> &'static str {
    if mutating { "admit" } else { "validating" }
}

/// Notes one call of a webhook.
pub fn webhook(
    a: &Attempt<'_>,
    name: &str,
    ignores_failure: bool,
    mutating: bool,
    outcome: Option<&Failure>,
    took: Duration,
) {
    let (kind, operation) = (kind(mutating), operation(a.operation));
    let (code, error, rejected) = match outcome {
        None => (200, None, false),
        // What was not reached is unavailable.
        Some(Failure::Calling(why)) => {
            let code = if why.starts_with("failed to call webhook") {
                503
            } else {
                500
            };
            let error = (!ignores_failure).then_some("calling_webhook_error");
            (code, error, !ignores_failure)
        }
        Some(Failure::Denied(e)) => (e.code, Some("no_error"), true),
        Some(Failure::Other(_)) => (0, Some("apiserver_internal_error"), true),
    };
    let (code, refused) = (code.to_string(), rejected.to_string());
    DURATIONS.observe(
        &[
            ("name", name),
            ("operation", operation),
            ("rejected", &refused),
            ("type", kind),
        ],
        took,
    );
    REQUESTS.add(&[
        ("code", &code),
        ("name", name),
        ("operation", operation),
        ("rejected", &refused),
        ("type", kind),
    ]);
    if let Some(error) = error {
        REJECTIONS.add(&[
            ("error_type", error),
            ("name", name),
            ("operation", operation),
            ("rejection_code", &code),
            ("type", kind),
        ]);
    }
}

/// Notes a failed call that was ignored.
pub fn failed_open(name: &str, mutating: bool) {
    FAILED_OPEN.add(&[("name", name), ("type", kind(mutating))]);
}

/// Notes what followed from a validation of a policy.
pub fn checked(policy: &str, binding: &str, action: &str, error: &str, took: Duration) {
    let labels = [
        ("enforcement_action", action),
        ("error_type", error),
        ("policy", policy),
        ("policy_binding", binding),
    ];
    CHECKS.add(&labels);
    CHECK_DURATIONS.observe(&labels, took);
}

/// Notes one mutation of a policy and, where it failed, why.
pub fn mutated(policy: &str, binding: &str, failed: Option<&str>, took: Duration) {
    let error = match failed {
        None => "no_error",
        Some(why) if why.starts_with("compilation") => "compile_error",
        Some(why) if why.starts_with(OUT_OF_BUDGET) => "out_of_budget",
        Some(_) => "invalid_error",
    };
    let labels = [
        ("error_type", error),
        ("policy", policy),
        ("policy_binding", binding),
    ];
    MUTATIONS.add(&labels);
    MUTATION_DURATIONS.observe(&labels, took);
}

/// All of them as Prometheus text.
pub fn text() -> String {
    let mut out = String::new();
    let all = [
        &DURATIONS,
        &REQUESTS,
        &REJECTIONS,
        &FAILED_OPEN,
        &CHECKS,
        &CHECK_DURATIONS,
        &MUTATIONS,
        &MUTATION_DURATIONS,
    ];
    all.iter().for_each(|f| f.write(&mut out));
    out
}
