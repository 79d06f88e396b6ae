//! RuntimeClass: overhead and placement of pods by their runtime class.
//! Upstream: plugin/pkg/admission/runtimeclass.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, list_at, map_at, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::{Value, json};

use crate::Context;

pub struct RuntimeClass(pub Context);

impl RuntimeClass {
    /// The class of a pod; `None` where it names none.
    fn class(&self, a: &Attempt<'_>) -> Result<Option<Value>, ApiError> {
        let Some(pod) = a.object.as_ref().filter(|_| a.is("", "pods")) else {
            return Ok(None);
        };
        let name = str_at(pod, "spec.runtimeClassName");
        if name.is_empty() {
            return Ok(None);
        }
        match self.0.get("node.k8s.io", "runtimeclasses", "", name) {
            Some(class) => Ok(Some(class)),
            None => Err(a.forbidden(&format!("pod rejected: RuntimeClass \"{name}\" not found"))),
        }
    }
}

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Both
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let Some(class) = self.class(a)? else {
            return Ok(());
        };
        let mut pod = a.object.clone().unwrap_or_default();
        set_overhead(&class, &mut pod).map_err(|why| a.forbidden(&why))?;
        set_scheduling(&class, &mut pod).map_err(|why| a.forbidden(&why))?;
        a.object = Some(pod);
        Ok(())
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let Some(pod) = a.object.as_ref().filter(|_| a.is("", "pods")) else {
            return Ok(());
        };
        let class = self.class(a)?;
        let fixed = class.as_ref().and_then(|c| at(c, "overhead.podFixed"));
        let own = map_at(pod, "spec.overhead").is_some_and(|o| !o.is_empty());
        match fixed {
            Some(fixed) if !same_amounts(fixed, &pod["spec"]["overhead"]) => Err(a.forbidden(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            )),
            None if own => Err(a.forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            _ => Ok(()),
        }
    }
}

fn set_overhead(class: &Value, pod: &mut Value) -> Result<(), String> {
    let Some(fixed) = at(class, "overhead.podFixed") else {
        return Ok(());
    };
    let own = map_at(pod, "spec.overhead").is_some_and(|o| !o.is_empty());
    if own && !same_amounts(fixed, &pod["spec"]["overhead"]) {
        return Err(
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into(),
        );
    }
    set(pod, "spec.overhead", fixed.clone());
    Ok(())
}

/// Whether two resource lists name the same amounts.
fn same_amounts(a: &Value, b: &Value) -> bool {
    crate::pod_requests::list(Some(a)) == crate::pod_requests::list(Some(b))
}

fn set_scheduling(class: &Value, pod: &mut Value) -> Result<(), String> {
    if let Some(selector) = map_at(class, "scheduling.nodeSelector") {
        let mut merged = map_at(pod, "spec.nodeSelector")
            .cloned()
            .unwrap_or_default();
        for (k, v) in selector {
            if let Some(own) = merged.get(k).filter(|own| *own != v) {
                let text = |v: &Value| v.as_str().unwrap_or("").to_string();
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{k}] = {}; pod.spec.nodeSelector[{k}] = {}",
                    text(v),
                    text(own)
                ));
            }
            merged.insert(k.clone(), v.clone());
        }
        set(pod, "spec.nodeSelector", merged.into());
    }
    let extra = list_at(class, "scheduling.tolerations");
    if !extra.is_empty() {
        let mut merged = list_at(pod, "spec.tolerations").to_vec();
        for t in extra {
            if !merged.iter().any(|own| covers(own, t)) {
                merged.push(t.clone());
            }
        }
        set(pod, "spec.tolerations", json!(merged));
    }
    Ok(())
}

/// Whether everything that `b` tolerates, `a` tolerates too.
fn covers(a: &Value, b: &Value) -> bool {
    let f = |t: &Value, field: &str| str_at(t, field).to_string();
    let (ka, kb) = (f(a, "key"), f(b, "key"));
    let key = ka.is_empty() || ka == kb;
    let effect = f(a, "effect").is_empty() || f(a, "effect") == f(b, "effect");
    let value = f(a, "operator") == "Exists"
        || (f(b, "operator") != "Exists" && f(a, "value") == f(b, "value"));
    let seconds = at(a, "tolerationSeconds").is_none()
        || at(a, "tolerationSeconds") == at(b, "tolerationSeconds");
    key && effect && value && seconds
}
