//! Whether an aggregated server can be reached, as its APIService's condition `Available` tells: what the caches say
//! of its Service (decided here), then its answer to a probe.
//! Upstream: kube-aggregator controllers/status/remote.

use jiff::Timestamp;
use machinery::object::{at, bool_at, i64_at, list_at, str_at};
use serde_json::{Value, json};

use super::remote::Reference;

/// The condition `Available`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Condition {
    fn failed(reason: &'static str, message: String) -> Self {
        Self {
            status: "False",
            reason,
            message,
        }
    }

    /// The server answered.
    pub fn passed() -> Self {
        Self {
            status: "True",
            reason: "Passed",
            message: "all checks passed".into(),
        }
    }

    /// What is served here is always there.
    pub fn local() -> Self {
        Self {
            status: "True",
            reason: "Local",
            message: "Local APIServices are always available".into(),
        }
    }

    /// The server did not answer as it should.
    pub fn silent(why: String) -> Self {
        Self::failed("FailedDiscoveryCheck", why)
    }

    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// Why a server cannot be there, by its Service and that one's EndpointSlices; `None`: it must be asked.
pub fn seen(to: &Reference, service: Option<&Value>, slices: &[Value]) -> Option<Condition> {
    let (name, namespace) = (&to.name, &to.namespace);
    let Some(service) = service else {
        let message = format!("service/{name} in \"{namespace}\" is not present");
        return Some(Condition::failed("ServiceNotFound", message));
    };
    if str_at(service, "spec.type") != "ClusterIP" {
        return None;
    }
    let mut ports = list_at(service, "spec.ports").iter();
    let Some(port) = ports.find(|p| i64_at(p, "port") == Some(to.port.into())) else {
        let port = to.port;
        let message = format!("service/{name} in \"{namespace}\" is not listening on port {port}");
        return Some(Condition::failed("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in \"{namespace}\"");
        return Some(Condition::failed("EndpointsNotFound", message));
    }
    let port = str_at(port, "name");
    if !slices.iter().any(|s| has_endpoint(s, port)) {
        let message = format!(
            "endpointslices for service/{name} in \"{namespace}\" have no addresses with port name \"{port}\""
        );
        return Some(Condition::failed("MissingEndpoints", message));
    }
    None
}

fn has_endpoint(slice: &Value, port: &str) -> bool {
    let ready = |e: &Value| bool_at(e, "conditions.ready") != Some(false);
    let named = |p: &Value| str_at(p, "name") == port && at(p, "port").is_some();
    list_at(slice, "endpoints").iter().any(ready) && list_at(slice, "ports").iter().any(named)
}

/// The condition as an APIService has it.
pub fn current(object: &Value) -> Option<&Value> {
    let all = list_at(object, "status.conditions");
    all.iter().find(|c| str_at(c, "type") == "Available")
}

/// Whether an APIService says that it is available.
pub fn is_available(object: &Value) -> bool {
    current(object).is_some_and(|c| str_at(c, "status") == "True")
}

/// The conditions with this one put in its place; `None` where nothing changes. Others stay as they are, and the
/// time of transition is that of the last change of status.
pub fn with(object: &Value, condition: &Condition, now: Timestamp) -> Option<Vec<Value>> {
    let mut all = list_at(object, "status.conditions").to_vec();
    let old = all.iter().position(|c| str_at(c, "type") == "Available");
    let before = old.map(|i| all[i].clone()).unwrap_or_default();
    let same = str_at(&before, "status") == condition.status;
    let since = match str_at(&before, "lastTransitionTime") {
        time if same && !time.is_empty() => json!(time),
        _ => json!(crate::verbs::timestamp(now)),
    };
    let new = json!({"type": "Available", "status": condition.status, "reason": condition.reason,
        "message": condition.message, "lastTransitionTime": since});
    if before == new {
        return None;
    }
    match old {
        Some(i) => all[i] = new,
        None => all.push(new),
    }
    Some(all)
}
