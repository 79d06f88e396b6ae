//! DefaultStorageClass: claims that name no class get the default one.
//! Upstream: plugin/pkg/admission/storage/storageclass/setdefault.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, name, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::{Value, json};

use crate::Context;

const ANNOTATIONS: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

pub struct DefaultStorageClass(pub Context);

#[async_trait]
impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if !a.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let Some(claim) = &mut a.object else {
            return Ok(());
        };
        let old = "volume.beta.kubernetes.io/storage-class";
        let named = at(claim, "spec.storageClassName").is_some()
            || claim["metadata"]["annotations"].get(old).is_some();
        if named {
            return Ok(());
        }
        let classes = self.0.list("storage.k8s.io", "storageclasses", None);
        if let Some(class) = default_of(classes, ANNOTATIONS) {
            set(claim, "spec.storageClassName", json!(class));
        }
        Ok(())
    }
}

/// The newest object (then lowest name) with one of the annotations at `true`.
pub(crate) fn default_of(objects: Vec<Value>, annotations: &[&str]) -> Option<String> {
    let marked = |o: &Value| {
        annotations
            .iter()
            .any(|a| o["metadata"]["annotations"][*a] == "true")
    };
    let newest = |x: &&Value, y: &&Value| {
        let time = |o: &Value| str_at(o, "metadata.creationTimestamp").to_string();
        time(x).cmp(&time(y)).then_with(|| name(y).cmp(name(x)))
    };
    let found = objects.iter().filter(|o| marked(o)).max_by(newest)?;
    Some(name(found).to_string())
}
