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

/// How often something ended in each of its results, and what it took: series that are looked up once each.
struct Results<const N: usize> {
    count: &'static Family,
    seconds: &'static Family,
    names: [&'static str; N],
    series: [OnceLock<(Arc<Series>, Arc<Series>)>; N],
}

impl<const N: usize> Results<N> {
    fn new(count: &'static Family, seconds: &'static Family, names: [&'static str; N]) -> Self {
        Self {
            count,
            seconds,
            names,
            series: [const { OnceLock::new() }; N],
        }
    }

    /// Counts one that ended in the result of this place.
    fn count(&self, counts: &Registry, result: usize, took: Duration) {
        let (count, seconds) = self.series[result].get_or_init(|| {
            let labels = [self.names[result]];
            let count = counts.series(self.count, &labels);
            (count, counts.series(self.seconds, &labels))
        });
        count.inc();
        seconds.observe(DOUBLING, took);
    }
}

/// What every request counts in.
pub struct Kept {
    found: Results<3>,
    decided: Results<4>,
    others: OnceLock<Arc<Series>>,
}

impl Default for Kept {
    fn default() -> Self {
        let found = ["success", "failure", "error"];
        let decided = ["allowed", "no-opinion", "denied", "error"];
        Self {
            found: Results::new(&ATTEMPTS, &ATTEMPT_SECONDS, found),
            decided: Results::new(&DECISIONS, &DECISION_SECONDS, decided),
            others: OnceLock::new(),
        }
    }
}

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
    kept.found.count(counts, i, took);
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
    kept.decided.count(counts, i, took);
}
