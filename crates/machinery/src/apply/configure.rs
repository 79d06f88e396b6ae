//! Applied configurations: what they set, share, take or remove.
//! Upstream: structured-merge-diff/merge/update.go, managedfields/internal.

use serde_json::{Map, Value};

use super::compare::equal;
use super::field_set::{field_set, named_fields};
use super::fields::{FieldSet, path_text};
use super::last_applied;
use super::managers::{Entry, Id, Managers};
use super::types::TypeRef;
use super::update::{
    Conflicts, Request, Unsettled, Version, managed_of, misfit, reconcile, settle, store_managers,
    took, unowned,
};
use super::{merge::merge, remove::remove, validate};
use crate::error::{ApiError, StatusCause};
use crate::object::str_at;

/// Whose fields those are that were there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What became of a configuration that was applied.
pub struct Applied {
    /// The object, its `managedFields` included.
    pub object: Value,
    /// Whether it is another than before but for its managers.
    pub changed: bool,
}

/// `live` (`None` for a create) with a configuration applied. 400, 409 and 500 as upstream answers.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    force: bool,
    r: &Request<'_>,
) -> Result<Applied, ApiError> {
    check_config(config, r)?;
    let failed = |why: String| ApiError::new(500, "", why);
    let nothing = Value::Object(Map::new());
    let old = live.unwrap_or(&nothing);
    if live.is_some() && matches!(r.t, TypeRef::Custom(_)) {
        typed("live", old, true, r)?;
    }
    let mut managers = live.map(managed_of).unwrap_or_default();
    if managers.is_empty() && live.is_some() {
        let before = Id::updater(BEFORE_FIRST_APPLY, r.api_version, r.subresource);
        took(&mut managers, &before, &nothing, old, r).map_err(failed)?;
    }
    reconcile(&mut managers, old, r).map_err(failed)?;
    let again = (!force).then(|| managers.clone());
    let tried = applied(old, config, managers, force, r);
    let (mut new, managers) = match tried {
        Ok(done) => done,
        Err(Unsettled::Misfit(why)) => return Err(failed(why)),
        Err(Unsettled::Conflicts(conflicts)) => {
            let covered = last_applied::covered(old, r);
            let open: Conflicts = conflicts
                .into_iter()
                .map(|(id, set)| (id, set.minus(&covered)))
                .filter(|(_, set)| !set.is_empty())
                .collect();
            if !open.is_empty() {
                return Err(conflict_error(&open));
            }
            let managers = again.unwrap_or_default();
            applied(old, config, managers, true, r).map_err(|e| match e {
                Unsettled::Conflicts(c) => conflict_error(&c),
                Unsettled::Misfit(why) => failed(why),
            })?
        }
    };
    let changed = new.is_some();
    let mut object = new.take().unwrap_or_else(|| old.clone());
    last_applied::refresh(&mut object, config, r);
    store_managers(&mut object, &managers);
    Ok(Applied { object, changed })
}

/// The object, where it is another, and who owns what of it.
fn applied(
    old: &Value,
    config: &Value,
    mut managers: Managers,
    force: bool,
    r: &Request<'_>,
) -> Result<(Option<Value>, Managers), Unsettled> {
    let own = Id::applier(r.manager, r.subresource);
    let merged = merge(r.t, old, config);
    let last = managers.remove(&own);
    let entry = Entry {
        version: r.api_version.to_string(),
        set: field_set(r.t, config).without_below(r.reset),
        time: last.as_ref().and_then(|l| l.time.clone()),
    };
    managers.insert(own.clone(), entry);
    let new = match last.filter(|l| !l.set.is_empty()) {
        Some(last) => {
            let failed = |why| Unsettled::Misfit(format!("failed to prune fields: {why}"));
            prune(&merged, &managers, &last, r).map_err(failed)?
        }
        None => merged,
    };
    settle(&mut managers, Some(&own), (old, &new), force, r)?;
    let changed = !equal(old, &new);
    if let Some(e) = managers.get_mut(&own) {
        e.set.subtract(unowned());
        if changed {
            e.time = Some(r.now.to_string());
        }
    }
    managers.retain(|_, e| !e.set.is_empty());
    Ok((changed.then_some(new), managers))
}

/// Removes what this manager applied last and applies no longer, where nobody else needs it.
fn prune(
    merged: &Value,
    managers: &Managers,
    last: &Entry,
    r: &Request<'_>,
) -> Result<Value, String> {
    let Version::Known(t, _) = r.version_of(&last.version) else {
        return Ok(merged.clone());
    };
    let is_other = last.version != r.api_version;
    if is_other {
        let failed =
            |why| format!("failed to convert merged object to last applied version: {why}");
        misfit(t, merged).map_err(failed)?;
    }
    let mut pruned = remove(t, merged, &named_fields(&last.set, t));
    // Who owns something in the version that is removed from comes first.
    let mut versions: Vec<&str> = managers.values().map(|e| e.version.as_str()).collect();
    versions.sort_unstable_by_key(|v| (*v != last.version, *v));
    versions.dedup();
    for version in versions {
        let mut owned = FieldSet::default();
        for e in managers.values().filter(|e| e.version == version) {
            owned.add(e.set.clone());
        }
        let Version::Known(t, _) = r.version_of(version) else {
            continue;
        };
        let named = |set: &FieldSet| named_fields(set, t);
        if version != last.version {
            for (what, object) in [("merged", merged), ("pruned", &pruned)] {
                misfit(t, object).map_err(|why| {
                    format!("failed add back owned items: failed to convert {what} object at version {version}: {why}")
                })?;
            }
        }
        let kept = named(&field_set(t, &pruned)).union(named(&owned));
        pruned = remove(t, merged, &named(&field_set(t, merged)).minus(&kept));
    }
    // What was removed only because something around it was, and was not applied last, comes back.
    let named = |set: &FieldSet| named_fields(set, t);
    let gone = named(&field_set(t, merged))
        .minus(&named(&field_set(t, &pruned)))
        .both(&named(&last.set));
    Ok(remove(t, merged, &gone))
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
