//! Writes and their owners: what an update takes over from whom.
//! Upstream: structured-merge-diff/merge/update.go, managedfields/internal.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::compare::compare;
use super::fields::FieldSet;
use super::managers::{Entry, Id, Managers, cap, decode, encode};
use super::reconcile::reconciled;
use super::types::TypeRef;
use super::validate;
use crate::object::{list_at, remove as take, set, str_at};

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

pub(super) fn unowned() -> &'static FieldSet {
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
    /// What the versions are that managers wrote in, besides the endpoint's.
    pub version: &'a dyn Fn(&str) -> Version<'a>,
}

/// A version that a manager wrote in.
#[derive(Clone, Debug)]
pub enum Version<'a> {
    /// It is there: its type, and the fields that its endpoint does not write.
    Known(TypeRef<'a>, FieldSet),
    /// It is no longer served, and its managers are forgotten.
    Gone,
    /// Nothing is converted to it: upstream's text.
    Invalid(String),
}

impl<'a> Request<'a> {
    /// A version that a manager wrote in, the endpoint's own too.
    pub(super) fn version_of(&self, version: &str) -> Version<'a> {
        match version == self.api_version {
            true => Version::Known(self.t, self.reset.clone()),
            false => (self.version)(version),
        }
    }
}

/// Fields that others own and would lose.
pub(super) type Conflicts = Vec<(Id, FieldSet)>;

pub(super) fn managed_of(obj: &Value) -> Managers {
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

pub(super) fn store_managers(obj: &mut Value, managers: &Managers) {
    if managers.is_empty() {
        take(obj, "metadata.managedFields");
    } else {
        set(
            obj,
            "metadata.managedFields",
            Value::Array(encode(managers)),
        );
    }
}

/// Gives every manager the fields that it has by the schema of today, and forgets those whose version is gone. The error
/// says what the live object is not in one of their versions.
pub(super) fn reconcile(
    managers: &mut Managers,
    live: &Value,
    r: &Request<'_>,
) -> Result<(), String> {
    let mut checked: Vec<String> = Vec::new();
    let mut gone: Vec<Id> = Vec::new();
    for (id, e) in managers.iter_mut() {
        let t = match r.version_of(&e.version) {
            Version::Known(t, _) => t,
            Version::Gone => {
                gone.push(id.clone());
                continue;
            }
            Version::Invalid(why) => return Err(why),
        };
        if e.version != r.api_version && !checked.contains(&e.version) {
            misfit(t, live)?;
            checked.push(e.version.clone());
        }
        if let Some(set) = reconciled(t, &e.set) {
            e.set = set;
        }
    }
    managers.retain(|id, _| !gone.contains(id));
    Ok(())
}

/// An error that says what an object is not that must be of a custom type.
pub(super) fn misfit(t: TypeRef<'_>, object: &Value) -> Result<(), String> {
    if matches!(t, TypeRef::BuiltIn(_)) {
        return Ok(());
    }
    let problems = validate::validate(t, object, false);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(validate::text(&problems)),
    }
}

/// Records in `new` who owns what after a create (`live` is `None`), update or patch.
pub fn track(live: Option<&Value>, new: &mut Value, r: &Request<'_>) {
    let mut managers = base(live, new, r);
    take(new, "metadata.managedFields");
    let exists = live.is_some_and(|l| !str_at(l, "metadata.uid").is_empty());
    if managers.is_empty() && exists {
        return;
    }
    let nothing = Value::Object(Map::new());
    let old = live.unwrap_or(&nothing);
    let own = Id::updater(r.manager, r.api_version, r.subresource);
    // Built-in objects were checked when they were decoded.
    let typed = matches!(r.t, TypeRef::BuiltIn(_))
        || (validate::validate(r.t, new, true).is_empty()
            && validate::validate(r.t, old, true).is_empty());
    let tracked = typed
        && reconcile(&mut managers, old, r).is_ok()
        && took(&mut managers, &own, old, new, r).is_ok();
    if tracked {
        cap(&mut managers);
        return store_managers(new, &managers);
    }
    // Upstream cannot compare the two, and the owners stay as they were.
    if let Some(owners) = live.and_then(|l| l.get("metadata")?.get("managedFields")) {
        set(new, "metadata.managedFields", owners.clone());
    }
}

/// Gives what changed between two states to one updater and takes it from all others.
pub(super) fn took(
    managers: &mut Managers,
    own: &Id,
    old: &Value,
    new: &Value,
    r: &Request<'_>,
) -> Result<(), String> {
    // Forced: an update has no conflicts.
    let taken = match settle(managers, None, (old, new), true, r) {
        Ok(taken) => taken,
        Err(Unsettled::Conflicts(_)) => return Ok(()),
        Err(Unsettled::Misfit(why)) => return Err(why),
    };
    let mut set = taken.minus(unowned());
    if set.is_empty() {
        return Ok(());
    }
    if let Some(previous) = managers.remove(own) {
        set.add(previous.set);
    }
    let entry = Entry {
        version: r.api_version.to_string(),
        set,
        time: Some(r.now.to_string()),
    };
    managers.insert(own.clone(), entry);
    Ok(())
}

/// Why changes were not settled.
pub(super) enum Unsettled {
    Conflicts(Conflicts),
    /// What one of the objects is not in a manager's version.
    Misfit(String),
}

/// Takes changed and removed fields from every manager but `but`, as they are in its own version; those are conflicts
/// unless forced. Gives the fields of the endpoint's version that changed or are new.
pub(super) fn settle(
    managers: &mut Managers,
    but: Option<&Id>,
    (old, new): (&Value, &Value),
    force: bool,
    r: &Request<'_>,
) -> Result<FieldSet, Unsettled> {
    let (taken, removed) = changes(r.t, (old, new), r.reset);
    let mut elsewhere: BTreeMap<String, (FieldSet, FieldSet)> = BTreeMap::new();
    for (id, e) in managers.iter() {
        if Some(id) == but || e.version == r.api_version || elsewhere.contains_key(&e.version) {
            continue;
        }
        let Version::Known(t, reset) = r.version_of(&e.version) else {
            continue;
        };
        let failed = |what: &str, why: String| {
            Unsettled::Misfit(format!("failed to convert {what} object: {why}"))
        };
        misfit(t, old).map_err(|why| failed("old", why))?;
        misfit(t, new).map_err(|why| failed("new", why))?;
        elsewhere.insert(e.version.clone(), changes(t, (old, new), &reset));
    }
    let of = |e: &Entry| match elsewhere.get(&e.version) {
        Some((taken, removed)) => (taken, removed),
        None => (&taken, &removed),
    };
    if !force {
        let others = managers.iter().filter(|(id, _)| Some(*id) != but);
        let conflicts: Conflicts = others
            .map(|(id, e)| (id, e.set.both(of(e).0)))
            .filter(|(_, set)| !set.is_empty())
            .map(|(id, set)| (id.clone(), set))
            .collect();
        if !conflicts.is_empty() {
            return Err(Unsettled::Conflicts(conflicts));
        }
    }
    for (id, e) in managers.iter_mut() {
        if Some(id) != but {
            let (taken, removed) = of(e);
            e.set.subtract(taken);
            e.set.subtract(removed);
        }
    }
    managers.retain(|_, e| !e.set.is_empty());
    Ok(taken)
}

/// What is changed or new, and what is gone, without what a reset set holds.
fn changes(t: TypeRef<'_>, (old, new): (&Value, &Value), reset: &FieldSet) -> (FieldSet, FieldSet) {
    let all = compare(t, old, new).without(reset);
    (all.modified.union(all.added), all.removed)
}
