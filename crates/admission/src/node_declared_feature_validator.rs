//! NodeDeclaredFeatureValidator: an update of a bound pod may need what only some kubelets can do.
//! Upstream: plugin/pkg/admission/nodedeclaredfeatures, component-helpers/nodedeclaredfeatures.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, i64_at, list_at, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::Value;

use crate::Context;

pub struct NodeDeclaredFeatureValidator(pub Context);

/// A feature, and whether an update needs it.
type Feature = (&'static str, fn(&Value, &Value) -> bool);

static FEATURES: &[Feature] = &[
    (
        "InPlacePodLevelResourcesVerticalScaling",
        |before, after| at(before, "spec.resources") != at(after, "spec.resources"),
    ),
    (
        "InPlacePodVerticalScalingInitContainers",
        |before, after| {
            let plain = |o: &Value| -> Vec<(String, Option<Value>)> {
                list_at(o, "spec.initContainers")
                    .iter()
                    .filter(|c| str_at(c, "restartPolicy") != "Always")
                    .map(|c| (str_at(c, "name").to_string(), at(c, "resources").cloned()))
                    .collect()
            };
            plain(before) != plain(after)
        },
    ),
    (
        "InPlacePodVerticalScalingMemoryBackedVolumes",
        |before, after| {
            let sizes = |o: &Value| -> Vec<(String, Option<Value>)> {
                list_at(o, "spec.volumes")
                    .iter()
                    .filter(|v| str_at(v, "emptyDir.medium") == "Memory")
                    .map(|v| {
                        (
                            str_at(v, "name").to_string(),
                            at(v, "emptyDir.sizeLimit").cloned(),
                        )
                    })
                    .collect()
            };
            sizes(before) != sizes(after)
        },
    ),
];

#[async_trait]
impl Admission for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let pods = a.descriptor.group.is_empty() && a.descriptor.resource == "pods";
        let (true, "" | "resize", Some(after), Some(before)) =
            (pods, a.subresource, &a.object, a.before)
        else {
            return Ok(());
        };
        let node = str_at(before, "spec.nodeName");
        let generation = |o: &Value| i64_at(o, "metadata.generation");
        if node.is_empty() || generation(after) == generation(before) {
            return Ok(());
        }
        let needed: Vec<&str> = FEATURES
            .iter()
            .filter(|(_, needs)| needs(before, after))
            .map(|(name, _)| *name)
            .collect();
        if needed.is_empty() {
            return Ok(());
        }
        let Some(found) = self.0.get("", "nodes", "", node) else {
            return Err(a.forbidden(&format!("node \"{node}\" not found")));
        };
        let declared = list_at(&found, "status.declaredFeatures");
        let lacking: Vec<&str> = needed
            .into_iter()
            .filter(|n| !declared.iter().any(|d| d == n))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(a.forbidden(&format!(
            "pod update requires features {} which are not available on node \"{node}\"",
            lacking.join(", ")
        )))
    }
}
