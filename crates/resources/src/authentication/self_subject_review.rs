//! SelfSubjectReview. Upstream: pkg/registry/authentication/selfsubjectreview.

use machinery::{Descriptor, Scope};

use crate::review;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    review::descriptor(
        "authentication.k8s.io",
        "SelfSubjectReview",
        "selfsubjectreviews",
        Scope::Cluster,
    )
}
