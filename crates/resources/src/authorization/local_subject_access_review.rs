//! LocalSubjectAccessReview. Upstream: pkg/registry/authorization/localsubjectaccessreview.

use machinery::{Descriptor, Scope};

use crate::review;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    review::descriptor(
        "authorization.k8s.io",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        Scope::Namespaced,
    )
}
