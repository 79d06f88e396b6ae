//! NamespaceLifecycle: nothing new in a namespace that is going or is not there; the system's own
//! namespaces stay. Upstream: k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle.

use std::sync::Arc;

use api::core::v1::Namespace;
use async_trait::async_trait;
use machinery::ApiError;
use machinery::error::StatusCause;
use machinery::request::{Admission, Attempt, Operation, Steps};

use crate::{Context, limits};

/// Namespaces that may not be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle(pub Context);

impl NamespaceLifecycle {
    async fn namespace(&self, name: &str) -> Result<Arc<Namespace>, ApiError> {
        if let Some(found) = self.0.namespace(name) {
            return Ok(found);
        }
        tokio::time::sleep(limits::NAMESPACE_WAIT).await;
        self.0
            .namespace(name)
            .ok_or_else(|| ApiError::not_found("", "namespaces", name))
    }
}

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Delete)
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if a.operation == Operation::Delete {
            if a.is("", "namespaces") && IMMORTAL.contains(&a.name) {
                return Err(a.forbidden("this namespace may not be deleted"));
            }
            return Ok(());
        }
        let review = a.descriptor.resource == "localsubjectaccessreviews";
        if a.namespace.is_empty() || !a.descriptor.namespaced() || review {
            return Ok(());
        }
        let namespace = self.namespace(a.namespace).await?;
        let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
        let going = phase == Some("Terminating") || namespace.metadata.deletion_timestamp.is_some();
        if !going {
            return Ok(());
        }
        let n = a.namespace;
        let mut e = a.forbidden(&format!(
            "unable to create new content in namespace {n} because it is being terminated"
        ));
        if let Some(details) = &mut e.details {
            details.causes.push(StatusCause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {n} is being terminated"),
                field: "metadata.namespace".into(),
            });
        }
        Err(e)
    }
}
