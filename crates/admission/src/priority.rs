//! Priority: a pod's priority is that of its class. Upstream: plugin/pkg/admission/priority.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, bool_at, i64_at, name, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::{Value, json};

use crate::Context;

const GROUP: &str = "scheduling.k8s.io";
const PREEMPT: &str = "PreemptLowerPriority";

pub struct Priority(pub Context);

/// What a pod gets from its class.
struct Resolved {
    class: String,
    value: i64,
    policy: String,
}

impl Priority {
    fn classes(&self) -> Vec<Value> {
        self.0.list(GROUP, "priorityclasses", None)
    }

    fn resolve(&self, class: &str) -> Option<Resolved> {
        if class.is_empty() {
            let all = self.classes();
            let defaults = all
                .iter()
                .filter(|c| bool_at(c, "globalDefault") == Some(true));
            let found = defaults.min_by_key(|c| i64_at(c, "value").unwrap_or(0));
            return Some(found.map_or(
                Resolved {
                    class: String::new(),
                    value: 0,
                    policy: PREEMPT.into(),
                },
                resolved,
            ));
        }
        // The two system classes exist even before they are stored.
        let system = match class {
            "system-node-critical" => Some(2_000_001_000),
            "system-cluster-critical" => Some(2_000_000_000),
            _ => None,
        };
        match (self.0.get(GROUP, "priorityclasses", "", class), system) {
            (Some(found), _) => Some(resolved(&found)),
            (None, Some(value)) => Some(Resolved {
                class: class.into(),
                value,
                policy: PREEMPT.into(),
            }),
            (None, None) => None,
        }
    }

    fn create_pod(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let Some(pod) = &a.object else {
            return Ok(());
        };
        let class = str_at(pod, "spec.priorityClassName");
        let Some(found) = self.resolve(class) else {
            return Err(a.forbidden(&format!("no PriorityClass with name {class} was found")));
        };
        if let Some(given) = i64_at(pod, "spec.priority").filter(|p| *p != found.value) {
            return Err(a.forbidden(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                found.value
            )));
        }
        let policy = str_at(pod, "spec.preemptionPolicy");
        if !policy.is_empty() && policy != found.policy {
            return Err(a.forbidden(&format!(
                "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                found.policy
            )));
        }
        if let Some(pod) = &mut a.object {
            if !found.class.is_empty() {
                set(pod, "spec.priorityClassName", json!(found.class));
            }
            set(pod, "spec.priority", json!(found.value));
            set(pod, "spec.preemptionPolicy", json!(found.policy));
        }
        Ok(())
    }
}

fn resolved(class: &Value) -> Resolved {
    let policy = str_at(class, "preemptionPolicy");
    Resolved {
        class: name(class).into(),
        value: i64_at(class, "value").unwrap_or(0),
        policy: if policy.is_empty() { PREEMPT } else { policy }.into(),
    }
}

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Both
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        if a.operation == Operation::Create {
            return self.create_pod(a);
        }
        let (Some(pod), Some(before)) = (a.object.as_mut(), a.before) else {
            return Ok(());
        };
        for field in ["spec.priority", "spec.preemptionPolicy"] {
            if let (None, Some(old)) = (at(pod, field), at(before, field)) {
                set(pod, field, old.clone());
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let (true, Some(class)) = (a.is(GROUP, "priorityclasses"), &a.object) else {
            return Ok(());
        };
        if bool_at(class, "globalDefault") != Some(true) {
            return Ok(());
        }
        let all = self.classes();
        let other = all
            .iter()
            .find(|c| bool_at(c, "globalDefault") == Some(true) && name(c) != name(class));
        match other {
            Some(other) => Err(a.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                name(other)
            ))),
            None => Ok(()),
        }
    }
}
