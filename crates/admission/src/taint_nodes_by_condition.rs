//! TaintNodesByCondition: new nodes start as not ready. Upstream: plugin/pkg/admission/nodetaint.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{list_at, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::json;

pub struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if !a.is("", "nodes") {
            return Ok(());
        }
        let Some(node) = &mut a.object else {
            return Ok(());
        };
        let (key, effect) = ("node.kubernetes.io/not-ready", "NoSchedule");
        let mut taints = list_at(node, "spec.taints").to_vec();
        let there =
            |t: &serde_json::Value| str_at(t, "key") == key && str_at(t, "effect") == effect;
        if !taints.iter().any(there) {
            taints.push(json!({"key": key, "effect": effect}));
            set(node, "spec.taints", json!(taints));
        }
        Ok(())
    }
}
