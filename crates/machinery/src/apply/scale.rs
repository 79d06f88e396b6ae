//! Who owns the replicas of an object, seen as who owns those of its Scale, and back.
//! Upstream: apimachinery/pkg/util/managedfields/scalehandler.go.

use serde_json::Value;

use super::fields::{Element, FieldSet};
use super::managers::{Entry, Managers, decode, encode};

/// The version that Scales are written in.
pub const SCALE_VERSION: &str = "autoscaling/v1";

/// Where replicas are in a version: nothing where the version is unknown, and an empty path where it has none.
pub type PathOf<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The managed fields of an object on their way through its Scale.
pub struct ScaleHandler<'a> {
    entries: Managers,
    path_of: PathOf<'a>,
}

fn elements(path: &str) -> Vec<Element> {
    let parts = path.split('.').filter(|p| !p.is_empty());
    parts.map(|p| Element::Field(p.to_string())).collect()
}

impl<'a> ScaleHandler<'a> {
    /// The entries of an object. Those that do not decode are left out.
    pub fn new(entries: &[Value], path_of: PathOf<'a>) -> Self {
        Self {
            entries: decode(entries).unwrap_or_default(),
            path_of,
        }
    }

    /// The replicas' path in a version that has one.
    fn path(&self, version: &str) -> Option<Vec<Element>> {
        let path = (self.path_of)(version)?;
        Some(elements(&path)).filter(|p| !p.is_empty())
    }

    /// The entries that own replicas, as entries of the Scale.
    pub fn to_scale(&self) -> Vec<Value> {
        let mut out = Managers::new();
        for (id, e) in &self.entries {
            let owns = |path: Vec<Element>| e.set.has(&path);
            if self.path(&e.version).is_some_and(owns) {
                let entry = Entry {
                    version: SCALE_VERSION.into(),
                    set: FieldSet::dotted(&["spec.replicas"]),
                    time: e.time.clone(),
                };
                out.insert(id.clone(), entry);
            }
        }
        encode(&out)
    }

    /// The object's entries after those of the Scale became `scale`; the object is written in `version`.
    pub fn to_parent(&self, scale: &[Value], version: &str) -> Vec<Value> {
        let mut scale = decode(scale).unwrap_or_default();
        let mut out = Managers::new();
        for (id, e) in &self.entries {
            if (self.path_of)(&e.version).is_none() {
                continue;
            }
            let path = self.path(&e.version).filter(|p| e.set.has(p));
            let mut entry = e.clone();
            // Who still owns them in the Scale keeps them.
            if let Some(path) = path
                && scale.remove(id).is_none()
            {
                entry.set = e.set.clone().minus(&FieldSet::of(&path));
            }
            if !entry.set.is_empty() {
                out.insert(id.clone(), entry);
            }
        }
        let replicas = elements("spec.replicas");
        for (id, e) in scale {
            let Some(path) = self.path(version).filter(|_| e.set.has(&replicas)) else {
                continue;
            };
            let entry = Entry {
                version: version.into(),
                set: FieldSet::of(&path),
                time: self.entries.get(&id).and_then(|e| e.time.clone()),
            };
            out.insert(id, entry);
        }
        encode(&out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replicas_change_hands_between_an_object_and_its_scale() {
        let entry = |manager: &str, operation: &str, version: &str, fields: Value| {
            json!({"manager": manager, "operation": operation, "apiVersion": version,
                "fieldsType": "FieldsV1", "fieldsV1": fields})
        };
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let both = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let parent = [
            entry("a", "Apply", "apps/v1", both.clone()),
            entry("u", "Update", "apps/v1", both),
            entry("old", "Update", "apps/v0", replicas.clone()),
        ];
        let path_of = |v: &str| (v == "apps/v1").then(|| "spec.replicas".to_string());
        let handler = ScaleHandler::new(&parent, &path_of);
        let scale = handler.to_scale();
        assert_eq!(
            scale,
            [
                entry("a", "Apply", SCALE_VERSION, replicas.clone()),
                entry("u", "Update", SCALE_VERSION, replicas.clone()),
            ]
        );
        let mut hpa = entry("hpa", "Update", SCALE_VERSION, replicas.clone());
        hpa["subresource"] = json!("scale");
        let mut owned = hpa.clone();
        owned["apiVersion"] = json!("apps/v1");
        let paused = json!({"f:spec": {"f:paused": {}}});
        assert_eq!(
            handler.to_parent(&[scale[0].clone(), hpa], "apps/v1"),
            [
                parent[0].clone(),
                owned,
                entry("u", "Update", "apps/v1", paused),
            ]
        );
    }
}
