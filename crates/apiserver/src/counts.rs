//! What the filters count of authentication and authorization. Upstream: k8s.io/apiserver/pkg/endpoints/filters/metrics.go.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use machinery::ApiError;
use machinery::request::{Decision, User};
use machinery::series::{DOUBLING, Family, Kind, Registry, Series};

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

/// The series that every request counts in, looked up once each.
#[derive(Default)]
pub struct Kept {
    found: [OnceLock<(Arc<Series>, Arc<Series>)>; 3],
    decided: [OnceLock<(Arc<Series>, Arc<Series>)>; 4],
    others: OnceLock<Arc<Series>>,
}

const FOUND: [&str; 3] = ["success", "failure", "error"];
const DECIDED: [&str; 4] = ["allowed", "no-opinion", "denied", "error"];

/// Counts a search for the sender.
pub fn authenticated(
    (counts, kept): (&Registry, &Kept),
    found: &Result<Option<User>, ApiError>,
    took: Duration,
) {
    let i = match found {
        Ok(Some(user)) => {
            match compressed(&user.name) {
                OTHER => {
                    let others = || counts.series(&USERS, &[OTHER]);
                    kept.others.get_or_init(others).inc();
                }
                known => counts.inc(&USERS, &[known]),
            }
            0
        }
        Ok(None) => 1,
        Err(_) => 2,
    };
    let (attempts, seconds) = kept.found[i].get_or_init(|| {
        let labels = [FOUND[i]];
        let attempts = counts.series(&ATTEMPTS, &labels);
        (attempts, counts.series(&ATTEMPT_SECONDS, &labels))
    });
    attempts.inc();
    seconds.observe(DOUBLING, took);
}

const OTHER: &str = "other";

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
        _ => OTHER,
    }
}

/// Counts a decision.
pub fn authorized((counts, kept): (&Registry, &Kept), decision: &Decision, took: Duration) {
    let i = match decision {
        Decision::Allow(_) => 0,
        Decision::NoOpinion(_) => 1,
        Decision::Deny(_) => 2,
        Decision::Failed { .. } => 3,
    };
    let (attempts, seconds) = kept.decided[i].get_or_init(|| {
        let labels = [DECIDED[i]];
        let attempts = counts.series(&DECISIONS, &labels);
        (attempts, counts.series(&DECISION_SECONDS, &labels))
    });
    attempts.inc();
    seconds.observe(DOUBLING, took);
}
