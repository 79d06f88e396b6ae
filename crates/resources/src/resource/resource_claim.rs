//! ResourceClaim. Upstream: pkg/registry/resource/resourceclaim, pkg/apis/resource/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, is_deleting, list_at, remove, set, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::GROUP;
use super::devices::{self, RequestNames};
use crate::cells;
use crate::checks::selectors::node_selector;
use crate::fields;

const RESERVED_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const CONFIG_MAX: usize = 64;
const CONDITIONS_MAX: usize = 8;
const BINDING_MAX: usize = 4;
const DATA_MAX: usize = 10 << 10;
const IPS_MAX: usize = 16;

struct ResourceClaim;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ResourceClaim",
        "resourceclaims",
        Scope::Namespaced,
        ResourceClaim,
    )
    .status()
}

impl Strategy for ResourceClaim {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        devices::set_defaults(obj, "spec");
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
        drop_deallocated(obj, before);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| devices::claim_spec(spec, c));
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        fields::frozen(obj, before, "spec", causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        causes.at("status", |c| status_rules(obj, before, c));
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("State"), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let mut state = Vec::new();
        let allocated = at(obj, "status.allocation").is_some();
        if is_deleting(obj) {
            state.push("deleted");
        }
        if allocated {
            state.push("allocated");
            if !list_at(obj, "status.reservedFor").is_empty() {
                state.push("reserved");
            }
        } else if state.is_empty() {
            state.push("pending");
        }
        vec![
            cells::name(obj),
            json!(state.join(",")),
            cells::age(obj, now),
        ]
    }
}

/// What names a device: driver, pool, device and share.
fn identity(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|f| str_at(device, f))
}

/// Drops the state of devices that were allocated and are no more.
fn drop_deallocated(obj: &mut Value, before: &Value) {
    let results = |o: &Value| list_at(o, "status.allocation.devices.results").to_vec();
    let (old, new) = (results(before), results(obj));
    let was = list_at(obj, "status.devices").to_vec();
    if was.is_empty() {
        return;
    }
    let holds = |all: &[Value], d: &Value| all.iter().any(|r| identity(r) == identity(d));
    let kept: Vec<Value> = was
        .iter()
        .filter(|d| !holds(&old, d) || holds(&new, d))
        .cloned()
        .collect();
    if kept.is_empty() {
        remove(obj, "status.devices");
    } else if kept.len() < was.len() {
        set(obj, "status.devices", json!(kept));
    }
}

fn status_rules(obj: &Value, before: &Value, c: &mut Causes) {
    let status = obj.get("status").unwrap_or(&Value::Null);
    let (new, old) = (at(status, "allocation"), at(before, "status.allocation"));
    devices::limited(status, "reservedFor", RESERVED_MAX, c, &mut |one, c| {
        for field in ["resource", "name", "uid"] {
            fields::required(one, field, c);
        }
    });
    let reserved = list_at(status, "reservedFor");
    c.at("reservedFor", |c| {
        for (i, one) in reserved.iter().enumerate() {
            if reserved[..i].iter().any(|o| o.get("uid") == one.get("uid")) {
                c.index(i, |c| c.duplicate(one));
            }
        }
    });
    device_states(status, new, c);
    let was = list_at(before, "status.reservedFor");
    c.at("reservedFor", |c| {
        if !reserved.is_empty() && new.is_none() {
            c.forbidden("may not be specified when `allocated` is not set");
        } else if is_deleting(obj) && reserved.iter().any(|r| !was.contains(r)) {
            c.forbidden("new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set");
        }
    });
    match (new, old) {
        (Some(new), Some(old)) if new != old => c.at("allocation", |c| {
            c.invalid(&Value::Null, "field cannot be modified once set");
        }),
        (Some(new), None) => {
            let spec = at(obj, "spec.devices").unwrap_or(&Value::Null);
            let known = RequestNames::of(spec);
            c.at("allocation", |c| allocation(new, &known, c));
        }
        _ => {}
    }
}

fn allocation(new: &Value, known: &RequestNames, c: &mut Causes) {
    let all = at(new, "devices").unwrap_or(&Value::Null);
    c.at("devices", |c| {
        devices::limited(all, "results", RESULTS_MAX, c, &mut |one, c| {
            c.at("request", |c| known.check(str_at(one, "request"), c));
            devices::driver(one, "driver", c);
            devices::pool(one, "pool", c);
            fields::required_text(one, "device", names::dns1123_label, c);
            binding(one, c);
        });
        devices::limited(all, "config", CONFIG_MAX, c, &mut |one, c| {
            fields::required_enum(one, "source", &["FromClaim", "FromClass"], c);
            known.check_list(one, c);
            devices::configuration(one, c);
        });
    });
    if let Some(selector) = at(new, "nodeSelector") {
        c.at("nodeSelector", |c| node_selector(selector, true, c));
    }
}

/// The conditions a device waits for, and those that end the wait.
pub fn binding(device: &Value, c: &mut Causes) {
    let (good, bad) = (
        list_at(device, "bindingConditions"),
        list_at(device, "bindingFailureConditions"),
    );
    for (field, all) in [
        ("bindingConditions", good),
        ("bindingFailureConditions", bad),
    ] {
        if all.len() > BINDING_MAX {
            c.at(field, |c| c.too_many(all.len(), BINDING_MAX));
        }
    }
    for (i, one) in bad.iter().enumerate() {
        if good.contains(one) {
            c.at("bindingFailureConditions", |c| {
                c.index(i, |c| {
                    c.invalid(
                        one,
                        "bindingFailureConditions must not overlap with bindingConditions",
                    );
                });
            });
        }
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, false) => c.at("bindingConditions", |c| {
            c.invalid(
                &json!(good),
                "bindingConditions are required to use bindingFailureConditions",
            );
        }),
        (false, true) => c.at("bindingFailureConditions", |c| {
            c.invalid(
                &json!(bad),
                "bindingFailureConditions are required to use bindingConditions",
            );
        }),
        _ => {}
    }
}

fn device_states(status: &Value, allocation: Option<&Value>, c: &mut Causes) {
    let results = allocation.map_or(&[][..], |a| list_at(a, "devices.results"));
    let all = list_at(status, "devices");
    for (i, device) in all.iter().enumerate() {
        c.at("devices", |c| {
            c.index(i, |c| {
                devices::driver(device, "driver", c);
                devices::pool(device, "pool", c);
                fields::required_text(device, "device", names::dns1123_label, c);
                if !results.iter().any(|r| identity(r) == identity(device)) {
                    let [driver, pool, name, _] = identity(device);
                    let shown = json!(format!("{driver}/{pool}/{name}"));
                    c.invalid(&shown, "must be an allocated device in the claim");
                }
                if all[..i].iter().any(|o| identity(o) == identity(device)) {
                    c.duplicate(device);
                }
                let conditions = list_at(device, "conditions");
                c.at("conditions", |c| {
                    if conditions.len() > CONDITIONS_MAX {
                        c.too_many(conditions.len(), CONDITIONS_MAX);
                    }
                    fields::conditions(conditions, c);
                });
                devices::object_text(device, "data", DATA_MAX, false, c);
                if let Some(data) = at(device, "networkData") {
                    c.at("networkData", |c| network_data(data, c));
                }
            });
        });
    }
}

fn network_data(data: &Value, c: &mut Causes) {
    for (field, max) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if str_at(data, field).len() > max {
            c.at(field, |c| c.too_long(max));
        }
    }
    let ips = list_at(data, "ips");
    if ips.len() > IPS_MAX {
        c.at("ips", |c| c.too_many(ips.len(), IPS_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "a.b"}}]}}});
        ResourceClaim.set_defaults(&mut obj);
        obj
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(
            good()["spec"]["devices"]["requests"][0]["exactly"]["allocationMode"],
            "ExactCount"
        );
        assert_eq!(texts(|c| ResourceClaim.validate(&good(), c)), [""; 0]);
        for (path, value, expected) in [
            (
                "spec.devices.requests",
                json!([{"name": "r"}]),
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            ),
            (
                "spec.devices.requests",
                json!([{"name": "r", "exactly": {"deviceClassName": "x", "allocationMode": "All", "count": 2}}]),
                "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
            ),
            (
                "spec.devices.constraints",
                json!([{"requests": ["x"], "matchAttribute": "a.b/c"}]),
                "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            ),
            (
                "spec.devices.config",
                json!([{"opaque": {"driver": "a.b", "parameters": "x"}}]),
                "spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            assert_eq!(texts(|c| ResourceClaim.validate(&obj, c)), [expected]);
        }
    }

    #[test]
    fn allocations_are_set_once() {
        let with = |status: Value| {
            let mut obj = good();
            set(&mut obj, "status", status);
            obj
        };
        let check = |new: Value, old: Value| {
            texts(|c| ResourceClaim.validate_status_update(&with(new), &with(old), c))
        };
        assert_eq!(check(json!({"allocation": {}}), json!({})), [""; 0]);
        let result = json!({"devices": {"results": [{"request": "r", "driver": "d.e", "pool": "p", "device": "x"}]}});
        assert_eq!(
            check(json!({"allocation": result}), json!({"allocation": {}})),
            ["status.allocation: Invalid value: null: field cannot be modified once set"]
        );
        assert_eq!(
            check(
                json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}),
                json!({})
            ),
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
    }
}
