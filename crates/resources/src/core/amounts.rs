//! Lists of resources: reading, adding up. Upstream: component-helpers/resource; validation-pod §14.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use machinery::object::{list_at, map_at, str_at};
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
