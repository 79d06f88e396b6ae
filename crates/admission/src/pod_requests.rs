//! What a pod asks for in all. Upstream: component-helpers/resource, LimitRanger's and quota's sums.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use machinery::object::{at, list_at, map_at, str_at};
use serde_json::Value;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what does not parse is left out (validation refuses it).
pub fn list(value: Option<&Value>) -> Amounts {
    let Some(map) = value.and_then(Value::as_object) else {
        return Amounts::new();
    };
    map.iter()
        .filter_map(|(k, v)| Some((k.clone(), amount(v)?)))
        .collect()
}

/// A quantity, written as text or as a bare number.
pub fn amount(v: &Value) -> Option<Quantity> {
    match v {
        Value::String(s) => Quantity::parse(s).ok(),
        Value::Number(n) => Quantity::parse(&n.to_string()).ok(),
        _ => None,
    }
}

/// `requests` or `limits` of one container.
pub fn of_container(container: &Value, which: &str) -> Amounts {
    list(at(container, "resources").and_then(|r| r.get(which)))
}

/// `requests` or `limits` of a pod: containers and sidecars together, or the hungriest moment of
/// initialisation; pod-level cpu, memory and huge pages win. Without overhead.
pub fn of_pod(pod: &Value, which: &str) -> Amounts {
    let mut sum = Amounts::new();
    for c in list_at(pod, "spec.containers") {
        add(&mut sum, &of_container(c, which));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for c in list_at(pod, "spec.initContainers") {
        let own = of_container(c, which);
        if str_at(c, "restartPolicy") == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut now = sidecars.clone();
            add(&mut now, &own);
            raise(&mut peak, &now);
        }
    }
    raise(&mut sum, &peak);
    for (name, q) in list(at(pod, "spec.resources").and_then(|r| r.get(which))) {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            sum.insert(name, q);
        }
    }
    sum
}

/// `of_pod` with the overhead that scheduling and quota count.
pub fn with_overhead(pod: &Value, which: &str) -> Amounts {
    let mut sum = of_pod(pod, which);
    let Some(overhead) = map_at(pod, "spec.overhead") else {
        return sum;
    };
    for (name, q) in list(Some(&Value::Object(overhead.clone()))) {
        // Upstream: overhead is added to limits only where there is one.
        if which == "requests" || sum.contains_key(&name) {
            let total = sum.get(&name).map_or(q, |s| s.add(&q));
            sum.insert(name, total);
        }
    }
    sum
}

/// Adds `b` to `a`.
pub fn add(a: &mut Amounts, b: &Amounts) {
    for (name, q) in b {
        let total = a.get(name).map_or(*q, |own| own.add(q));
        a.insert(name.clone(), total);
    }
}

/// Raises each amount of `a` to that of `b`.
fn raise(a: &mut Amounts, b: &Amounts) {
    for (name, q) in b {
        if a.get(name).is_none_or(|own| own < q) {
            a.insert(name.clone(), *q);
        }
    }
}
