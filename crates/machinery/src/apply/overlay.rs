//! Configurations that mutating policies lay over objects: merged as applied ones are, but nothing is owned
//! and nothing that is one whole may be given. Upstream: plugin/policy/mutating/patch/smd.go.

use serde_json::Value;

use super::merge::merge;
use super::types::{Form, TypeRef};
use super::validate;

/// `live` with what `config` says. The error is upstream's text.
pub fn overlay(t: TypeRef<'_>, live: &Value, config: &Value) -> Result<Value, String> {
    let problems = validate::validate(t, config, false);
    if !problems.is_empty() {
        let text = validate::text(&problems);
        return Err(format!(
            "failed to convert patch object to typed object: {text}"
        ));
    }
    let mut whole = Vec::new();
    atomics(t, config, String::new(), &mut whole);
    if !whole.is_empty() {
        let text = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs";
        return Err(format!("{text}: {}", whole.join(", ")));
    }
    Ok(merge(t, live, config))
}

/// The paths of values that are owned as one.
fn atomics(t: TypeRef<'_>, value: &Value, path: String, out: &mut Vec<String>) {
    match (t.form(Some(value)), value) {
        (Form::Map(m), Value::Object(map)) => {
            if m.atomic {
                out.push(path.clone());
            }
            for (name, v) in map {
                if let Some(t) = m.declared(name) {
                    atomics(t, v, format!("{path}.{name}"), out);
                }
            }
        }
        (Form::List(l), Value::Array(items)) => {
            if l.atomic {
                out.push(path.clone());
            }
            for (i, v) in items.iter().enumerate() {
                atomics(l.item, v, format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::types::built_in;
    use serde_json::json;

    #[test]
    fn atomic_values_are_refused_and_others_merged() {
        let t = built_in("apps", "v1", "Deployment");
        let live = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1}});
        let config = json!({"metadata": {"labels": {"b": "2"}}, "spec": {"replicas": 5}});
        assert_eq!(
            overlay(t, &live, &config),
            Ok(json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"replicas": 5}}))
        );
        let config = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
        let text = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector";
        assert_eq!(overlay(t, &live, &config), Err(text.to_string()));
    }
}
