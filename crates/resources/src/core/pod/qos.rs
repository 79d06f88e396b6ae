//! The QoS class of a pod. Upstream: pkg/apis/core/v1/helper/qos ComputePodQOS; validation-pod §13.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use machinery::object::{list_at, map_at};
use serde_json::Value;

/// The class of a pod spec, as status.qosClass stores it.
pub fn class(spec: &Value) -> &'static str {
    let owners: Vec<&Value> = match spec.get("resources").filter(|r| r.is_object()) {
        Some(_) => vec![spec],
        None => ["containers", "initContainers"]
            .iter()
            .flat_map(|l| list_at(spec, l))
            .collect(),
    };
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut limited = true;
    for owner in owners {
        sum(owner, "resources.requests", &mut requests);
        let found = sum(owner, "resources.limits", &mut limits);
        limited &= found == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = limited
        && requests.len() == limits.len()
        && requests.iter().all(|(k, q)| limits.get(k) == Some(q));
    if equal { "Guaranteed" } else { "Burstable" }
}

/// Adds one owner's cpu and memory; gives how many of the two are not zero.
fn sum(owner: &Value, path: &str, into: &mut BTreeMap<String, Quantity>) -> usize {
    let mut found = 0;
    for (name, value) in map_at(owner, path).into_iter().flatten() {
        if name != "cpu" && name != "memory" {
            continue;
        }
        let Some(q) = super::super::amounts::read(value).filter(|q| q.sign() > 0) else {
            continue;
        };
        found += 1;
        let total = into.get(name).map_or(q, |t| t.add(&q));
        into.insert(name.clone(), total);
    }
    found
}
