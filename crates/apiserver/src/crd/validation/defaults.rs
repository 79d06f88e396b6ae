//! Defaults of a schema must pass it. Upstream: apiextensions-apiserver/pkg/apiserver/schema/defaulting/validation.go.

use machinery::Causes;
use machinery::causes::Cause;
use serde_json::{Map, Value, json};

use super::super::structural::{Structural, embedded_problems};

/// A step from an embedded resource to a value in it.
#[derive(Clone)]
enum Step {
    Key(String),
    Index,
}

struct Walk<'a> {
    /// The schema of the resource around, and the way from there.
    root: &'a Structural,
    way: Vec<Step>,
    in_meta: bool,
    /// Whether defaults must not have what the schema has not.
    pruned: bool,
}

/// Checks every default of a schema at the current path.
pub fn validate(root: &Structural, pruned: bool, c: &mut Causes) {
    if root.has_defaults {
        let mut walk = Walk {
            root,
            way: Vec::new(),
            in_meta: false,
            pruned,
        };
        walk.node(root, true, c);
    }
}

/// Whether a default has what the schema has not.
pub fn has_unpruned(root: &Structural) -> bool {
    let mut found = Causes::new();
    validate(root, true, &mut found);
    found.as_slice().iter().any(|c| c.detail == UNPRUNED)
}

const UNPRUNED: &str = "must not have unknown fields";

impl<'a> Walk<'a> {
    fn node(&mut self, s: &'a Structural, top: bool, c: &mut Causes) {
        if !s.has_defaults {
            return;
        }
        let resource = top || s.embedded;
        let outer = resource.then(|| {
            let outer = (self.root, std::mem::take(&mut self.way), self.in_meta);
            (self.root, self.in_meta) = (s, false);
            outer
        });
        if let Some(default) = &s.default {
            c.at("default", |c| match self.in_meta {
                true => self.in_metadata(s, default, resource, c),
                false => self.outside(s, default, resource, c),
            });
        }
        if let Some(items) = s.items.as_deref() {
            self.way.push(Step::Index);
            c.at("items", |c| self.node(items, false, c));
            self.way.pop();
        }
        for (name, below) in &s.properties {
            let meta = self.in_meta;
            self.in_meta |= resource && ["metadata", "apiVersion", "kind"].contains(&name.as_str());
            self.way.push(Step::Key(name.clone()));
            c.at("properties", |c| {
                c.key(name, |c| self.node(below, false, c))
            });
            self.way.pop();
            self.in_meta = meta;
        }
        if let Some((root, way, meta)) = outer {
            (self.root, self.way, self.in_meta) = (root, way, meta);
        }
    }

    /// A default of a resource's metadata: an object with nothing but it must be a good one.
    fn in_metadata(&self, s: &Structural, default: &Value, resource: bool, c: &mut Causes) {
        let mut object = default.clone();
        for step in self.way.iter().rev() {
            object = match step {
                Step::Index => json!([object]),
                Step::Key(name) => Value::Object(Map::from_iter([(name.clone(), object)])),
            };
        }
        for (field, value) in [("kind", "Validation"), ("apiVersion", "validation/v1")] {
            if object.get(field).is_none() {
                object[field] = json!(value);
            }
        }
        let bad = |e: String| format!("must result in valid metadata: {e}");
        if let Err(e) = as_resource(self.root).coerce(&mut object) {
            return c.invalid(default, bad(e));
        }
        let mut found = Causes::new();
        embedded_problems(&as_resource(self.root), &object, &mut found);
        let texts: Vec<String> = found.as_slice().iter().map(Cause::text).collect();
        match texts.as_slice() {
            [] => s.check_default(default, resource, c),
            [one] => c.invalid(default, bad(one.clone())),
            many => c.invalid(default, bad(format!("[{}]", many.join(", ")))),
        }
    }

    fn outside(&self, s: &Structural, default: &Value, resource: bool, c: &mut Causes) {
        let s = &match resource {
            true => as_resource(s),
            false => s.clone(),
        };
        let mut pruned = default.clone();
        s.prune(&mut pruned, false);
        if self.pruned && pruned != *default {
            c.invalid(default, UNPRUNED);
        }
        let begun = c.len();
        if let Err(e) = s.coerce_at(&mut default.clone(), c.path()) {
            return c.add(e);
        }
        embedded_problems(s, default, c);
        if c.len() == begun {
            s.check_default(default, resource, c);
        }
    }
}

/// A resource's schema as that of an embedded one.
fn as_resource(s: &Structural) -> Structural {
    Structural {
        embedded: true,
        has_embedded: true,
        ..s.clone()
    }
}
