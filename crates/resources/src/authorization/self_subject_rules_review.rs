//! SelfSubjectRulesReview. Upstream: pkg/registry/authorization/selfsubjectrulesreview.

use machinery::{Descriptor, Scope};

use crate::review;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    review::descriptor(
        "authorization.k8s.io",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        Scope::Cluster,
    )
}
