//! The spec of a Job, in Jobs and in the templates of CronJobs. Upstream: validateJobSpec.

use api::names;
use machinery::Causes;
use machinery::object::{at, i64_at, list_at, str_at};
use serde_json::{Value, json};

use super::indexes;
use crate::core::template;
use crate::fields;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_BYTES_MAX: usize = 64 << 10;
const MANAGED_BY_MAX: usize = 63;
/// Bounds of indexed jobs; the lower ones count from so many completions on.
const INDEXED_MAX: i64 = 100_000;
const MANY_INDEXED_MAX: i64 = 10_000;

/// Whether the spec is that of an indexed job.
pub fn is_indexed(spec: &Value) -> bool {
    str_at(spec, "completionMode") == "Indexed"
}

/// Checks the spec at the current path, but for its selector.
pub fn validate(spec: &Value, c: &mut Causes) {
    fields::non_negative(
        spec,
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ],
        c,
    );
    if at(spec, "maxFailedIndexes").is_some() && at(spec, "backoffLimitPerIndex").is_none() {
        c.at("backoffLimitPerIndex", |c| {
            c.required("when maxFailedIndexes is specified");
        });
    }
    if let Some(manager) = at(spec, "managedBy").and_then(Value::as_str) {
        c.at("managedBy", |c| {
            fields::domain_prefixed_path(manager, c);
            if manager.len() > MANAGED_BY_MAX {
                c.too_long(MANAGED_BY_MAX);
            }
        });
    }
    fields::enumerated(spec, "completionMode", &["NonIndexed", "Indexed"], c);
    match str_at(spec, "completionMode") {
        "Indexed" => indexed(spec, c),
        "" | "NonIndexed" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(n) = at(spec, field) {
                    c.at(field, |c| c.invalid(n, "requires indexed completion mode"));
                }
            }
        }
        _ => {}
    }
    if at(spec, "podFailurePolicy").is_some() {
        c.at("podFailurePolicy.rules", |c| failure_policy(spec, c));
    }
    if let Some(policy) = at(spec, "successPolicy") {
        c.at("successPolicy", |c| {
            if is_indexed(spec) {
                success_policy(spec, c);
            } else {
                c.invalid(policy, "requires indexed completion mode");
            }
        });
    }
    replacement_policy(spec, c);
    let pod = spec.get("template").unwrap_or(&Value::Null);
    c.at("template", |c| template::validate(pod, &[], c));
    c.at("template.spec.restartPolicy", |c| restart_policy(spec, c));
}

fn indexed(spec: &Value, c: &mut Causes) {
    let get = |field| i64_at(spec, field);
    let (completions, parallelism, failed) = (
        get("completions"),
        get("parallelism"),
        get("maxFailedIndexes"),
    );
    if completions.is_none() {
        c.at("completions", |c| {
            c.required("when completion mode is Indexed");
        });
    }
    let text =
        format!("must be less than or equal to {INDEXED_MAX} when completion mode is Indexed");
    fields::at_most(spec, "parallelism", INDEXED_MAX, &text, c);
    if let (Some(all), Some(failed)) = (completions, failed)
        && failed > all
    {
        c.at("maxFailedIndexes", |c| {
            c.invalid(&json!(failed), "must be less than or equal to completions");
        });
    }
    let text = format!("must be less than or equal to {INDEXED_MAX}");
    fields::at_most(spec, "maxFailedIndexes", INDEXED_MAX, &text, c);
    if completions.unwrap_or(0) <= INDEXED_MAX || get("backoffLimitPerIndex").is_none() {
        return;
    }
    if failed.is_none() {
        c.at("maxFailedIndexes", |c| {
            c.required(format!(
                "must be specified when completions is above {INDEXED_MAX}"
            ));
        });
    }
    for (field, n) in [("parallelism", parallelism), ("maxFailedIndexes", failed)] {
        if let Some(n) = n.filter(|n| *n > MANY_INDEXED_MAX) {
            c.at(field, |c| {
                c.invalid(&json!(n), format!("must be less than or equal to {MANY_INDEXED_MAX} when completions are above {INDEXED_MAX} and used with backoff limit per index"));
            });
        }
    }
}

fn restart_policy(spec: &Value, c: &mut Causes) {
    match str_at(spec, "template.spec.restartPolicy") {
        "" | "Always" => c.required("valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" => {
            if at(spec, "podFailurePolicy").is_some() {
                c.invalid(
                    &json!("OnFailure"),
                    "only \"Never\" is supported when podFailurePolicy is specified",
                );
            }
        }
        other => fields::unsupported(c, &json!(other), &["OnFailure", "Never"]),
    }
}

fn replacement_policy(spec: &Value, c: &mut Causes) {
    let allowed: &[&str] = match at(spec, "podFailurePolicy") {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    fields::enumerated(spec, "podReplacementPolicy", allowed, c);
}

fn failure_policy(spec: &Value, c: &mut Causes) {
    let rules = list_at(spec, "podFailurePolicy.rules");
    if rules.len() > RULES_MAX {
        c.too_many(rules.len(), RULES_MAX);
    }
    let containers: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| list_at(spec, &format!("template.spec.{l}")))
        .map(|one| str_at(one, "name"))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        c.index(i, |c| failure_rule(spec, rule, &containers, c));
    }
}

/// A text that must be there, with the choices named, and be one of them.
fn chosen(obj: &Value, field: &str, allowed: &[&str], c: &mut Causes) {
    if str_at(obj, field).is_empty() {
        let all: Vec<String> = allowed.iter().map(|a| format!("\"{a}\"")).collect();
        c.at(field, |c| {
            c.required(format!("valid values: [{}]", all.join(" ")));
        });
    } else {
        fields::enumerated(obj, field, allowed, c);
    }
}

fn failure_rule(spec: &Value, rule: &Value, containers: &[&str], c: &mut Causes) {
    chosen(rule, "action", ACTIONS, c);
    if str_at(rule, "action") == "FailIndex" && at(spec, "backoffLimitPerIndex").is_none() {
        c.at("action", |c| {
            c.invalid(
                &json!("FailIndex"),
                "requires the backoffLimitPerIndex to be set",
            );
        });
    }
    let (codes, conditions) = (at(rule, "onExitCodes"), list_at(rule, "onPodConditions"));
    if let Some(codes) = codes {
        c.at("onExitCodes", |c| exit_codes(codes, containers, c));
    }
    if conditions.len() > RULES_MAX {
        c.at("onPodConditions", |c| {
            c.too_many(conditions.len(), RULES_MAX);
        });
    }
    for (i, pattern) in conditions.iter().enumerate() {
        c.at("onPodConditions", |c| {
            c.index(i, |c| {
                c.at("type", |c| {
                    fields::text(str_at(pattern, "type"), names::qualified_name, c);
                });
                chosen(pattern, "status", STATUSES, c);
            });
        });
    }
    match (codes.is_some(), conditions.is_empty()) {
        (true, false) => fields::invalid_shown(
            c,
            None,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (false, true) => fields::invalid_shown(
            c,
            None,
            "specifying one of OnExitCodes and OnPodConditions is required",
        ),
        _ => {}
    }
}

fn exit_codes(codes: &Value, containers: &[&str], c: &mut Causes) {
    chosen(codes, "operator", OPERATORS, c);
    if let Some(name) = at(codes, "containerName")
        && !containers.contains(&name.as_str().unwrap_or(""))
    {
        c.at("containerName", |c| {
            c.invalid(
                name,
                "must be one of the container or initContainer names in the pod template",
            );
        });
    }
    let values = list_at(codes, "values");
    c.at("values", |c| {
        if values.is_empty() {
            let shown = codes.get("values").cloned().unwrap_or_default();
            c.invalid(&shown, "at least one value is required");
        } else if values.len() > EXIT_CODES_MAX {
            c.too_many(values.len(), EXIT_CODES_MAX);
        }
        for (i, value) in values.iter().enumerate() {
            c.index(i, |c| {
                if str_at(codes, "operator") == "In" && value.as_i64() == Some(0) {
                    c.invalid(value, "must not be 0 for the In operator");
                }
                if values[..i].contains(value) {
                    c.duplicate(value);
                }
            });
        }
        if !values.is_sorted_by_key(Value::as_i64) {
            c.invalid(&json!(values), "must be ordered");
        }
    });
}

fn success_policy(spec: &Value, c: &mut Causes) {
    let rules = list_at(spec, "successPolicy.rules");
    c.at("rules", |c| {
        if rules.is_empty() {
            c.required("at least one rules must be specified when the successPolicy is specified");
        }
        if rules.len() > RULES_MAX {
            c.too_many(rules.len(), RULES_MAX);
        }
        let completions = i64_at(spec, "completions").unwrap_or(0);
        for (i, rule) in rules.iter().enumerate() {
            c.index(i, |c| success_rule(rule, completions, c));
        }
    });
}

fn success_rule(rule: &Value, completions: i64, c: &mut Causes) {
    let list = at(rule, "succeededIndexes").and_then(Value::as_str);
    let count = i64_at(rule, "succeededCount");
    if list.is_none() && count.is_none() {
        c.required("at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(list) = list {
        c.at("succeededIndexes", |c| {
            if list.len() > INDEXES_BYTES_MAX {
                c.too_long(INDEXES_BYTES_MAX);
            }
            match indexes::count(list, completions) {
                Ok(n) => total = n,
                Err(e) => c.invalid(&json!(list), format!("error parsing succeededIndexes: {e}")),
            }
        });
    }
    let Some(n) = count else { return };
    fields::non_negative(rule, &["succeededCount"], c);
    c.at("succeededCount", |c| {
        if n > completions {
            c.invalid(&json!(n), format!("must be less than or equal to {completions} (the number of specified completions)"));
        }
        if list.is_some() && n > total {
            c.invalid(&json!(n), format!("must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"));
        }
    });
}

/// The warning for indexed jobs that may be too big to track.
pub fn warnings(path: &str, spec: &Value) -> Vec<String> {
    let over = |field, max| i64_at(spec, field).is_some_and(|n| n > max);
    if is_indexed(spec) && over("completions", INDEXED_MAX) && over("parallelism", MANY_INDEXED_MAX)
    {
        return vec![format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )];
    }
    Vec::new()
}
