//! What a Job's policies say about failed pods and succeeded indexes.
//! Upstream: pkg/controller/job/{pod_failure_policy,success_policy}.go.

use api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use api::core::v1::Pod;

use super::indexes::Indexes;
use crate::common::object::Object;

/// What becomes of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It counts towards the limits.
    Count,
    /// It does not count.
    Ignore,
    /// Its index fails for good.
    FailIndex,
    /// The whole Job fails, for this reason.
    FailJob(String),
}

/// Judges a failed pod by the first rule that matches it.
pub fn judge(spec: &JobSpec, pod: &Pod) -> Action {
    let rules = spec.pod_failure_policy.iter().flat_map(|p| &p.rules);
    for (i, rule) in rules.enumerate() {
        let Some(why) = matched(rule, pod) else {
            continue;
        };
        return match rule.action.as_str() {
            "Ignore" => Action::Ignore,
            "FailIndex" if spec.backoff_limit_per_index.is_some() => Action::FailIndex,
            "FailJob" => Action::FailJob(format!("{why} matching FailJob rule at index {i}")),
            _ => Action::Count,
        };
    }
    Action::Count
}

fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let (namespace, name) = (pod.namespace(), pod.name());
    let status = pod.status.as_ref()?;
    if let Some(wanted) = &rule.on_exit_codes {
        let regular = status.container_statuses.iter().flatten();
        let init = status.init_container_statuses.iter().flatten();
        let mut ended = regular.chain(init).filter_map(|c| {
            let code = c.state.as_ref()?.terminated.as_ref()?.exit_code;
            Some((c.name.as_str(), code))
        });
        let (container, code) = ended.find(|(name, code)| exit_matches(wanted, name, *code))?;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    for pattern in patterns {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        let mut all = status.conditions.iter().flatten();
        if all.any(|c| c.type_ == pattern.type_ && c.status == wanted) {
            let kind = &pattern.type_;
            return Some(format!("Pod {namespace}/{name} has condition {kind}"));
        }
    }
    None
}

fn exit_matches(r: &PodFailurePolicyOnExitCodesRequirement, name: &str, code: i32) -> bool {
    if code == 0 || r.container_name.as_deref().is_some_and(|n| n != name) {
        return false;
    }
    match r.operator.as_str() {
        "In" => r.values.contains(&code),
        "NotIn" => !r.values.contains(&code),
        _ => false,
    }
}

/// The message of the first rule of the success policy that is met.
pub fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    let completions = spec.completions.unwrap_or(0);
    let rules = spec.success_policy.iter().flat_map(|p| &p.rules);
    for (i, rule) in rules.enumerate() {
        let met = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                let there = wanted.0.intersection(&succeeded.0).count();
                let there = i32::try_from(there).unwrap_or(i32::MAX);
                there >= rule.succeeded_count.unwrap_or(wanted.len())
            }
            None => rule.succeeded_count.is_some_and(|n| succeeded.len() >= n),
        };
        if met {
            return Some(format!("Matched rules at index {i}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(v: Value) -> JobSpec {
        let mut all = json!({"template": {}, "completions": 5});
        json_patch::merge(&mut all, &v);
        serde_json::from_value(all).unwrap()
    }

    fn pod(code: i32, condition: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d"}, "status": {
            "conditions": [{"type": condition, "status": "True"}],
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}}]}}))
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let s = spec(json!({"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}}));
        assert_eq!(judge(&s, &pod(42, "DisruptionTarget")), Action::Ignore);
        let why =
            "Container c for pod d/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(judge(&s, &pod(42, "x")), Action::FailJob(why.into()));
        assert_eq!(judge(&s, &pod(1, "x")), Action::Count);
        assert_eq!(
            judge(&s, &pod(7, "x")),
            Action::Count,
            "no limit per index, no index fails"
        );
    }

    #[test]
    fn success_needs_all_indexes_of_a_rule_or_as_many_as_told() {
        let has = |t: &str| Indexes::parse(t, 5);
        let s = spec(json!({"successPolicy": {"rules": [
            {"succeededIndexes": "0-2"}, {"succeededIndexes": "3,4", "succeededCount": 1}, {"succeededCount": 2}]}}));
        assert_eq!(success(&s, &has("0")), None);
        assert_eq!(
            success(&s, &has("0,1")).as_deref(),
            Some("Matched rules at index 2")
        );
        assert_eq!(
            success(&s, &has("4")).as_deref(),
            Some("Matched rules at index 1")
        );
        assert_eq!(
            success(&s, &has("0-2")).as_deref(),
            Some("Matched rules at index 0")
        );
    }
}
