//! How resource.k8s.io/v1beta1 differs from v1: a request's own fields stand beside its name instead of within
//! `exactly`, a device's within `basic`. Upstream: pkg/apis/resource/v1beta1/conversion.go.

use machinery::object::at_mut;
use serde_json::{Map, Value};

use crate::versions::Shape;

/// Claims.
pub const CLAIM: Shape = Shape {
    to_stored: |claim| requests(claim, "spec.devices.requests", inward),
    from_stored: |claim| requests(claim, "spec.devices.requests", outward),
};

/// Templates of claims.
pub const TEMPLATE: Shape = Shape {
    to_stored: |template| requests(template, "spec.spec.devices.requests", inward),
    from_stored: |template| requests(template, "spec.spec.devices.requests", outward),
};

/// Slices.
pub const SLICE: Shape = Shape {
    to_stored: |slice| {
        requests(slice, "spec.devices", |device| {
            if let Some(Value::Object(basic)) = device.remove("basic") {
                device.extend(basic);
            }
        });
    },
    from_stored: |slice| {
        requests(slice, "spec.devices", |device| {
            let name = device.remove("name");
            let basic = std::mem::take(device);
            device.extend(name.map(|n| ("name".to_string(), n)));
            device.insert("basic".into(), Value::Object(basic));
        });
    },
};

/// Calls `change` for each object of a list.
fn requests(obj: &mut Value, path: &str, change: fn(&mut Map<String, Value>)) {
    let all = at_mut(obj, path).and_then(Value::as_array_mut);
    for one in all.into_iter().flatten() {
        if let Some(fields) = one.as_object_mut() {
            change(fields);
        }
    }
}

/// Fields that stay beside a request's name.
const OUTER: [&str; 2] = ["name", "firstAvailable"];

fn inward(request: &mut Map<String, Value>) {
    let mut outer = Map::new();
    for key in OUTER {
        outer.extend(request.remove(key).map(|v| (key.to_string(), v)));
    }
    let alternatives = outer.get("firstAvailable").and_then(Value::as_array);
    if !request.is_empty() || alternatives.is_none_or(Vec::is_empty) {
        let own = std::mem::take(request);
        request.insert("exactly".into(), Value::Object(own));
    }
    request.extend(outer);
}

fn outward(request: &mut Map<String, Value>) {
    if let Some(Value::Object(exactly)) = request.remove("exactly") {
        request.extend(exactly);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_and_devices_come_back_as_they_were() {
        let claim = json!({"spec": {"devices": {"requests": [
            {"name": "a", "deviceClassName": "c", "count": 2},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]}]}}});
        let mut stored = claim.clone();
        (CLAIM.to_stored)(&mut stored);
        let requests = &stored["spec"]["devices"]["requests"];
        assert_eq!(requests[0]["exactly"]["count"], 2);
        assert_eq!(requests[1].get("exactly"), None);
        (CLAIM.from_stored)(&mut stored);
        assert_eq!(stored, claim);
        let slice = json!({"spec": {"devices": [{"name": "d", "basic": {"allNodes": true}}]}});
        let mut stored = slice.clone();
        (SLICE.to_stored)(&mut stored);
        assert_eq!(
            stored["spec"]["devices"][0],
            json!({"name": "d", "allNodes": true})
        );
        (SLICE.from_stored)(&mut stored);
        assert_eq!(stored, slice);
    }
}
