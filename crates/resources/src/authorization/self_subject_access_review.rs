//! SelfSubjectAccessReview. Upstream: pkg/registry/authorization/selfsubjectaccessreview.

use machinery::{Descriptor, Scope};

use crate::review;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    review::descriptor(
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        Scope::Cluster,
    )
}
