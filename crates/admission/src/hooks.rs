//! What the two webhook plugins share: configurations, which webhooks a write concerns, the call.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook.

mod call;
pub mod conditions;
mod configuration;
mod matching;
pub mod review;
mod view;

pub use call::{Failure, Said, call, failed_open, internal};
pub use configuration::{Configuration, Hook};
pub use matching::{Invocation, invocation, operation};
pub use view::View;

use std::sync::Arc;

use machinery::request::Attempt;

use crate::Context;

/// Kinds that no webhook sees: a broken one could not be mended otherwise.
const EXEMPT_KINDS: &[&str] = &[
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

/// Kinds that are questions and not objects (upstream's ExcludeAdmissionWebhookVirtualResources, on in 1.37).
const VIRTUAL: &[(&str, &str)] = &[
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];

/// Whether no webhook is asked about a write.
pub fn is_exempt(a: &Attempt<'_>) -> bool {
    let d = a.descriptor;
    let kind = EXEMPT_KINDS.contains(&&*d.kind) && d.group == "admissionregistration.k8s.io";
    kind || VIRTUAL
        .iter()
        .any(|(g, r)| d.group == *g && d.resource == *r)
}

/// All configurations of a resource, by name. Each is read once a change.
pub fn configurations(context: &Context, resource: &'static str) -> Vec<Arc<Configuration>> {
    let Some(cache) = context.cache("admissionregistration.k8s.io", resource) else {
        return Vec::new();
    };
    let read = |entry: &Arc<client::Entry>| match entry.typed::<Configuration>() {
        Ok(c) => Some(c),
        Err(error) => {
            tracing::error!(object = %entry.key(), %error, "webhook configuration does not parse");
            None
        }
    };
    cache.list(None).iter().filter_map(read).collect()
}
