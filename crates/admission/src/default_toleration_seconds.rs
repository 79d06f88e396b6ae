//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable.
//! Upstream: plugin/pkg/admission/defaulttolerationseconds.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{list_at, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::{Value, json};

/// `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`.
const SECONDS: i64 = 300;
const KEYS: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        let Some(pod) = &mut a.object else {
            return Ok(());
        };
        let mut tolerations = list_at(pod, "spec.tolerations").to_vec();
        let before = tolerations.len();
        for key in KEYS {
            let tolerates = |t: &Value| {
                let (k, effect) = (str_at(t, "key"), str_at(t, "effect"));
                (k == *key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            };
            if !tolerations.iter().any(tolerates) {
                tolerations.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": SECONDS,
                }));
            }
        }
        if tolerations.len() > before {
            set(pod, "spec.tolerations", json!(tolerations));
        }
        Ok(())
    }
}
