//! What a resource adds to the generic verbs: defaults, preparation, validation, selectable fields,
//! table rows. Upstream: registry/rest strategies. Everything is pure: time arrives in `WriteContext`.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::causes::Causes;
use crate::error::ApiError;
use crate::request::User;
use crate::table::{Column, Row};

/// Facts of the write that a strategy may need.
#[derive(Clone, Debug)]
pub struct WriteContext<'a> {
    pub now: Timestamp,
    pub user: &'a User,
    /// Namespace of the request, `""` for cluster-scoped.
    pub namespace: &'a str,
    /// `""` for the main resource, else the subresource written through.
    pub subresource: &'a str,
}

/// Carries the objects of one resource between its versions, by asking somebody else.
#[async_trait]
pub trait Converter: Send + Sync {
    /// Tells converters apart, old ones of the same resource too.
    fn id(&self) -> u64;
    /// The `apiVersion` that is stored.
    fn stored(&self) -> &str;
    /// Objects of any versions as an `apiVersion` has them, in the same order.
    async fn convert(&self, objects: Vec<Value>, api_version: &str)
    -> Result<Vec<Value>, ApiError>;
}

/// The behaviour of one resource. All methods have defaults; a resource writes only what differs.
/// Objects are JSON values that already passed the schema (types are right, unknown fields gone).
/// The generic verbs look after `metadata` (names, uid, timestamps, generation, managedFields).
pub trait Strategy: Send + Sync + 'static {
    /// Fills in defaults; also runs on every object read from the store. Idempotent.
    fn set_defaults(&self, _obj: &mut Value) {}

    /// The same of an applied configuration's outcome, which for custom resources keeps its nulls.
    fn fill_defaults(&self, obj: &mut Value) {
        self.set_defaults(obj);
    }

    /// Before a create: drop what clients may not set (usually `status`), set server-owned fields.
    fn prepare_create(&self, _obj: &mut Value, _cx: &WriteContext) {}

    /// Before an update of the main resource. Default: the status of `before` is kept where
    /// the resource has a status subresource.
    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        if self.has_status() {
            keep(obj, before, "status");
        }
    }

    /// Before an update through `/status`: everything but status and metadata stays as it was.
    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        freeze_all_but_status(obj, before);
    }

    /// Whether `/status` exists; such resources drop `status` on create and keep it on update.
    fn has_status(&self) -> bool {
        false
    }

    /// Whether a new object shows an empty `status`, as objects of built-in kinds do.
    fn shows_empty_status(&self) -> bool {
        true
    }

    /// Whether `metadata.generation` is counted, and whether this change counts. The default
    /// counts changes of `spec`.
    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        obj.get("spec") != before.get("spec")
    }

    /// Whether the resource counts generations at all.
    fn has_generation(&self) -> bool {
        false
    }

    /// Field errors of an object about to be created. `metadata` was already checked.
    fn validate(&self, _obj: &Value, _causes: &mut Causes) {}

    /// Field errors of an update of the main resource. Default: `validate` of the new object.
    fn validate_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
    }

    /// Field errors of an update through `/status`.
    fn validate_status_update(&self, _obj: &Value, _before: &Value, _causes: &mut Causes) {}

    /// Field errors of an update through another subresource (`ephemeralcontainers`, `resize`).
    fn validate_subresource(&self, sub: &str, obj: &Value, before: &Value, causes: &mut Causes) {
        let _ = sub;
        self.validate_update(obj, before, causes);
    }

    /// Preparation of an update through another subresource.
    fn prepare_subresource(&self, sub: &str, obj: &mut Value, before: &Value, cx: &WriteContext) {
        let _ = sub;
        self.prepare_update(obj, before, cx);
    }

    /// Create-only subresources whose body changes the object itself, such as `pods/binding`.
    fn actions(&self) -> &[&'static str] {
        &[]
    }

    /// Does to `obj`, as it is stored, what the body of such a subresource asks for. The generic verbs
    /// look after admission, preconditions and conflicts; nothing else is prepared or validated.
    fn act(
        &self,
        sub: &str,
        _obj: &mut Value,
        _body: &Value,
        _cx: &WriteContext,
    ) -> Result<(), ApiError> {
        Err(ApiError::internal(format!("no action {sub}")))
    }

    /// Upstream's check of `metadata.name`; gives messages, empty if fine. `prefix` is true for generateName.
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String>;

    /// Texts for `Warning` headers. `before` is `None` on create.
    fn warnings(&self, _obj: &Value, _before: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Field-selector keys besides `metadata.name` and `metadata.namespace`, with this object's values.
    fn selectable_fields(&self, _obj: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Which keys `selectable_fields` gives; anything else in a field selector is a 400.
    fn selectable_keys(&self) -> &[&'static str] {
        &[]
    }

    /// The name under which the stored version's cache knows a key of a field selector.
    fn selects_as<'a>(&self, key: &'a str) -> &'a str {
        key
    }

    /// What a deletion without a propagation policy does to dependents: `true` orphans them, as
    /// some old kinds do.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// Texts for `Warning` headers of a deletion without a propagation policy.
    fn delete_warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether PUT to a missing name creates it (upstream's AllowCreateOnUpdate).
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion is accepted (upstream's AllowUnconditionalUpdate).
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Seconds of grace for a deletion: `None` deletes at once, `Some(n)` marks the object with n
    /// (pods). `asked` is the client's `gracePeriodSeconds`.
    fn grace_seconds(&self, _obj: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether something outside `metadata.finalizers` still holds a deleted object (the
    /// `spec.finalizers` of namespaces).
    fn is_held(&self, _obj: &Value) -> bool {
        false
    }

    /// Called when an object is marked as being deleted (namespaces become Terminating).
    fn mark_deleting(&self, _obj: &mut Value) {}

    /// Whether a deletion answers with the object instead of a Status (upstream's
    /// ReturnDeletedObject: pods, services, service accounts, volumes, claims ...).
    fn returns_deleted(&self) -> bool {
        false
    }

    /// Whether this version shows objects otherwise than they are stored; then `from_stored` runs
    /// on every read and `to_stored` on every write.
    fn converts(&self) -> bool {
        false
    }

    /// A stored object (of the storage version) to this version.
    // Not a constructor: the object is the argument, the strategy only knows how.
    #[allow(clippy::wrong_self_convention)]
    fn from_stored(&self, _obj: &mut Value) {}

    /// An object of this version to the storage version.
    fn to_stored(&self, _obj: &mut Value) {}

    /// What carries objects between versions where the strategy alone cannot; then `from_stored` and
    /// `to_stored` only finish its work.
    fn converter(&self) -> Option<&Arc<dyn Converter>> {
        None
    }

    /// Whether selectable fields are those of the version that is asked for, not of what is stored.
    fn selects_shown(&self) -> bool {
        false
    }

    /// Why nothing can be created now, for a 403; `None` where it can.
    fn create_refused(&self) -> Option<String> {
        None
    }

    /// Drops what the schema of a custom resource does not know; gives the paths of that, or why the object cannot
    /// be read.
    fn coerce(&self, _obj: &mut Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// Whether a CRD defines the resource. Costs nothing, where `apply_model` and `openapi` may make what they give.
    fn is_custom(&self) -> bool {
        false
    }

    /// Whether an object says that it is of the resource's kind and version, where that is not made sure of before.
    fn is_of_kind(&self, _obj: &Value) -> bool {
        true
    }

    /// How server-side apply sees a custom resource. Built-ins come from the schema table.
    fn apply_model(&self) -> Option<&crate::apply::Model> {
        None
    }

    /// Fields (dotted) that an endpoint does not write, whatever it is sent: `""` is the main
    /// resource. Upstream's GetResetFields.
    fn reset_fields(&self, sub: &str) -> Vec<&'static str> {
        match sub {
            "" if self.has_status() => vec!["status"],
            "status" => vec!["spec"],
            _ => Vec::new(),
        }
    }

    /// How server-side apply sees the custom resource in another of its versions, served or not, and the fields that the
    /// endpoint of a subresource does not write there.
    fn apply_model_of(
        &self,
        _version: &str,
        _sub: &str,
    ) -> Option<(&crate::apply::Model, Vec<&'static str>)> {
        None
    }

    /// The version that objects are stored as, where that may be another than the served one.
    fn stored_version(&self) -> Option<&str> {
        None
    }

    /// The warning that every request to a deprecated version is answered with.
    /// Upstream: APILifecycleDeprecated, deprecation.WarningMessage.
    fn deprecation(&self) -> Option<&str> {
        None
    }

    /// The OpenAPI v3 schema of a custom resource. Built-ins come from the schema table.
    fn openapi(&self) -> Option<Value> {
        None
    }

    /// Columns of the Table, the first being Name. Default: Name and Age.
    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Age")]
    }

    /// Cells for `columns`, in the same order.
    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            Value::String(crate::object::name(obj).to_string()),
            Value::String(age(obj, now)),
        ]
    }
}

/// Copies the top-level field `field` of `before` into `obj`, or removes it where `before` has none.
pub fn keep(obj: &mut Value, before: &Value, field: &str) {
    let Some(map) = obj.as_object_mut() else {
        return;
    };
    match before.get(field) {
        Some(v) => map.insert(field.to_string(), v.clone()),
        None => map.remove(field),
    };
}

/// Makes `obj` equal to `before` in everything but `status` and `metadata`: what upstream's status
/// strategies do. (`metadata` is judged by the generic rules, as in any update.)
pub fn freeze_all_but_status(obj: &mut Value, before: &Value) {
    let (Some(new), Some(old)) = (obj.as_object_mut(), before.as_object()) else {
        return;
    };
    let free = |key: &str| key == "status" || key == "metadata";
    new.retain(|k, _| free(k));
    for (key, value) in old.iter().filter(|(k, _)| !free(k)) {
        new.insert(key.clone(), value.clone());
    }
}

/// The Age cell: upstream's `duration.HumanDuration` since creationTimestamp, or `<unknown>`.
pub fn age(obj: &Value, now: Timestamp) -> String {
    let text = crate::object::str_at(obj, "metadata.creationTimestamp");
    match text.parse::<Timestamp>() {
        Ok(t) => human_duration(now.as_second() - t.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

/// Upstream's `duration.HumanDuration` of whole seconds.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 3600;
    const DAY: i64 = 86400;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, b: &str, small: i64, s: &str| {
        if small == 0 {
            format!("{big}{b}")
        } else {
            format!("{big}{b}{small}{s}")
        }
    };
    match seconds {
        s if s < -1 => "<invalid>".into(),
        s if s < 0 => "0s".into(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s / MINUTE % 60, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s / HOUR % 24, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s / DAY % 365, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations_read_as_upstreams() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (50 * 3600, "2d2h"),
            (10 * 86400, "10d"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
