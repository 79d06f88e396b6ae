//! PodTopologyLabels: pods carry zone and region of their node.
//! Upstream: plugin/pkg/admission/podtopologylabels.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};

use crate::Context;

const LABELS: &[&str] = &[
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub struct PodTopologyLabels(pub Context);

#[async_trait]
impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let pods = a.descriptor.group.is_empty() && a.descriptor.resource == "pods";
        let Some(object) = a.object.as_mut().filter(|_| pods) else {
            return Ok(());
        };
        let node = match a.subresource {
            "" => str_at(object, "spec.nodeName"),
            "binding" if str_at(object, "target.kind") == "Node" => str_at(object, "target.name"),
            _ => "",
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = self.0.get("", "nodes", "", node) else {
            return Ok(());
        };
        for label in LABELS {
            if let Some(value) = node["metadata"]["labels"].get(*label) {
                let mut labels = machinery::object::map_at(object, "metadata.labels")
                    .cloned()
                    .unwrap_or_default();
                labels.insert((*label).to_string(), value.clone());
                set(object, "metadata.labels", labels.into());
            }
        }
        Ok(())
    }
}
