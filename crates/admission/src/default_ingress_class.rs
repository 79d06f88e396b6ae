//! DefaultIngressClass: ingresses that name no class get the default one.
//! Upstream: plugin/pkg/admission/network/defaultingressclass.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, set};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::json;

use crate::Context;
use crate::default_storage_class::default_of;

pub struct DefaultIngressClass(pub Context);

#[async_trait]
impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if !a.is("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let Some(ingress) = &mut a.object else {
            return Ok(());
        };
        let named = at(ingress, "spec.ingressClassName").is_some()
            || ingress["metadata"]["annotations"]
                .get("kubernetes.io/ingress.class")
                .is_some();
        if named {
            return Ok(());
        }
        let classes = self.0.list("networking.k8s.io", "ingressclasses", None);
        let annotation = "ingressclass.kubernetes.io/is-default-class";
        if let Some(class) = default_of(classes, &[annotation]) {
            set(ingress, "spec.ingressClassName", json!(class));
        }
        Ok(())
    }
}
