//! DELETE and DELETECOLLECTION. Upstream: registry/generic/registry/store.go; api-semantics §5.6.

use api::schema;
use bytes::Bytes;
use client::Cache;
use machinery::object::{at, i64_at, is_deleting, list_at, set, str_at};
use machinery::request::Operation;
use machinery::{ApiError, Causes, conform};
use serde_json::{Value, json};
use store::WriteError;

use super::update::is_finished;
use super::write::{self, Target};
use crate::call::{Call, check_dry_run, refuse};
use crate::decode;
use crate::filter::Filter;
use crate::limits;
use crate::negotiate;
use crate::registry::storage_key;
use crate::response::{self, Answer};

/// The option that asks for the deletion of what cannot be read.
const UNREADABLE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

/// How a deletion treats dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// DeleteOptions, checked.
#[derive(Clone, Debug, Default)]
struct Options {
    grace: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    propagation: Option<Propagation>,
    dry_run: bool,
    /// Only what cannot be read is to be deleted.
    unreadable: bool,
    /// Nothing was asked for and the kind orphans what depends on it, unless the object's own
    /// finalizers say otherwise.
    orphan_by_default: bool,
    object: Value,
}

/// What a deletion came to.
enum Deleted {
    /// Gone: its last state.
    Gone(Value),
    /// Marked; finalizers or its grace period hold it.
    Marked(Value),
}

/// Deletes the object that the call names.
pub async fn delete(call: &Call, body: &Bytes) -> Result<Answer, ApiError> {
    let options = options(call, body)?;
    if options.unreadable {
        return super::unsafe_delete::delete(call, options.dry_run).await;
    }
    let namespace = call.info.namespace_of(call.descriptor());
    match one(call, &options, &namespace, &call.info.name).await? {
        Deleted::Marked(value) => {
            // Who asks for cascading in the old way is told that it is not done yet.
            let cascades = at(&options.object, "orphanDependents") == Some(&json!(false));
            super::get::object(call, if cascades { 202 } else { 200 }, value)
        }
        Deleted::Gone(value) if call.descriptor().strategy.returns_deleted() => {
            super::get::object(call, 200, value)
        }
        Deleted::Gone(value) => {
            let d = call.descriptor();
            let mut details = json!({
                "name": call.info.name, "kind": d.resource, "uid": str_at(&value, "metadata.uid")});
            if !d.group.is_empty() {
                details["group"] = json!(d.group);
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details});
            Ok(response::value(200, &status, &call.format))
        }
    }
}

/// Deletes everything that matches the selectors; answers with the list of what was there.
pub async fn collection(call: &Call, body: &Bytes) -> Result<Answer, ApiError> {
    let filter = Filter::of(call)?;
    let options = options(call, body)?;
    if options.unreadable {
        let mut causes = Causes::new();
        let why = "is not allowed with DELETECOLLECTION, try again after removing the option";
        causes.at(UNREADABLE, |c| c.invalid(&json!(true), why));
        refuse("DeleteOptions", &causes)?;
    }
    let (entries, revision) = call.cache()?.snapshot(filter.namespace.as_deref());
    let shown = call.selectable(&entries, &filter).await?;
    let meant = entries.iter().enumerate();
    let meant = meant.filter(|(i, e)| filter.matches(shown.selected(*i, e)));
    let mut items = Vec::new();
    for (_, e) in meant {
        match one(call, &options, &e.namespace, &e.name).await {
            // As it was listed, whatever became of it.
            Ok(_) => items.push(call.view(e).await?),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    let d = call.descriptor();
    let mut list = json!({
        "kind": d.list_kind, "apiVersion": d.api_version(),
        "metadata": {"resourceVersion": revision.to_string()}, "items": items});
    if call.is_custom() {
        list["metadata"]["continue"] = json!("");
    }
    Ok(response::value(200, &list, &call.format))
}

fn options(call: &Call, body: &Bytes) -> Result<Options, ApiError> {
    let mut object = if body.is_empty() {
        json!({})
    } else {
        let media = negotiate::request(&call.headers, true, call.server.serves_cbor())?;
        decode::object(body, media, "DeleteOptions")?
    };
    let kind = str_at(&object, "kind");
    if !["", "DeleteOptions"].contains(&kind) {
        return Err(ApiError::bad_request(format!(
            "no kind \"{kind}\" is registered for version \"{}\" in scheme \"pkg/runtime/scheme.go:111\"",
            str_at(&object, "apiVersion")
        )));
    }
    // An option that is not understood must not be passed over: the object would be gone.
    if let Some(schema) = schema::lookup("meta.k8s.io", "v1", "DeleteOptions") {
        conform::conform(schema, &mut object).map_err(ApiError::bad_request)?;
    }
    if body.is_empty() {
        from_query(call, &mut object)?;
    }
    // As admission plugins see it.
    set(&mut object, "kind", json!("DeleteOptions"));
    set(&mut object, "apiVersion", json!("meta.k8s.io/v1"));
    check(&object)?;
    let orphan = at(&object, "orphanDependents").and_then(Value::as_bool);
    let propagation = match (str_at(&object, "propagationPolicy"), orphan) {
        ("Foreground", _) => Some(Propagation::Foreground),
        ("Orphan", _) | ("", Some(true)) => Some(Propagation::Orphan),
        ("Background", _) | ("", Some(false)) => Some(Propagation::Background),
        _ => None,
    };
    let dry_run = list_at(&object, "dryRun").iter().any(|v| v == "All");
    let text = |path: &str| {
        at(&object, path)
            .and_then(Value::as_str)
            .map(str::to_string)
    };
    let strategy = &call.descriptor().strategy;
    if propagation.is_none() {
        strategy
            .delete_warnings()
            .into_iter()
            .for_each(|w| call.warn(w));
    }
    Ok(Options {
        orphan_by_default: propagation.is_none() && strategy.orphans_by_default(),
        grace: i64_at(&object, "gracePeriodSeconds"),
        uid: text("preconditions.uid"),
        version: text("preconditions.resourceVersion"),
        propagation,
        dry_run,
        unreadable: at(&object, UNREADABLE) == Some(&json!(true)),
        object,
    })
}

/// Options of a query count where there is no body.
fn from_query(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    if let Some(seconds) = call.query.integer("gracePeriodSeconds")? {
        set(object, "gracePeriodSeconds", json!(seconds));
    }
    if let Some(policy) = call.query.get("propagationPolicy") {
        set(object, "propagationPolicy", json!(policy));
    }
    if call.query.get("orphanDependents").is_some() {
        let orphan = call.query.flag("orphanDependents");
        set(object, "orphanDependents", json!(orphan));
    }
    if call.query.flag(UNREADABLE) {
        set(object, UNREADABLE, json!(true));
    }
    let dry: Vec<&str> = call.query.all("dryRun").collect();
    if !dry.is_empty() {
        set(object, "dryRun", json!(dry));
    }
    Ok(())
}

/// Upstream: metav1 validation of DeleteOptions.
fn check(object: &Value) -> Result<(), ApiError> {
    let mut causes = Causes::new();
    if let Some(policy) = at(object, "propagationPolicy").filter(|p| !p.is_null()) {
        causes.at("propagationPolicy", |c| {
            if at(object, "orphanDependents").is_some_and(|o| !o.is_null()) {
                c.invalid(
                    policy,
                    "orphanDependents and deletionPropagation cannot be both set",
                );
            }
            let known = ["Foreground", "Background", "Orphan"];
            if !policy.as_str().is_some_and(|p| known.contains(&p)) {
                let shown = ["Foreground", "Background", "Orphan", "nil"];
                c.not_supported_in_order(policy, &shown);
            }
        });
    }
    let dry = list_at(object, "dryRun").iter().filter_map(Value::as_str);
    check_dry_run(&dry.collect::<Vec<_>>(), &mut causes);
    if at(object, UNREADABLE) == Some(&json!(true)) {
        let others = [
            "propagationPolicy",
            "orphanDependents",
            "gracePeriodSeconds",
            "preconditions",
        ];
        for other in others {
            if at(object, other).is_some_and(|v| !v.is_null()) {
                let why = format!("cannot be set together with .{other}");
                causes.at(UNREADABLE, |c| c.invalid(&json!(true), why));
            }
        }
    }
    refuse("DeleteOptions", &causes)
}

async fn one(call: &Call, o: &Options, namespace: &str, name: &str) -> Result<Deleted, ApiError> {
    let cache = call.cache()?.clone();
    let d = call.descriptor();
    for tried in 1.. {
        let entry = cache
            .get(namespace, name)
            .ok_or_else(|| call.not_found(name))?;
        let before = call.view(&entry).await?;
        preconditions(call, o, &before, name)?;
        let target = Target {
            operation: Operation::Delete,
            subresource: "",
            namespace,
            name,
            dry_run: o.dry_run,
            options: o.object.clone(),
        };
        write::mutate(call, &target, None, Some(&before)).await?;
        write::validate(call, &target, None, Some(&before)).await?;
        let mut obj = before.clone();
        let changed = mark(call, o, &mut obj);
        let finished = is_finished(d, &obj);
        if o.dry_run || (!finished && !changed) {
            return Ok(if finished {
                Deleted::Gone(obj)
            } else {
                Deleted::Marked(obj)
            });
        }
        let key = storage_key(d, namespace, name);
        let written = if finished {
            call.server.store.delete(key.into(), entry.revision).await
        } else {
            call.server
                .store
                .update(
                    key.into(),
                    write::encode(call, &mut obj).await?,
                    entry.revision,
                    0,
                )
                .await
        };
        match written {
            Ok(revision) => {
                write::visible(call, &mut obj, revision).await?;
                if !finished {
                    return Ok(Deleted::Marked(obj));
                }
                release(call, &obj).await;
                return Ok(Deleted::Gone(before));
            }
            Err(WriteError::Conflict(None)) => return Err(call.not_found(name)),
            Err(WriteError::Conflict(Some(_))) if tried < limits::CONFLICT_TRIES => {
                let newest = call
                    .server
                    .store
                    .revision()
                    .await
                    .map_err(write::store_error)?;
                cache.wait_for(newest).await;
            }
            Err(WriteError::Conflict(Some(_))) => {
                return Err(ApiError::modified(&d.group, &d.resource, name));
            }
            Err(WriteError::Store(e)) => return Err(write::store_error(e)),
        }
    }
    Err(ApiError::internal("no deletion was tried"))
}

fn preconditions(call: &Call, o: &Options, before: &Value, name: &str) -> Result<(), ApiError> {
    let d = call.descriptor();
    let checks = [
        (
            "UID",
            &o.uid,
            str_at(before, "metadata.uid"),
            "deleted and then recreated",
        ),
        (
            "ResourceVersion",
            &o.version,
            str_at(before, "metadata.resourceVersion"),
            "modified",
        ),
    ];
    for (what, asked, is, happened) in checks {
        if let Some(asked) = asked
            && asked != is
        {
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({is}). The object might have been {happened}"
            );
            // The only conflict that names the kind instead of the resource.
            return Err(ApiError::conflict(&d.group, &d.kind, name, &why));
        }
    }
    Ok(())
}

/// Marks an object as being deleted as the options ask; tells whether that changed it.
fn mark(call: &Call, o: &Options, obj: &mut Value) -> bool {
    let strategy = &call.descriptor().strategy;
    let before = obj.clone();
    finalizers(o, obj);
    let mut grace = strategy.grace_seconds(obj, o.grace).unwrap_or(0).max(0);
    if is_deleting(obj) {
        // A running grace period can only become shorter.
        let running = i64_at(obj, "metadata.deletionGracePeriodSeconds").unwrap_or(0);
        if o.grace.is_none() || grace >= running {
            return *obj != before;
        }
        let begun = str_at(obj, "metadata.deletionTimestamp").parse::<jiff::Timestamp>();
        let begun = begun.map_or(call.now.as_second(), |t| t.as_second()) - running;
        grace = grace.max(0);
        set_deletion(obj, begun + grace, grace);
    } else {
        set_deletion(obj, call.now.as_second() + grace, grace);
        // Upstream marks definitions by itself, and counts no generation.
        if strategy.has_generation() && call.descriptor().group != crate::crd::GROUP {
            let n = i64_at(obj, "metadata.generation").unwrap_or(0);
            set(obj, "metadata.generation", json!(n + 1));
        }
        strategy.mark_deleting(obj);
    }
    *obj != before
}

fn set_deletion(obj: &mut Value, at_second: i64, grace: i64) {
    let time = jiff::Timestamp::from_second(at_second).unwrap_or_default();
    set(obj, "metadata.deletionTimestamp", json!(time.to_string()));
    set(obj, "metadata.deletionGracePeriodSeconds", json!(grace));
}

/// Adds or removes the garbage collector's finalizers.
fn finalizers(o: &Options, obj: &mut Value) {
    let said = list_at(obj, "metadata.finalizers")
        .iter()
        .any(|f| f == "orphan" || f == "foregroundDeletion");
    let by_default = (o.orphan_by_default && !said).then_some(Propagation::Orphan);
    let Some(propagation) = o.propagation.or(by_default) else {
        return;
    };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some("foregroundDeletion"),
        Propagation::Orphan => Some("orphan"),
    };
    let mut list: Vec<Value> = list_at(obj, "metadata.finalizers")
        .iter()
        .filter(|f| *f != "orphan" && *f != "foregroundDeletion")
        .cloned()
        .collect();
    list.extend(wanted.map(|w| json!(w)));
    if list.is_empty() {
        machinery::object::remove(obj, "metadata.finalizers");
    } else {
        set(obj, "metadata.finalizers", json!(list));
    }
}

/// Gives back what a deleted object held outside itself.
pub async fn release(call: &Call, obj: &Value) {
    for allocator in &call.descriptor().allocators {
        allocator.release(obj).await;
    }
}
