//! Other served versions of kinds whose objects are stored as one of them: the strategy of the stored version,
//! seen through a conversion that often has nothing to do but to name the version.

use std::sync::Arc;

use jiff::Timestamp;
use machinery::{Causes, Column, Descriptor, Row, Strategy, WriteContext};
use serde_json::{Value, json};

/// How objects of a version differ from what is stored.
#[derive(Clone, Copy)]
pub struct Shape {
    pub to_stored: fn(&mut Value),
    pub from_stored: fn(&mut Value),
}

fn same(_: &mut Value) {}

/// The fields are the same.
pub const SAME: Shape = Shape {
    to_stored: same,
    from_stored: same,
};

/// Since which minor version a version is deprecated, when it goes, and whether `v1` takes its place.
pub type Deprecated = Option<(u32, u32, bool)>;

/// Another version of a kind.
pub struct Older {
    /// The kind as it is stored.
    pub of: fn() -> Descriptor,
    pub version: &'static str,
    pub shape: Shape,
    pub deprecated: Deprecated,
}

impl Older {
    /// A version whose fields are those of the stored one.
    pub const fn new(
        of: fn() -> Descriptor,
        version: &'static str,
        deprecated: Deprecated,
    ) -> Self {
        Self {
            of,
            version,
            shape: SAME,
            deprecated,
        }
    }

    /// The same with other fields.
    pub const fn shaped(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// The descriptor of this version.
    pub fn descriptor(&self) -> Descriptor {
        let stored = (self.of)();
        let (group, kind) = (stored.group.clone(), stored.kind.clone());
        let strategy = Version {
            api_version: format!("{group}/{}", self.version),
            stored_as: stored.api_version(),
            stored_version: stored.version.to_string(),
            warning: warning(&group, self.version, &kind, self.deprecated),
            shape: self.shape,
            inner: stored.strategy.clone(),
        };
        Descriptor {
            version: self.version.into(),
            strategy: Arc::new(strategy),
            ..stored
        }
    }
}

/// Upstream: deprecation.WarningMessage.
pub fn warning(group: &str, version: &str, kind: &str, of: Deprecated) -> Option<String> {
    let (since, gone, replaced) = of?;
    let instead = match replaced {
        true => format!("; use {group}/v1 {kind}"),
        false => String::new(),
    };
    Some(format!(
        "{group}/{version} {kind} is deprecated in v1.{since}+, unavailable in v1.{gone}+{instead}"
    ))
}

struct Version {
    api_version: String,
    stored_as: String,
    stored_version: String,
    warning: Option<String>,
    shape: Shape,
    inner: Arc<dyn Strategy>,
}

impl Version {
    /// What the strategy of the stored version sees.
    fn seen(&self, obj: &Value) -> Value {
        let mut obj = obj.clone();
        self.to_stored(&mut obj);
        obj
    }

    fn through(&self, obj: &mut Value, change: impl FnOnce(&mut Value)) {
        self.to_stored(obj);
        change(obj);
        self.from_stored(obj);
    }
}

impl Strategy for Version {
    fn set_defaults(&self, obj: &mut Value) {
        self.through(obj, |o| self.inner.set_defaults(o));
    }

    fn prepare_create(&self, obj: &mut Value, cx: &WriteContext) {
        self.through(obj, |o| self.inner.prepare_create(o, cx));
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        let before = self.seen(before);
        self.through(obj, |o| self.inner.prepare_update(o, &before, cx));
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        let before = self.seen(before);
        self.through(obj, |o| self.inner.prepare_status_update(o, &before, cx));
    }

    fn has_status(&self) -> bool {
        self.inner.has_status()
    }

    fn shows_empty_status(&self) -> bool {
        self.inner.shows_empty_status()
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        let (obj, before) = (self.seen(obj), self.seen(before));
        self.inner.generation_changes(&obj, &before)
    }

    fn has_generation(&self) -> bool {
        self.inner.has_generation()
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        self.inner.validate(&self.seen(obj), causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let (obj, before) = (self.seen(obj), self.seen(before));
        self.inner.validate_update(&obj, &before, causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let (obj, before) = (self.seen(obj), self.seen(before));
        self.inner.validate_status_update(&obj, &before, causes);
    }

    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        self.inner.name_problems(name, prefix)
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let before = before.map(|b| self.seen(b));
        self.inner.warnings(&self.seen(obj), before.as_ref())
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        self.inner.selectable_fields(&self.seen(obj))
    }

    fn selectable_keys(&self) -> &[&'static str] {
        self.inner.selectable_keys()
    }

    fn allow_create_on_update(&self) -> bool {
        self.inner.allow_create_on_update()
    }

    fn allow_unconditional_update(&self) -> bool {
        self.inner.allow_unconditional_update()
    }

    fn returns_deleted(&self) -> bool {
        self.inner.returns_deleted()
    }

    fn converts(&self) -> bool {
        true
    }

    fn from_stored(&self, obj: &mut Value) {
        (self.shape.from_stored)(obj);
        obj["apiVersion"] = json!(self.api_version);
    }

    fn to_stored(&self, obj: &mut Value) {
        (self.shape.to_stored)(obj);
        obj["apiVersion"] = json!(self.stored_as);
    }

    fn reset_fields(&self, sub: &str) -> Vec<&'static str> {
        self.inner.reset_fields(sub)
    }

    fn stored_version(&self) -> Option<&str> {
        Some(&self.stored_version)
    }

    fn deprecation(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn columns(&self) -> Vec<Column> {
        self.inner.columns()
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        self.inner.row(&self.seen(obj), now)
    }
}
