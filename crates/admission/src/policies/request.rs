//! What expressions of policies see of a write. Upstream: plugin/cel/condition.go, CreateAdmissionRequest.

use std::sync::Arc;

use celenv::admission::{Activation, Inputs};
use celenv::library::{Immediate, Subject};
use machinery::Descriptor;
use machinery::request::{Attempt, GroupVersionKind};
use serde_json::{Value, json};

use super::selection::operation;
use crate::Context;
use crate::hooks::{Invocation, View};

/// A write as expressions see it, converted once.
pub struct Seen(pub Activation);

impl Seen {
    /// A write as a policy selects it: in the version that its rules name.
    pub fn new(a: &Attempt<'_>, view: &View, i: &Invocation, context: &Context) -> Self {
        let of_namespace = a.descriptor.group.is_empty() && a.descriptor.resource == "namespaces";
        let namespace = match a.namespace {
            "" => None,
            _ if of_namespace => None,
            name => context.get("", "namespaces", "", name),
        };
        Self(Activation::new(&Inputs {
            object: view.object(a),
            old_object: view.before(a),
            namespace: namespace.as_ref(),
            request: &request(a, i),
            subject: Some(Subject {
                user: a.user.clone(),
                checks: Arc::new(Immediate(context.authorizer.clone())),
            }),
        }))
    }
}

/// An AdmissionRequest without objects. What is empty and may be left out is.
fn request(a: &Attempt<'_>, i: &Invocation) -> Value {
    let kind =
        |k: &GroupVersionKind| json!({"group": k.group, "version": k.version, "kind": k.kind});
    let resource =
        |d: &Descriptor| json!({"group": d.group, "version": d.version, "resource": d.resource});
    let shown = resource(i.version.as_deref().unwrap_or(a.descriptor));
    let mut user = json!({"username": a.user.name, "groups": a.user.groups});
    if !a.user.uid.is_empty() {
        user["uid"] = json!(a.user.uid);
    }
    if !a.user.extra.is_empty() {
        user["extra"] = json!(a.user.extra);
    }
    let mut out = json!({"kind": kind(&i.kind), "resource": shown, "requestKind": kind(&a.kind()),
        "requestResource": resource(a.descriptor), "operation": operation(a.operation), "userInfo": user,
        "dryRun": a.dry_run});
    for (field, text) in [
        ("subResource", a.subresource),
        ("requestSubResource", a.subresource),
        ("name", a.name),
        ("namespace", a.namespace),
    ] {
        if !text.is_empty() {
            out[field] = json!(text);
        }
    }
    if !a.options.is_null() {
        out["options"] = a.options.clone();
    }
    out
}
