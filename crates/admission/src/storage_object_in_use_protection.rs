//! StorageObjectInUseProtection: volumes and claims are not removed while used.
//! Upstream: plugin/pkg/admission/storage/storageobjectinuseprotection.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{list_at, set};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::json;

/// Group, resource and finalizer.
const FINALIZERS: &[(&str, &str, &str)] = &[
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    (
        "storage.k8s.io",
        "volumeattributesclasses",
        "kubernetes.io/vac-protection",
    ),
];

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let found = FINALIZERS
            .iter()
            .find(|(group, resource, _)| a.is(group, resource));
        let (Some((_, _, finalizer)), Some(object)) = (found, a.object.as_mut()) else {
            return Ok(());
        };
        let mut all = list_at(object, "metadata.finalizers").to_vec();
        if !all.iter().any(|f| f == finalizer) {
            all.push(json!(finalizer));
            set(object, "metadata.finalizers", json!(all));
        }
        Ok(())
    }
}
