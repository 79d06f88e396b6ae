//! Whole objects against their schema: values, embedded resources, lists, rules, scale.
//! Upstream: apiextensions-apiserver/pkg/registry/customresource/{strategy,status_strategy,validator}.go.

use machinery::causes::{CauseKind, go_float, go_type, is_float};
use machinery::{Causes, SubresourceKind};
use serde_json::{Value, json};

use super::correlate::Old;
use super::{Outcome, Structural, list_type, meta, rules};

const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// What is checked of a write.
pub struct Check<'a> {
    pub object: &'a Value,
    pub before: Option<&'a Value>,
    /// Only the status is written.
    pub status: bool,
    /// The scale subresource's paths.
    pub scale: Option<&'a SubresourceKind>,
}

impl Structural {
    /// Adds what is wrong with an object to the causes, where its metadata is judged already.
    pub fn validate(&self, check: &Check<'_>, c: &mut Causes) {
        self.validate_values(check, c);
        self.validate_rest(check, c);
    }

    /// Adds what is wrong with values and scale.
    fn validate_values(&self, check: &Check<'_>, c: &mut Causes) {
        let Check { object, before, .. } = *check;
        if check.status {
            self.status_values(object, before, c);
        } else {
            let old = before.map_or_else(Old::default, |b| Old::of(b, self));
            Outcome::of(self, object, old).report(c);
        }
        check.scale(c);
    }

    /// Adds what is wrong with embedded objects and lists, and what rules say. Upstream looks at these of an object of
    /// another kind too.
    pub fn validate_rest(&self, check: &Check<'_>, c: &mut Causes) {
        let Check { object, before, .. } = *check;
        if !check.status {
            meta::validate(self, object, c);
        }
        let lists = |v: &Value| {
            let mut found = Causes::new();
            list_type::validate(self, v, &mut found);
            found
        };
        let found = lists(object);
        if !found.is_empty() && before.is_none_or(|b| lists(b).is_empty()) {
            found.as_slice().iter().for_each(|f| c.add(f.clone()));
        }
        if !self.has_rules {
            return;
        }
        // Nothing is run on objects of a wrong shape.
        let shape = |kind: CauseKind| {
            use CauseKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
            matches!(
                kind,
                NotSupported | Required | TooLong | TooMany | TypeInvalid
            )
        };
        if c.as_slice().iter().any(|x| shape(x.kind)) {
            return c.invalid(&Value::Null, NOT_CHECKED);
        }
        rules::validate(self, object, before, c);
    }

    /// Adds what is wrong with a default of this node. `root`: the node is a resource's.
    pub fn check_default(&self, default: &Value, root: bool, c: &mut Causes) {
        let begun = c.len();
        Outcome::of(self, default, Old::default()).report(c);
        // As a value that stays, and as one that comes.
        for old in [Some(default), None] {
            if self.has_rules && c.len() == begun {
                rules::validate_default(self, root, default, old, c);
            }
        }
    }

    fn status_values(&self, object: &Value, before: Option<&Value>, c: &mut Causes) {
        let (Some(schema), Some(status)) = (self.properties.get("status"), object.get("status"))
        else {
            return;
        };
        let old = before.map_or_else(Old::default, |b| Old::of(b, self).key("status"));
        let found = Outcome::of(schema, status, old);
        c.at("status", |c| found.report(c));
    }
}

impl Check<'_> {
    fn scale(&self, c: &mut Causes) {
        let Some(SubresourceKind::Scale {
            spec,
            status,
            selector,
        }) = self.scale
        else {
            return;
        };
        if !self.status {
            replicas(self.object, spec, c);
        }
        replicas(self.object, status, c);
        if !selector.is_empty()
            && let Err(why) = nested(self.object, selector, "string", Value::is_string)
        {
            c.at(&format!(".{selector}"), |c| c.invalid(&json!(""), why));
        }
    }
}

fn replicas(object: &Value, path: &str, c: &mut Causes) {
    let found = nested(object, path, "int64", Value::is_i64);
    c.at(&format!(".{path}"), |c| match found {
        Err(why) => c.invalid(&json!(0), why),
        Ok(None) => {}
        Ok(Some(v)) => match v.as_i64() {
            Some(n) if n < 0 => c.invalid(v, "should be a non-negative integer"),
            Some(n) if n <= i64::from(i32::MAX) => {}
            _ => c.invalid(v, format!("should be less than or equal to {}", i32::MAX)),
        },
    });
}

/// What lies at a path; an error where something on the way is of another type.
fn nested<'a>(
    object: &'a Value,
    path: &str,
    wanted: &str,
    fits: fn(&Value) -> bool,
) -> Result<Option<&'a Value>, String> {
    let mut v = object;
    let mut end = 0;
    for name in path.split('.') {
        if v.is_null() {
            return Ok(None);
        }
        end += name.len();
        let Some(map) = v.as_object() else {
            return Err(format!(
                ".{} accessor error: {} is of the type {}, expected map[string]interface{{}}",
                &path[..end],
                go_value(v),
                go_type(v)
            ));
        };
        let Some(below) = map.get(name) else {
            return Ok(None);
        };
        v = below;
        end += 1;
    }
    if fits(v) {
        return Ok(Some(v));
    }
    Err(format!(
        ".{path} accessor error: {} is of the type {}, expected {wanted}",
        go_value(v),
        go_type(v)
    ))
}

/// Go's `%v` of a value.
fn go_value(v: &Value) -> String {
    match v {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.clone(),
        Value::Number(n) if is_float(n) => go_float(n.as_f64().unwrap_or(0.0)),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(go_value).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(map) => {
            let all: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", go_value(v)))
                .collect();
            format!("map[{}]", all.join(" "))
        }
        other => other.to_string(),
    }
}
