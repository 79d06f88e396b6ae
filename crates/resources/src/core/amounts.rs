//! Lists of resources: reading, adding up. Upstream: component-helpers/resource; validation-pod §14.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use machinery::object::{at_mut, list_at, map_at, str_at};
use serde_json::Value;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// A quantity, written as text or as a bare number.
pub fn read(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(s) => Quantity::parse(s.trim()).ok(),
        Value::Number(n) => Quantity::parse(&n.to_string()).ok(),
        _ => None,
    }
}

/// The list at a path; what does not parse is left out.
pub fn list(obj: &Value, path: &str) -> Amounts {
    map_at(obj, path)
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), read(v)?)))
        .collect()
}

/// Rewrites the amount at a path as the API shows it: canonical, in whole thousandths, rounded up.
pub fn canonical(obj: &mut Value, path: &str) {
    if let Some(value) = at_mut(obj, path) {
        rewrite(value);
    }
}

/// `canonical` for every amount of the list at a path.
pub fn canonical_list(obj: &mut Value, path: &str) {
    if let Some(Value::Object(list)) = at_mut(obj, path) {
        list.values_mut().for_each(rewrite);
    }
}

/// What does not parse stays: validation refuses it.
fn rewrite(value: &mut Value) {
    let Some(q) = read(value) else { return };
    let milli = q.milli_value();
    let rounded = Quantity::from_milli(milli);
    let kept = milli.unsigned_abs() >= i64::MAX as u64 || rounded == q;
    *value = Value::String(if kept { q } else { rounded }.to_string());
}

/// What the containers of a spec come to together: `requests` or `limits`, without pod-level
/// resources and overhead.
pub fn aggregate(spec: &Value, which: &str) -> Amounts {
    let own = |c: &Value| list(c, &format!("resources.{which}"));
    let mut sum = Amounts::new();
    for c in list_at(spec, "containers") {
        add(&mut sum, &own(c));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for c in list_at(spec, "initContainers") {
        let one = own(c);
        let now = if str_at(c, "restartPolicy") == "Always" {
            add(&mut sum, &one);
            add(&mut sidecars, &one);
            sidecars.clone()
        } else {
            let mut now = sidecars.clone();
            add(&mut now, &one);
            now
        };
        raise(&mut peak, &now);
    }
    raise(&mut sum, &peak);
    sum
}

fn add(into: &mut Amounts, more: &Amounts) {
    for (name, q) in more {
        let total = into.get(name).map_or(*q, |t| t.add(q));
        into.insert(name.clone(), total);
    }
}

fn raise(into: &mut Amounts, other: &Amounts) {
    for (name, q) in other {
        if into.get(name).is_none_or(|t| t < q) {
            into.insert(name.clone(), *q);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_are_shown_in_one_way() {
        for (given, shown) in [
            (json!("0.1"), "100m"),
            (json!("1024Mi"), "1Gi"),
            (json!(2), "2"),
            (json!("100m"), "100m"),
            (json!("1n"), "1m"),
            (json!("1e3"), "1e3"),
            (json!("7Ei"), "7Ei"),
            (json!("odd"), "odd"),
        ] {
            let mut obj = json!({"a": {"b": given}});
            canonical_list(&mut obj, "a");
            assert_eq!(obj["a"]["b"], shown);
            canonical(&mut obj, "a.b");
            assert_eq!(obj["a"]["b"], shown, "twice is once");
        }
    }
}
