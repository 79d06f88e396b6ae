//! PersistentVolumeClaimResize: only claims whose class allows it may grow.
//! Upstream: plugin/pkg/admission/storage/persistentvolume/resize.

use api::quantity::Quantity;
use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{bool_at, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::Value;

use crate::Context;

pub struct PersistentVolumeClaimResize(pub Context);

impl PersistentVolumeClaimResize {
    fn resizable(&self, before: &Value, after: &Value) -> bool {
        let old = "volume.beta.kubernetes.io/storage-class";
        let class = |o: &Value| {
            let annotated = o["metadata"]["annotations"][old].as_str().map(String::from);
            annotated.unwrap_or_else(|| str_at(o, "spec.storageClassName").to_string())
        };
        let name = class(after);
        if name.is_empty() || name != class(before) {
            return false;
        }
        let found = self.0.get("storage.k8s.io", "storageclasses", "", &name);
        found.is_some_and(|c| bool_at(&c, "allowVolumeExpansion") == Some(true))
    }
}

#[async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let (true, Some(after), Some(before)) =
            (a.is("", "persistentvolumeclaims"), &a.object, a.before)
        else {
            return Ok(());
        };
        let size = |o: &Value| Quantity::parse(str_at(o, "spec.resources.requests.storage")).ok();
        let (Some(old), Some(new)) = (size(before), size(after)) else {
            return Ok(());
        };
        if new <= old {
            return Ok(());
        }
        if str_at(before, "status.phase") != "Bound" {
            return Err(a.forbidden("Only bound persistent volume claims can be expanded"));
        }
        if !self.resizable(before, after) {
            return Err(a.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ));
        }
        Ok(())
    }
}
