//! pods/eviction: a deletion that asks the pod's disruption budget first.
//! Upstream: pkg/registry/core/pod/storage/eviction.go; validation-pod §17.

use api::selector::LabelSelector;
use async_trait::async_trait;
use client::Client;
use http::Method;
use jiff::Timestamp;
use machinery::descriptor::Creator;
use machinery::error::{Details, StatusCause};
use machinery::object::{at, i64_at, is_deleting, list_at, map_at, map_mut, set, str_at};
use machinery::request::User;
use machinery::{ApiError, GroupResource};
use serde_json::{Value, json};

use crate::creators::{send, success};
use crate::time::rfc3339;

/// How often an eviction is tried against conflicts (upstream: 20).
const TRIES: usize = 20;
/// Evicted pods that a budget's status names at most.
const DISRUPTED_MAX: usize = 2000;
const MESSAGE: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Answers evictions.
pub struct Evictions(pub Client);

/// What a budget says to an eviction.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Delete, without counting.
    Free,
    /// Delete once this status of the budget is stored.
    Count(Value),
    Refused(ApiError),
}

#[async_trait]
impl Creator for Evictions {
    async fn create(
        &self,
        _user: &User,
        namespace: &str,
        name: &str,
        body: Value,
        dry_run: bool,
    ) -> Result<Value, ApiError> {
        let kind = str_at(&body, "kind");
        if !kind.is_empty() && kind != "Eviction" {
            return Err(ApiError::bad_request(format!(
                "not a Eviction object: {kind}"
            )));
        }
        let given = str_at(&body, "metadata.name");
        if !given.is_empty() && given != name {
            return Err(ApiError::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let mut options = at(&body, "deleteOptions").cloned().unwrap_or(json!({}));
        if dry_run {
            set(&mut options, "dryRun", json!(["All"]));
        }
        let dry_run = list_at(&options, "dryRun").iter().any(|v| v == "All");
        self.evict(namespace, name, &options, dry_run).await
    }
}

impl Evictions {
    async fn evict(
        &self,
        namespace: &str,
        name: &str,
        options: &Value,
        dry_run: bool,
    ) -> Result<Value, ApiError> {
        let mut last = None;
        for _ in 0..TRIES {
            let pod = self.pod(namespace, name)?;
            if !is_free(&pod) {
                let budgets = self.budgets(namespace, &pod)?;
                if budgets.len() > 1 {
                    // Upstream: this failure is the created object, under a 201.
                    return Ok(
                        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "code": 500, "message": "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."}),
                    );
                }
                if let Some(budget) = budgets.first() {
                    match verdict(&pod, budget, Timestamp::now()) {
                        Verdict::Free => {}
                        Verdict::Refused(e) => return Err(e),
                        Verdict::Count(_) if dry_run => {}
                        Verdict::Count(counted) => {
                            let path = format!(
                                "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{}/status",
                                str_at(budget, "metadata.name")
                            );
                            match send(&self.0, Method::PUT, &path, &counted).await {
                                Ok(_) => {}
                                Err(e) if e.is_conflict() => {
                                    last = Some(e);
                                    continue;
                                }
                                Err(e) => return Err(e),
                            }
                        }
                    }
                }
            }
            self.delete(&pod, options, dry_run).await?;
            return Ok(success());
        }
        Err(last.unwrap_or_else(|| ApiError::internal("no eviction was tried")))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Value, ApiError> {
        let cache = self.0.cache(&GroupResource::new("", "pods"));
        let cache = cache.map_err(ApiError::internal)?;
        let entry = cache.get(namespace, name);
        let entry = entry.ok_or_else(|| ApiError::not_found("", "pods", name))?;
        entry.value().map_err(ApiError::internal)
    }

    /// The budgets that select a pod.
    fn budgets(&self, namespace: &str, pod: &Value) -> Result<Vec<Value>, ApiError> {
        let gr = GroupResource::new("policy", "poddisruptionbudgets");
        let Ok(cache) = self.0.cache(&gr) else {
            return Ok(Vec::new());
        };
        let labels = map_at(pod, "metadata.labels");
        let label = |k: &str| labels.and_then(|l| l.get(k)).and_then(Value::as_str);
        let mut out = Vec::new();
        for entry in cache.list(Some(namespace)) {
            let budget = entry.value().map_err(ApiError::internal)?;
            let selector = at(&budget, "spec.selector").and_then(LabelSelector::from_object);
            if selector.is_some_and(|s| s.matches(label)) {
                out.push(budget);
            }
        }
        Ok(out)
    }

    /// Says why in the pod's status, and deletes it.
    async fn delete(&self, pod: &Value, options: &Value, dry_run: bool) -> Result<(), ApiError> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            str_at(pod, "metadata.namespace"),
            str_at(pod, "metadata.name")
        );
        if !dry_run {
            let conditions = disrupted(pod, Timestamp::now());
            let patch = json!({"metadata": {"uid": str_at(pod, "metadata.uid")},
                "status": {"conditions": conditions}});
            send(&self.0, Method::PATCH, &format!("{path}/status"), &patch).await?;
        }
        let mut options = options.clone();
        // The status was written since: the asked version, if any, was checked by the patch's time.
        machinery::object::remove(&mut options, "preconditions.resourceVersion");
        machinery::object::set_default(
            &mut options,
            "preconditions.uid",
            json!(str_at(pod, "metadata.uid")),
        );
        send(&self.0, Method::DELETE, &path, &options).await?;
        Ok(())
    }
}

/// Whether budgets do not count for a pod: it does not run.
fn is_free(pod: &Value) -> bool {
    ["Pending", "Succeeded", "Failed"].contains(&str_at(pod, "status.phase")) || is_deleting(pod)
}

/// The conditions of a pod that is evicted.
fn disrupted(pod: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = list_at(pod, "status.conditions").to_vec();
    all.retain(|c| str_at(c, "type") != "DisruptionTarget");
    all.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": rfc3339(now),
    }));
    all
}

fn condition<'a>(obj: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut all = list_at(obj, "status.conditions").iter();
    all.find(|c| str_at(c, "type") == kind)
}

fn verdict(pod: &Value, budget: &Value, now: Timestamp) -> Verdict {
    let number = |path: &str| i64_at(budget, path).unwrap_or(0);
    let (current, desired) = (
        number("status.currentHealthy"),
        number("status.desiredHealthy"),
    );
    let ready = condition(pod, "Ready").is_some_and(|c| str_at(c, "status") == "True");
    let always = str_at(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
    if !ready && (always || (current >= desired && desired > 0)) {
        return Verdict::Free;
    }
    let name = str_at(budget, "metadata.name");
    let refuse = |why: String, retry: i32| Verdict::Refused(violates(why, retry));
    if number("status.observedGeneration") < number("metadata.generation") {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return refuse(why, 10);
    }
    let forbidden = |why: &str| {
        Verdict::Refused(ApiError::forbidden(
            "policy",
            "poddisruptionbudget",
            name,
            why,
        ))
    };
    let allowed = number("status.disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let known = map_at(budget, "status.disruptedPods").map_or(0, serde_json::Map::len);
    if known > DISRUPTED_MAX {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }
    if allowed == 0 {
        return refuse(not_allowed(budget, name, current, desired), 0);
    }
    let mut counted = budget.clone();
    set(
        &mut counted,
        "status.disruptionsAllowed",
        json!(allowed - 1),
    );
    map_mut(&mut counted, "status.disruptedPods")
        .insert(str_at(pod, "metadata.name").into(), json!(rfc3339(now)));
    if allowed == 1 {
        insufficient(&mut counted, now);
    }
    Verdict::Count(counted)
}

fn not_allowed(budget: &Value, name: &str, current: i64, desired: i64) -> String {
    let said = condition(budget, "DisruptionAllowed")
        .filter(|c| str_at(c, "status") == "False" && !str_at(c, "message").is_empty());
    let text = |field: &str| said.map_or("", |c| str_at(c, field));
    if said.is_some() && text("reason") == "SyncFailed" {
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            text("message")
        );
    }
    if current <= desired {
        return format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        );
    }
    if said.is_some() {
        return format!(
            "The disruption budget {name} does not allow evicting pods currently ({}): {}",
            text("reason"),
            text("message")
        );
    }
    format!("The disruption budget {name} does not allow evicting pods currently")
}

/// The budget's condition once nothing is left of it.
fn insufficient(budget: &mut Value, now: Timestamp) {
    let mut all = list_at(budget, "status.conditions").to_vec();
    let old = all
        .iter()
        .position(|c| str_at(c, "type") == "DisruptionAllowed");
    let since = old
        .map(|i| &all[i])
        .filter(|c| str_at(c, "status") == "False")
        .map(|c| str_at(c, "lastTransitionTime").to_string());
    let condition = json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": i64_at(budget, "status.observedGeneration").unwrap_or(0),
        "lastTransitionTime": since.unwrap_or_else(|| rfc3339(now)),
    });
    match old {
        Some(i) => all[i] = condition,
        None => all.push(condition),
    }
    set(budget, "status.conditions", json!(all));
}

/// 429 with the budget's cause.
fn violates(why: String, retry_after: i32) -> ApiError {
    let mut e = ApiError::new(429, "TooManyRequests", MESSAGE);
    let cause = StatusCause {
        reason: "DisruptionBudget".into(),
        message: why,
        field: String::new(),
    };
    e.details = Some(Box::new(Details {
        causes: vec![cause],
        retry_after_seconds: retry_after,
        ..Details::default()
    }));
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(v: &Verdict) -> &str {
        let Verdict::Refused(e) = v else { return "" };
        e.details.as_ref().map_or("", |d| &d.causes[0].message)
    }

    #[test]
    fn a_budget_is_asked_and_counted() {
        let now = Timestamp::UNIX_EPOCH;
        let ready = json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let budget =
            |status: Value| json!({"metadata": {"name": "b", "generation": 1}, "status": status});
        let one = json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1});
        let Verdict::Count(counted) = verdict(&ready, &budget(one.clone()), now) else {
            panic!("refused")
        };
        assert_eq!(counted["status"]["disruptionsAllowed"], 0);
        assert_eq!(
            counted["status"]["conditions"][0]["reason"],
            "InsufficientPods"
        );
        assert!(counted["status"]["disruptedPods"]["p"].is_string());
        let none = json!({"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 1});
        assert_eq!(
            cause(&verdict(&ready, &budget(none.clone()), now)),
            "The disruption budget b needs 1 healthy pods and has 1 currently"
        );
        assert_eq!(
            cause(&verdict(&ready, &budget(json!({})), now)),
            "The disruption budget b is still being processed by the server."
        );
        let unready = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
        assert_eq!(verdict(&unready, &budget(none), now), Verdict::Free);
    }
}
