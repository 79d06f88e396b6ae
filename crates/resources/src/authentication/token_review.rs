//! TokenReview. Upstream: pkg/registry/authentication/tokenreview.

use machinery::{Descriptor, Scope};

use crate::review;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    review::descriptor(
        "authentication.k8s.io",
        "TokenReview",
        "tokenreviews",
        Scope::Cluster,
    )
}
