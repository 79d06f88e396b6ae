//! `metadata.managedFields` of every write, and the apply patch.
//! Upstream: handlers/fieldmanager; api-semantics §9.

use machinery::apply::{self, FieldSet, Request, TypeRef, types};
use machinery::object::{at, list_at, set};
use machinery::{ApiError, Descriptor};
use serde_json::{Value, json};

use super::write::timestamp;
use crate::call::Call;

fn type_of(d: &Descriptor) -> TypeRef<'_> {
    match d.strategy.apply_model() {
        Some(model) => TypeRef::Custom(model),
        None => types::built_in(&d.group, &d.version, &d.kind),
    }
}

/// Runs `f` with what apply must know of a call.
fn with<R>(call: &Call, sub: &str, f: impl FnOnce(&Request<'_>) -> R) -> R {
    let d = call.descriptor();
    let reset = FieldSet::dotted(&d.strategy.reset_fields(sub));
    let known = |version: &str| {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let registry = &call.server.registry;
        group == d.group && registry.find(group, version, &d.resource).is_some()
    };
    f(&Request {
        t: type_of(d),
        api_version: &d.api_version(),
        kind: &d.kind,
        manager: &call.field_manager(),
        subresource: sub,
        now: &timestamp(call.now),
        reset: &reset,
        known: &known,
    })
}

/// Records who owns what after a create, update or patch.
pub fn track(call: &Call, before: Option<&Value>, obj: &mut Value, sub: &str) {
    with(call, sub, |r| apply::track(before, obj, r));
}

/// What an object becomes by an applied configuration.
pub fn apply(
    call: &Call,
    before: Option<&Value>,
    config: &Value,
    force: bool,
    sub: &str,
) -> Result<Value, ApiError> {
    let mut new = with(call, sub, |r| apply::apply(before, config, force, r))?;
    // The stored values of what nobody applies: metadata that the server owns.
    if let Some(before) = before {
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
            let path = format!("metadata.{field}");
            if at(&new, &path).is_none()
                && let Some(v) = at(before, &path)
            {
                set(&mut new, &path, v.clone());
            }
        }
    }
    crate::decode::conformed(call, &mut new)?;
    Ok(new)
}

/// Where nothing but the times of managed fields differs, the old times stay: nothing is written.
pub fn keep_times(obj: &mut Value, before: &Value) {
    let old = list_at(before, "metadata.managedFields");
    if !apply::times_only(list_at(obj, "metadata.managedFields"), old) {
        return;
    }
    let mut same = obj.clone();
    set(&mut same, "metadata.managedFields", json!(old));
    if same == *before {
        *obj = same;
    }
}
