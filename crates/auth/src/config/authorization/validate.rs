//! Validation. Upstream: pkg/apis/apiserver/validation, pkg/kubeapiserver/authorizer/config.go.

use std::collections::{BTreeSet, HashSet};

use machinery::Causes;
use machinery::causes::CauseKind;
use serde_json::json;

use super::{AuthorizationConfiguration, ConnectionInfo, TYPES, WebhookConfiguration};
use crate::limits;
use crate::match_conditions::MatchConditions;

const SECOND: i64 = 1_000_000_000;

/// What is wrong with a configuration, as upstream's aggregate. After a reload, `required` types must still be there.
pub fn validate(c: &AuthorizationConfiguration, required: &[String]) -> Result<(), String> {
    let mut causes = Causes::new();
    if c.authorizers.is_empty() {
        causes.at("authorizers", |x| {
            x.required("at least one authorization mode must be defined");
        });
    }
    causes.at("authorizers", |x| authorizers(c, x));
    crate::config::aggregate(&causes)?;
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for a in c.authorizers.iter().filter(|a| a.kind != "Webhook") {
        let expected = a.kind.to_lowercase();
        seen.insert(a.kind.clone());
        if a.name != expected {
            let (kind, name) = (&a.kind, &a.name);
            problems.push(format!(
                "expected name {expected} for authorizer {kind} instead of {name}"
            ));
        }
        problems.extend(refused(&a.kind));
    }
    let missing: BTreeSet<&String> = required.iter().filter(|r| !seen.contains(*r)).collect();
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.into_iter().map(String::as_str).collect();
        problems.push(format!("missing required types: [{}]", missing.join(" ")));
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(crate::rbac::aggregate("", problems)),
    }
}

/// Types that upstream has and we do not, with the reason.
fn refused(kind: &str) -> Option<String> {
    let why = match kind {
        "AlwaysAllow" => "nothing turns authorization off",
        "AlwaysDeny" => "a cluster that denies everything cannot run; use a webhook",
        "ABAC" => "policy files are not supported; use RBAC",
        _ => return None,
    };
    Some(format!("authorization mode {kind} is not allowed: {why}"))
}

fn authorizers(c: &AuthorizationConfiguration, x: &mut Causes) {
    let (mut types, mut names) = (HashSet::new(), HashSet::new());
    for (i, a) in c.authorizers.iter().enumerate() {
        x.index(i, |x| {
            let kind = a.kind.as_str();
            if kind.is_empty() {
                return x.at("type", |x| x.required(""));
            }
            if !TYPES.contains(&kind) {
                return x.at("type", |x| x.not_supported(&json!(kind), TYPES));
            }
            if !types.insert(kind) && kind != "Webhook" {
                return x.at("type", |x| x.duplicate(&json!(kind)));
            }
            x.at("name", |x| {
                let name = json!(a.name);
                let problems = api::names::dns1123_subdomain(&a.name);
                if a.name.is_empty() {
                    x.required("");
                } else if names.contains(&a.name) {
                    x.duplicate(&name);
                } else if !problems.is_empty() {
                    let why = problems.join(", ");
                    x.invalid(&name, format!("authorizer name is invalid: {why}"));
                }
            });
            names.insert(a.name.clone());
            match (&a.webhook, kind) {
                (None, "Webhook") => {
                    x.at("webhook", |x| x.required("required when type=Webhook"));
                }
                (Some(w), "Webhook") => webhook(w, x),
                (Some(_), _) => x.at("webhook", |x| {
                    let why = "may only be specified when type=Webhook";
                    x.invalid(&json!("non-null"), why);
                }),
                (None, _) => {}
            }
        });
    }
}

fn webhook(w: &WebhookConfiguration, x: &mut Causes) {
    times(w, x);
    let version = w.subject_access_review_version.as_str();
    x.at("subjectAccessReviewVersion", |x| match version {
        "" => x.required(""),
        "v1" | "v1beta1" => {}
        other => x.not_supported_in_order(&json!(other), &["v1", "v1beta1"]),
    });
    let version = w.match_condition_subject_access_review_version.as_str();
    x.at(
        "matchConditionSubjectAccessReviewVersion",
        |x| match version {
            "" if !w.match_conditions.is_empty() => {
                x.required("required if match conditions are specified");
            }
            "" | "v1" => {}
            other => x.not_supported_in_order(&json!(other), &["v1"]),
        },
    );
    let policy = w.failure_policy.as_str();
    x.at("failurePolicy", |x| match policy {
        "" => x.required(""),
        "NoOpinion" | "Deny" => {}
        other => x.not_supported_in_order(&json!(other), &["NoOpinion", "Deny"]),
    });
    x.at("connectionInfo", |x| connection(&w.connection_info, x));
    conditions(w, x);
}

fn times(w: &WebhookConfiguration, x: &mut Causes) {
    let shown = |nanos: i64| json!(api::duration::text(nanos));
    x.at("timeout", |x| match w.timeout {
        0 => x.required(""),
        t if !(0..=30 * SECOND).contains(&t) => x.invalid(&shown(t), "must be > 0s and <= 30s"),
        _ => {}
    });
    for (name, ttl) in [
        ("authorizedTTL", w.authorized_ttl),
        ("unauthorizedTTL", w.unauthorized_ttl),
    ] {
        x.at(name, |x| match ttl {
            0 => x.required(""),
            t if t < 0 => x.invalid(&shown(t), "must be > 0s"),
            _ => {}
        });
    }
}

fn connection(c: &ConnectionInfo, x: &mut Causes) {
    let types = ["InClusterConfig", "KubeConfigFile"];
    match c.kind.as_str() {
        "" => x.at("type", |x| x.required("")),
        "InClusterConfig" => {
            if let Some(file) = &c.kube_config_file {
                x.at("kubeConfigFile", |x| {
                    x.invalid(&json!(file), "can only be set when type=KubeConfigFile");
                });
            }
        }
        "KubeConfigFile" => x.at("kubeConfigFile", |x| {
            let file = c.kube_config_file.clone().unwrap_or_default();
            let value = json!(file);
            if file.is_empty() {
                return x.required("");
            }
            if !file.starts_with('/') {
                return x.invalid(&value, "must be an absolute path");
            }
            match std::fs::metadata(&file) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    let why = format!("error loading file: stat {file}: no such file or directory");
                    x.invalid(&value, why);
                }
                Err(e) => x.invalid(&value, format!("error loading file: stat {file}: {e}")),
                Ok(m) if !m.is_file() => x.invalid(&value, "must be a regular file"),
                Ok(_) => {}
            }
        }),
        other => {
            let file = c.kube_config_file.as_ref();
            let file = file.map_or("null".to_string(), |f| json!(f).to_string());
            let shown = format!("{{\"Type\":\"{other}\",\"KubeConfigFile\":{file}}}");
            let known = types.map(|t| format!("\"{t}\"")).join(", ");
            x.at("type", |x| {
                x.shown(
                    CauseKind::NotSupported,
                    shown,
                    format!("supported values: {known}"),
                );
            });
        }
    }
}

fn conditions(w: &WebhookConfiguration, x: &mut Causes) {
    let all = &w.match_conditions;
    if all.len() > limits::MATCH_CONDITIONS_MAX {
        return x.at("matchConditions", |x| {
            x.too_many(all.len(), limits::MATCH_CONDITIONS_MAX);
        });
    }
    let mut seen = HashSet::new();
    x.at("matchConditions", |x| {
        for (i, condition) in all.iter().enumerate() {
            let source = condition.expression.as_str();
            x.index(i, |x| {
                x.at("expression", |x| {
                    if source.trim().is_empty() {
                        x.required("");
                    } else if !seen.insert(source) {
                        x.duplicate(&json!(source));
                    } else if let Err(why) = MatchConditions::compile_one(source) {
                        x.invalid(&json!(source), why);
                    }
                });
            });
        }
    });
}
