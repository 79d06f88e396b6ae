//! Dropping what a schema does not know, and telling what that was.
//! Upstream: apiextensions-apiserver/pkg/apiserver/schema/pruning/algorithm.go.

use serde_json::Value;

use super::{ROOT, Structural};

impl Structural {
    /// Removes unknown fields of an object, a resource's root where that is said; gives their paths, sorted.
    pub fn prune(&self, object: &mut Value, root: bool) -> Vec<String> {
        let mut pruner = Pruner::default();
        pruner.prune(Some(self), object, root || self.embedded);
        pruner.gone.sort_unstable();
        pruner.gone
    }

    /// Removes all fields of an object without a schema but those that every object has; gives their paths, sorted.
    pub fn prune_all(object: &mut Value) -> Vec<String> {
        let mut pruner = Pruner::default();
        pruner.prune(None, object, true);
        pruner.gone.sort_unstable();
        pruner.gone
    }
}

#[derive(Default)]
struct Pruner {
    path: String,
    gone: Vec<String>,
}

impl Pruner {
    fn at<R>(&mut self, part: &str, dot: bool, f: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.path.len();
        if dot && len > 0 {
            self.path.push('.');
        }
        self.path.push_str(part);
        let r = f(self);
        self.path.truncate(len);
        r
    }

    fn below(&mut self, s: Option<&Structural>, key: &str, v: &mut Value) {
        let embedded = s.is_some_and(|s| s.embedded);
        self.at(key, true, |p| p.prune(s, v, embedded));
    }

    /// `resource`: this has metadata of its own. Without a schema nothing in objects is known.
    fn prune(&mut self, s: Option<&Structural>, v: &mut Value, resource: bool) {
        if let Some(s) = s.filter(|s| s.preserve_unknown) {
            return self.keep(s, v, resource);
        }
        match v {
            Value::Object(map) => {
                let any = s.is_some_and(|s| s.additional.is_some() || s.additional_any.is_some());
                map.retain(|key, value| {
                    let is_meta = ROOT.contains(&key.as_str());
                    if resource && is_meta {
                        return true;
                    }
                    let below = s.and_then(|s| s.below(key));
                    if below.is_some() || any {
                        self.below(below, key, value);
                        return true;
                    }
                    if !is_meta || !self.path.is_empty() || s.is_none() {
                        let path = self.at(key, true, |p| p.path.clone());
                        self.gone.push(path);
                    }
                    false
                });
            }
            Value::Array(items) => {
                let below = s.and_then(|s| s.items.as_deref());
                for (i, item) in items.iter_mut().enumerate() {
                    let embedded = below.is_some_and(|b| b.embedded);
                    self.at(&format!("[{i}]"), false, |p| p.prune(below, item, embedded));
                }
            }
            _ => {}
        }
    }

    /// Where unknown fields stay: only what the schema knows is looked into.
    fn keep(&mut self, s: &Structural, v: &mut Value, resource: bool) {
        match v {
            Value::Object(map) => {
                let any = s.additional.is_some() || s.additional_any.is_some();
                for (key, value) in map.iter_mut() {
                    if resource && ROOT.contains(&key.as_str()) {
                        continue;
                    }
                    let below = s.below(key);
                    if below.is_some() || any {
                        self.below(below, key, value);
                    }
                }
            }
            Value::Array(items) => {
                let Some(below) = s.items.as_deref() else {
                    return;
                };
                for (i, item) in items.iter_mut().enumerate() {
                    self.at(&format!("[{i}]"), false, |p| {
                        p.keep(below, item, below.embedded)
                    });
                }
            }
            _ => {}
        }
    }
}
