//! Binding: the old way to bind a pod, answered as `pods/binding`. Upstream: LegacyBindingREST.

use machinery::{Descriptor, Scope};

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    crate::review::descriptor("", "Binding", "bindings", Scope::Namespaced)
}
