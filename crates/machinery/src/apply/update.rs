//! Writes and their owners: what an update takes over, what an apply sets, shares, takes or removes.
//! Upstream: structured-merge-diff/merge/update.go, managedfields/internal.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::compare::{Comparison, compare, equal};
use super::field_set::{field_set, named_fields};
use super::fields::{FieldSet, path_text};
use super::last_applied;
use super::managers::{Entry, Id, Managers, cap, decode, encode};
use super::types::TypeRef;
use super::{merge::merge, remove::remove, validate};
use crate::error::{ApiError, StatusCause};
use crate::object::{list_at, remove as take, set, str_at};

/// Whose fields those are that were there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that nobody owns: the server writes them, or they name the object.
const UNOWNED: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "metadata.clusterName",
    "metadata.creationTimestamp",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.name",
    "metadata.namespace",
    "metadata.resourceVersion",
    "metadata.selfLink",
    "metadata.uid",
];

fn unowned() -> &'static FieldSet {
    static SET: OnceLock<FieldSet> = OnceLock::new();
    SET.get_or_init(|| FieldSet::dotted(UNOWNED))
}

/// One write.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub t: TypeRef<'a>,
    /// `apps/v1`, the endpoint's.
    pub api_version: &'a str,
    pub kind: &'a str,
    pub manager: &'a str,
    /// `""` for the main resource.
    pub subresource: &'a str,
    /// RFC 3339, whole seconds.
    pub now: &'a str,
    /// Fields that this endpoint does not write.
    pub reset: &'a FieldSet,
    /// Whether a version is still served; others' entries are dropped.
    pub known: &'a dyn Fn(&str) -> bool,
    /// What another version's schema says against an object, where it cannot take it.
    pub misfit: &'a dyn Fn(&str, &Value) -> Option<String>,
}

/// Fields that others own and would lose.
type Conflicts = Vec<(Id, FieldSet)>;

fn managed_of(obj: &Value) -> Managers {
    decode(list_at(obj, "metadata.managedFields")).unwrap_or_default()
}

/// The managers that a written object begins with.
fn base(live: Option<&Value>, new: &Value, r: &Request<'_>) -> Managers {
    let of_live = || live.map(managed_of).unwrap_or_default();
    // Of custom resources nobody ever sees an empty list.
    let custom = matches!(r.t, TypeRef::Custom(_));
    if !r.subresource.is_empty() {
        return of_live();
    }
    match new.get("metadata").and_then(|m| m.get("managedFields")) {
        Some(Value::Array(list)) => {
            let blank = |e: &Value| {
                e.as_object()
                    .is_some_and(|m| m.values().all(Value::is_null))
            };
            if (list.is_empty() && !custom) || (list.len() == 1 && blank(&list[0])) {
                return Managers::new();
            }
            match decode(list) {
                Ok(managers) if !managers.is_empty() => managers,
                _ => of_live(),
            }
        }
        _ => of_live(),
    }
}

fn without_managed(obj: &Value) -> Value {
    let mut out = obj.clone();
    take(&mut out, "metadata.managedFields");
    out
}

fn store_managers(obj: &mut Value, managers: &Managers) {
    if managers.is_empty() {
        take(obj, "metadata.managedFields");
    } else {
        set(obj, "metadata.managedFields", json!(encode(managers)));
    }
}

/// Whether an entry is of a version that is unknown.
fn is_foreign(managers: &Managers, r: &Request<'_>) -> bool {
    managers.values().any(|e| !(r.known)(&e.version))
}

/// Records in `new` who owns what after a create (`live` is `None`), update or patch.
pub fn track(live: Option<&Value>, new: &mut Value, r: &Request<'_>) {
    let mut managers = base(live, new, r);
    if matches!(r.t, TypeRef::Custom(_)) && is_foreign(&managers, r) {
        // Upstream cannot convert to such a version, and the owners stay as they were.
        let known = live.map(managed_of).unwrap_or_default();
        if !is_foreign(&known, r) {
            return store_managers(new, &known);
        }
    }
    let exists = live.is_some_and(|l| !str_at(l, "metadata.uid").is_empty());
    if managers.is_empty() && exists {
        take(new, "metadata.managedFields");
        return;
    }
    let empty = json!({});
    let old = live.map(without_managed).unwrap_or(empty);
    let now = without_managed(new);
    let own = Id::updater(r.manager, r.api_version, r.subresource);
    let others = |id: &Id| *id != own;
    if misfit(&managers, &old, r, |_| true).is_some()
        || misfit(&managers, &now, r, others).is_some()
    {
        // Upstream cannot compare the two there, and the owners stay as they were.
        let known = live.map(managed_of).unwrap_or_default();
        return store_managers(new, &known);
    }
    // Built-in objects were checked when they were decoded.
    let typed = matches!(r.t, TypeRef::BuiltIn(_))
        || (validate::validate(r.t, &now, true).is_empty()
            && validate::validate(r.t, &old, true).is_empty());
    if typed {
        took(&mut managers, &own, &old, &now, r);
        cap(&mut managers);
    }
    store_managers(new, &managers);
}

/// Gives what changed between two states to one updater and takes it from all others.
fn took(managers: &mut Managers, own: &Id, old: &Value, new: &Value, r: &Request<'_>) {
    // Forced: an update has no conflicts.
    let Ok(changes) = settle(managers, None, old, new, true, r) else {
        return;
    };
    let mut set = changes.modified.union(&changes.added);
    set = set.without_below(r.reset).minus(unowned());
    if set.is_empty() {
        return;
    }
    if let Some(previous) = managers.get(own) {
        set.add(&previous.set);
    }
    let entry = Entry {
        version: r.api_version.to_string(),
        set,
        time: Some(r.now.to_string()),
    };
    managers.insert(own.clone(), entry);
}

/// Takes changed and removed fields from every manager but `but`; those are conflicts unless forced.
fn settle(
    managers: &mut Managers,
    but: Option<&Id>,
    old: &Value,
    new: &Value,
    force: bool,
    r: &Request<'_>,
) -> Result<Comparison, Conflicts> {
    let changes = compare(r.t, old, new).without(r.reset);
    let taken = changes.modified.union(&changes.added);
    managers.retain(|_, e| (r.known)(&e.version));
    if !force {
        let conflicts: Conflicts = managers
            .iter()
            .filter(|(id, _)| Some(*id) != but)
            .map(|(id, e)| (id.clone(), e.set.both(&taken)))
            .filter(|(_, set)| !set.is_empty())
            .collect();
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    for (id, e) in managers.iter_mut() {
        if Some(id) != but {
            e.set = e.set.minus(&taken).minus(&changes.removed);
        }
    }
    managers.retain(|_, e| !e.set.is_empty());
    Ok(changes)
}

/// `live` (`None` for a create) with a configuration applied: what the object becomes, its
/// `managedFields` included. 400, 409 and 500 as upstream answers.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    force: bool,
    r: &Request<'_>,
) -> Result<Value, ApiError> {
    check_config(config, r)?;
    let empty = json!({});
    let old = live.map(without_managed).unwrap_or(empty.clone());
    if live.is_some() && matches!(r.t, TypeRef::Custom(_)) {
        typed("live", &old, true, r)?;
    }
    let mut managers = live.map(managed_of).unwrap_or_default();
    if managers.is_empty() && live.is_some() {
        let before = Id::updater(BEFORE_FIRST_APPLY, r.api_version, r.subresource);
        took(&mut managers, &before, &empty, &old, r);
    }
    if let Some(why) = unfit(&old, config, &managers, r) {
        return Err(ApiError::new(500, "", why));
    }
    let tried = applied(&old, config, managers.clone(), force, r);
    let (mut new, managers) = match tried {
        Ok(done) => done,
        Err(conflicts) => {
            let covered = last_applied::covered(&old, r);
            let open: Conflicts = conflicts
                .into_iter()
                .map(|(id, set)| (id, set.minus(&covered)))
                .filter(|(_, set)| !set.is_empty())
                .collect();
            if !open.is_empty() {
                return Err(conflict_error(&open));
            }
            applied(&old, config, managers, true, r).map_err(|c| conflict_error(&c))?
        }
    };
    last_applied::refresh(&mut new, config, r);
    store_managers(&mut new, &managers);
    Ok(new)
}

/// What the schema of a manager's version, where that is another, says against an object.
fn misfit(
    managers: &Managers,
    object: &Value,
    r: &Request<'_>,
    counts: impl Fn(&Id) -> bool,
) -> Option<String> {
    let others = managers
        .iter()
        .filter(|(id, e)| e.version != r.api_version && counts(id) && (r.known)(&e.version));
    let mut versions: Vec<&str> = others.map(|(_, e)| e.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    versions.into_iter().find_map(|v| (r.misfit)(v, object))
}

/// Why a configuration cannot be applied where managers have fields of other versions.
fn unfit(old: &Value, config: &Value, managers: &Managers, r: &Request<'_>) -> Option<String> {
    if let Some(why) = misfit(managers, old, r, |_| true) {
        return Some(why);
    }
    let own = Id::applier(r.manager, r.subresource);
    let last = managers.get(&own).filter(|l| !l.set.is_empty());
    let merged = merge(r.t, old, config);
    if let Some(why) = misfit(managers, &merged, r, |id| *id == own && last.is_some()) {
        return Some(format!(
            "failed to prune fields: failed to convert merged object to last applied version: {why}"
        ));
    }
    let why = misfit(managers, &merged, r, |id| *id != own)?;
    Some(format!("failed to convert new object: {why}"))
}

fn applied(
    old: &Value,
    config: &Value,
    mut managers: Managers,
    force: bool,
    r: &Request<'_>,
) -> Result<(Value, Managers), Conflicts> {
    let own = Id::applier(r.manager, r.subresource);
    let merged = merge(r.t, old, config);
    let last = managers.remove(&own);
    let entry = Entry {
        version: r.api_version.to_string(),
        set: field_set(r.t, config).without_below(r.reset),
        time: last.as_ref().and_then(|l| l.time.clone()),
    };
    managers.insert(own.clone(), entry);
    let new = match last.filter(|l| !l.set.is_empty() && (r.known)(&l.version)) {
        Some(last) => prune(&merged, &managers, &last.set, r),
        None => merged,
    };
    settle(&mut managers, Some(&own), old, &new, force, r)?;
    let changed = !equal(old, &new);
    if let Some(e) = managers.get_mut(&own) {
        e.set = e.set.minus(unowned());
        if changed {
            e.time = Some(r.now.to_string());
        }
    }
    managers.retain(|_, e| !e.set.is_empty());
    Ok((new, managers))
}

/// Removes what this manager applied last and applies no longer, where nobody else needs it.
fn prune(merged: &Value, managers: &Managers, last: &FieldSet, r: &Request<'_>) -> Value {
    let named = |set: &FieldSet| named_fields(set, r.t);
    let pruned = remove(r.t, merged, &named(last));
    let mut owned = FieldSet::default();
    for e in managers.values() {
        owned.add(&e.set);
    }
    let all = named(&field_set(r.t, merged));
    let kept = named(&field_set(r.t, &pruned)).union(&named(&owned));
    let pruned = remove(r.t, merged, &all.minus(&kept));
    // What was removed only because something around it was, and was not applied last, comes back.
    let gone = all
        .minus(&named(&field_set(r.t, &pruned)))
        .both(&named(last));
    remove(r.t, merged, &gone)
}

fn check_config(config: &Value, r: &Request<'_>) -> Result<(), ApiError> {
    let version = str_at(config, "apiVersion");
    if version != r.api_version {
        return Err(ApiError::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            r.api_version
        )));
    }
    let managed = config.get("metadata").and_then(|m| m.get("managedFields"));
    if managed.is_some_and(|m| !m.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    typed("patch", config, false, r)
}

/// 500 where an object is not of the type that it must be.
fn typed(which: &str, object: &Value, duplicates: bool, r: &Request<'_>) -> Result<(), ApiError> {
    let problems = validate::validate(r.t, object, duplicates);
    if problems.is_empty() {
        return Ok(());
    }
    let (version, kind) = (r.api_version, str_at(object, "kind"));
    let gvk = match version.split_once('/') {
        Some(_) => format!("{version}, Kind={kind}"),
        None => format!("/{version}, Kind={kind}"),
    };
    Err(ApiError::new(
        500,
        "",
        format!(
            "failed to create typed {which} object ({}/{}; {gvk}): {}",
            str_at(object, "metadata.namespace"),
            str_at(object, "metadata.name"),
            validate::text(&problems)
        ),
    ))
}

/// Upstream's NewConflictError.
fn conflict_error(conflicts: &Conflicts) -> ApiError {
    let mut all: Vec<(String, Vec<String>)> = conflicts
        .iter()
        .map(|(id, set)| {
            (
                id.text(),
                set.paths().iter().map(|p| path_text(p)).collect(),
            )
        })
        .collect();
    all.sort();
    let count: usize = all.iter().map(|(_, paths)| paths.len()).sum();
    let text = match all.as_slice() {
        [(who, paths)] if paths.len() == 1 => format!("conflict with {who}: {}", paths[0]),
        _ => {
            let one = |(who, paths): &(String, Vec<String>)| {
                let lines: Vec<String> = paths.iter().map(|p| format!("\n- {p}")).collect();
                format!("conflicts with {who}:{}", lines.concat())
            };
            all.iter().map(one).collect::<Vec<_>>().join("\n")
        }
    };
    let plural = if count == 1 { "" } else { "s" };
    let mut e = ApiError::new(
        409,
        "Conflict",
        format!("Apply failed with {count} conflict{plural}: {text}"),
    );
    let details = e.details.get_or_insert_default();
    for (who, paths) in all {
        for field in paths {
            details.causes.push(StatusCause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {who}"),
                field,
            });
        }
    }
    e
}
