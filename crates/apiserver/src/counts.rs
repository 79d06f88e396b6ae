//! What the filters count of authentication and authorization. Upstream: k8s.io/apiserver/pkg/endpoints/filters/metrics.go.

use std::time::Duration;

use machinery::ApiError;
use machinery::request::{Decision, User};
use machinery::series::{DOUBLING, Family, Kind, Registry};

static ATTEMPTS: Family = Family {
    name: "authentication_attempts",
    kind: Kind::Counter,
    help: "[ALPHA] Requests whose sender was looked for, by the result.",
    labels: &["result"],
};
static ATTEMPT_SECONDS: Family = Family {
    name: "authentication_duration_seconds",
    kind: Kind::Histogram(DOUBLING),
    help: "[ALPHA] Seconds that took, by the result.",
    labels: &["result"],
};
static USERS: Family = Family {
    name: "authenticated_user_requests",
    kind: Kind::Counter,
    help: "[ALPHA] Requests of known senders, by kinds of names.",
    labels: &["username"],
};
static DECISIONS: Family = Family {
    name: "authorization_attempts_total",
    kind: Kind::Counter,
    help: "[ALPHA] Requests that authorizers decided about, by the result.",
    labels: &["result"],
};
static DECISION_SECONDS: Family = Family {
    name: "authorization_duration_seconds",
    kind: Kind::Histogram(DOUBLING),
    help: "[ALPHA] Seconds that took, by the result.",
    labels: &["result"],
};

/// Counts a search for the sender.
pub fn authenticated(counts: &Registry, found: &Result<Option<User>, ApiError>, took: Duration) {
    let result = match found {
        Err(_) => "error",
        Ok(None) => "failure",
        Ok(Some(user)) => {
            counts.inc(&USERS, &[compressed(&user.name)]);
            "success"
        }
    };
    counts.inc(&ATTEMPTS, &[result]);
    counts.observe(&ATTEMPT_SECONDS, &[result], took);
}

/// Few names, so that there are few series. Upstream: compressUsername.
fn compressed(name: &str) -> &str {
    let known = [
        "admin",
        "client",
        "kube_proxy",
        "kubelet",
        "system:serviceaccount:kube-system:default",
    ];
    match name {
        name if known.contains(&name) => name,
        name if name.contains('@') => "email_id",
        _ => "other",
    }
}

/// Counts a decision.
pub fn authorized(counts: &Registry, decision: &Decision, took: Duration) {
    let result = match decision {
        Decision::Allow(_) => "allowed",
        Decision::Failed { .. } => "error",
        Decision::Deny(_) => "denied",
        Decision::NoOpinion(_) => "no-opinion",
    };
    counts.inc(&DECISIONS, &[result]);
    counts.observe(&DECISION_SECONDS, &[result], took);
}
