//! PodResizeValidator: a resize must fit the pod's node. Upstream: plugin/pkg/admission/podresize.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::error::StatusCause;
use machinery::object::{at, i64_at, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::Value;

use crate::Context;
use crate::pod_requests::{list, with_overhead};

pub struct PodResizeValidator(pub Context);

fn with_cause(mut e: ApiError, reason: &str) -> ApiError {
    if let Some(details) = &mut e.details {
        details.causes.push(StatusCause {
            reason: reason.into(),
            ..StatusCause::default()
        });
    }
    e
}

#[async_trait]
impl Admission for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let pods = a.descriptor.group.is_empty() && a.descriptor.resource == "pods";
        let (true, "resize", Some(after), Some(before)) =
            (pods, a.subresource, &a.object, a.before)
        else {
            return Ok(());
        };
        let node = str_at(after, "spec.nodeName");
        let generation = |o: &Value| i64_at(o, "metadata.generation");
        if node.is_empty() || generation(after) == generation(before) {
            return Ok(());
        }
        let Some(found) = self.0.get("", "nodes", "", node) else {
            return Err(a.forbidden(&format!("node \"{node}\" not found")));
        };
        let os = found["metadata"]["labels"]["kubernetes.io/os"]
            .as_str()
            .unwrap_or("");
        if !["", "linux"].contains(&os) {
            let why =
                format!("pod resize is only supported on linux nodes, node \"{node}\" is \"{os}\"");
            return Err(with_cause(a.forbidden(&why), "UnsupportedPlatform"));
        }
        let requests = with_overhead(after, "requests");
        let allocatable = list(at(&found, "status.allocatable"));
        let mut exceeded = Vec::new();
        for resource in ["cpu", "memory"] {
            let (Some(r), Some(l)) = (requests.get(resource), allocatable.get(resource)) else {
                continue;
            };
            if r > l {
                let number = |q: &api::quantity::Quantity| match resource {
                    "cpu" => q.milli_value(),
                    _ => q.value(),
                };
                exceeded.push(format!(
                    "{resource}, requested: {}, allocatable: {}",
                    number(r),
                    number(l)
                ));
            }
        }
        if exceeded.is_empty() {
            return Ok(());
        }
        let why = format!(
            "node didn't have enough allocatable resources: {}",
            exceeded.join("; ")
        );
        Err(with_cause(a.forbidden(&why), "NodeCapacity"))
    }
}
