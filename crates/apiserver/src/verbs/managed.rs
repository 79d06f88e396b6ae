//! `metadata.managedFields` of every write, and the apply patch.
//! Upstream: handlers/fieldmanager; api-semantics §9.

use machinery::apply::scale::{SCALE_VERSION, ScaleHandler};
use machinery::apply::{self, FieldSet, Request, TypeRef, Version, types};
use machinery::object::{at, list_at, remove, set};
use machinery::{ApiError, Descriptor, SubresourceKind};
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
    let other = |version: &str| other_version(call, version, sub);
    f(&Request {
        t: type_of(d),
        api_version: &d.api_version(),
        kind: &d.kind,
        manager: &call.field_manager(),
        subresource: sub,
        now: &timestamp(call.now),
        reset: &reset,
        version: &other,
    })
}

/// What another version is that a manager wrote in.
fn other_version<'a>(call: &'a Call, api_version: &str, sub: &str) -> Version<'a> {
    let d = call.descriptor();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let strategy = &d.strategy;
    if strategy.is_custom() {
        return match strategy
            .apply_model_of(version, sub)
            .filter(|_| group == d.group)
        {
            Some((model, reset)) => {
                Version::Known(TypeRef::Custom(model), FieldSet::dotted(&reset))
            }
            None => Version::Invalid(format!(
                "request to convert CR to an invalid group/version: {api_version}"
            )),
        };
    }
    let served = call.server.registry.find(group, version, &d.resource);
    match served.filter(|_| group == d.group) {
        Some(_) => Version::Known(type_of(d), FieldSet::dotted(&strategy.reset_fields(sub))),
        None => Version::Gone,
    }
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
    let done = with(call, sub, |r| apply::apply(before, config, force, r))?;
    let mut new = done.object;
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
    crate::decode::applied(call, &mut new)?;
    // What is as it was has the defaults of the version that it is stored in, and no others.
    if done.changed && call.is_custom() {
        call.descriptor().strategy.fill_defaults(&mut new);
    }
    Ok(new)
}

/// Changes the Scale of an object by `make`, which is told of the call and gives the new Scale with its managed
/// fields; what the object's managed fields become is the second of what this gives.
pub fn scale(
    call: &Call,
    before: &Value,
    mut old: Value,
    make: impl FnOnce(&Value, &Request<'_>) -> Result<Value, ApiError>,
) -> Result<(Value, Vec<Value>), ApiError> {
    let d = call.descriptor();
    let path_of = |version: &str| {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let served = &call.server.registry;
        let served = served.find(group, version, &d.resource);
        let served = served.filter(|_| group == d.group)?;
        let scale = |s: &machinery::Subresource| match &s.kind {
            SubresourceKind::Scale { spec, .. } => Some(spec.to_string()),
            _ => None,
        };
        let mut all = served.descriptor.subresources.iter();
        Some(all.find_map(scale).unwrap_or_default())
    };
    let handler = ScaleHandler::new(list_at(before, "metadata.managedFields"), &path_of);
    let entries = handler.to_scale();
    if !entries.is_empty() {
        set(&mut old, "metadata.managedFields", json!(entries));
    }
    let new = make(
        &old,
        &Request {
            t: types::built_in("autoscaling", "v1", "Scale"),
            api_version: SCALE_VERSION,
            kind: "Scale",
            manager: &call.field_manager(),
            subresource: "scale",
            now: &timestamp(call.now),
            reset: &FieldSet::default(),
            version: &|_| Version::Gone,
        },
    )?;
    let owners = list_at(&new, "metadata.managedFields");
    let owners = handler.to_parent(owners, &d.api_version());
    Ok((new, owners))
}

/// Puts managed fields into an object.
pub fn put(obj: &mut Value, owners: &[Value]) {
    if owners.is_empty() {
        remove(obj, "metadata.managedFields");
    } else {
        set(obj, "metadata.managedFields", json!(owners));
    }
}

/// Where nothing but the times of managed fields differs, the old times stay: nothing is written. So it is with what a
/// Scale brings too, whose new owners have no time at all.
pub fn keep_times(obj: &mut Value, before: &Value) {
    let old = list_at(before, "metadata.managedFields");
    if !apply::times_only(list_at(obj, "metadata.managedFields"), old) {
        return;
    }
    let new = remove(obj, "metadata.managedFields");
    set(obj, "metadata.managedFields", json!(old));
    if let Some(new) = new
        && *obj != *before
    {
        set(obj, "metadata.managedFields", new);
    }
}
