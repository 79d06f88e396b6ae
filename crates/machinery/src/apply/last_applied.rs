//! kubectl's way from client-side to server-side apply: its annotation counts as its claim.
//! Upstream: managedfields/internal/{lastappliedmanager,lastappliedupdater}.go.

use serde_json::{Value, json};

use super::compare::compare;
use super::field_set::field_set;
use super::fields::FieldSet;
use super::update::Request;
use super::validate;
use crate::object::{map_at, map_mut, str_at};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The only manager that this is for.
const KUBECTL: &str = "kubectl";
/// Sum of key and value sizes of all annotations.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

fn annotation(obj: &Value) -> Option<&str> {
    map_at(obj, "metadata.annotations")?
        .get(ANNOTATION)?
        .as_str()
}

/// Fields that kubectl may take without force: applied before, and unchanged since.
pub fn covered(live: &Value, r: &Request<'_>) -> FieldSet {
    let none = FieldSet::default;
    if r.manager != KUBECTL {
        return none();
    }
    let Some(Ok(last)) = annotation(live).map(serde_json::from_str::<Value>) else {
        return none();
    };
    if str_at(&last, "apiVersion") != r.api_version
        || !validate::validate(r.t, &last, false).is_empty()
    {
        return none();
    }
    let changed = compare(r.t, &last, live);
    field_set(r.t, &last)
        .minus(&changed.modified)
        .minus(&changed.added)
        .minus(&changed.removed)
}

/// Keeps the annotation in step with what kubectl applied.
pub fn refresh(obj: &mut Value, config: &Value, r: &Request<'_>) {
    if r.manager != KUBECTL || annotation(obj).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(map)) = crate::object::at_mut(&mut config, "metadata.annotations") {
        map.remove(ANNOTATION);
    }
    let text = format!("{config}\n");
    let map = map_mut(obj, "metadata.annotations");
    map.remove(ANNOTATION);
    let others: usize = map
        .iter()
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if others + ANNOTATION.len() + text.len() <= ANNOTATIONS_BYTES_MAX {
        map.insert(ANNOTATION.into(), json!(text));
    }
}
