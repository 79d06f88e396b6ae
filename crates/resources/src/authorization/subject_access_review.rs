//! SubjectAccessReview. Upstream: pkg/registry/authorization/subjectaccessreview.

use machinery::{Descriptor, Scope};

use crate::review;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    review::descriptor(
        "authorization.k8s.io",
        "SubjectAccessReview",
        "subjectaccessreviews",
        Scope::Cluster,
    )
}
