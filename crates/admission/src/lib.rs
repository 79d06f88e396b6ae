//! Admission plugins, one file each. The order of `chain` is the order in which they are asked, and it is
//! upstream's. Upstream: plugin/pkg/admission, pkg/kubeapiserver/options/plugins.go.

#![forbid(unsafe_code)]

use std::sync::{Arc, OnceLock};

use ::webhook::Caller;
use api::core::v1::Namespace;
use client::{Cache, Client, Reads};
use machinery::GroupResource;
use machinery::request::{Admission, Authorizer};

mod certificates;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod hooks;
mod limit_ranger;
pub mod limits;
mod metrics;
mod mutating_admission_policy;
mod mutating_admission_webhook;
mod namespace_lifecycle;
mod node_declared_feature_validator;
mod node_restriction;
mod param_access;
mod persistent_volume_claim_resize;
mod pod_requests;
mod pod_resize_validator;
mod pod_security;
mod pod_topology_labels;
mod policies;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
#[doc(hidden)]
pub mod untrusted;
mod validating_admission_policy;
mod validating_admission_webhook;

pub use hooks::conditions;
pub use param_access::ParamAccess;
pub use policies::Expressions;

/// What plugins look at.
#[derive(Clone)]
pub struct Context {
    pub reads: Arc<dyn Reads>,
    pub authorizer: Arc<dyn Authorizer>,
    /// For the status of quotas. Empty until the server that the plugins belong to can be written to.
    pub writer: Arc<OnceLock<Client>>,
    /// Calls webhooks.
    pub webhooks: Caller,
    /// Compiles the match conditions of webhooks; without one they fail as their failurePolicy says.
    pub conditions: Option<Arc<dyn conditions::Compiler>>,
}

impl Context {
    /// The cache of a resource, if it is served.
    fn cache(&self, group: &'static str, resource: &'static str) -> Option<Arc<dyn Cache>> {
        self.reads.cache(&GroupResource::new(group, resource))
    }

    /// One object from the caches.
    fn get(
        &self,
        group: &'static str,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Option<serde_json::Value> {
        let entry = self.cache(group, resource)?.get(namespace, name)?;
        parsed(&entry)
    }

    /// A namespace, typed; parsed once and shared by all readers.
    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        let entry = self.cache("", "namespaces")?.get("", name)?;
        client::lister::typed(&entry)
    }

    /// All objects of a resource, or those of a namespace.
    fn list(
        &self,
        group: &'static str,
        resource: &'static str,
        namespace: Option<&str>,
    ) -> Vec<serde_json::Value> {
        let Some(cache) = self.cache(group, resource) else {
            return Vec::new();
        };
        cache
            .list(namespace)
            .iter()
            .filter_map(|e| parsed(e))
            .collect()
    }
}

fn parsed(entry: &client::Entry) -> Option<serde_json::Value> {
    match entry.value() {
        Ok(v) => Some(v),
        Err(error) => {
            tracing::error!(object = %entry.key(), %error, "stored object does not parse");
            None
        }
    }
}

/// All plugins, in order.
pub fn chain(context: &Context) -> Vec<Arc<dyn Admission>> {
    let c = || context.clone();
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle(c())),
        Arc::new(limit_ranger::LimitRanger(c())),
        Arc::new(service_account::ServiceAccount(c())),
        Arc::new(node_restriction::NodeRestriction(c())),
        Arc::new(taint_nodes_by_condition::TaintNodesByCondition),
        Arc::new(pod_security::PodSecurity(c())),
        Arc::new(priority::Priority(c())),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(default_storage_class::DefaultStorageClass(c())),
        Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Arc::new(persistent_volume_claim_resize::PersistentVolumeClaimResize(
            c(),
        )),
        Arc::new(runtime_class::RuntimeClass(c())),
        Arc::new(certificates::CertificateApproval(c())),
        Arc::new(certificates::CertificateSigning(c())),
        Arc::new(certificates::ClusterTrustBundleAttest(c())),
        Arc::new(certificates::CertificateSubjectRestriction),
        Arc::new(default_ingress_class::DefaultIngressClass(c())),
        Arc::new(pod_topology_labels::PodTopologyLabels(c())),
        Arc::new(node_declared_feature_validator::NodeDeclaredFeatureValidator(c())),
        Arc::new(pod_resize_validator::PodResizeValidator(c())),
        Arc::new(mutating_admission_policy::MutatingAdmissionPolicy::new(c())),
        Arc::new(mutating_admission_webhook::MutatingAdmissionWebhook(c())),
        Arc::new(validating_admission_policy::ValidatingAdmissionPolicy::new(
            c(),
        )),
        Arc::new(validating_admission_webhook::ValidatingAdmissionWebhook(c())),
        Arc::new(resource_quota::ResourceQuota::new(c())),
    ]
}

#[cfg(test)]
mod tests;
