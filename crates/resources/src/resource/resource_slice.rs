//! ResourceSlice. Upstream: pkg/registry/resource/resourceslice, pkg/apis/resource/validation.

use api::names;
use api::quantity::Quantity;
use jiff::Timestamp;
use machinery::object::{at, bool_at, i64_at, list_at, map_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, devices, resource_claim};
use crate::cells;
use crate::checks::selectors::node_selector;
use crate::fields;

const DEVICES_MAX: usize = 128;
/// Most devices where taints, counters or lists make each heavier.
const HEAVY_DEVICES_MAX: usize = 64;
const PROPERTIES_MAX: usize = 32;
const TEXT_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const CONSUMED_MAX: usize = 2;
const ONE_OF: &str =
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

struct ResourceSlice;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ResourceSlice",
        "resourceslices",
        Scope::Cluster,
        ResourceSlice,
    )
}

fn taint_times(obj: &mut Value, cx: &WriteContext) {
    if let Some(Value::Array(all)) = machinery::object::at_mut(obj, "spec.devices") {
        for device in all {
            devices::taint_times(device, "taints", cx.now);
        }
    }
}

impl Strategy for ResourceSlice {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_create(&self, obj: &mut Value, cx: &WriteContext) {
        taint_times(obj, cx);
    }

    fn prepare_update(&self, obj: &mut Value, _before: &Value, cx: &WriteContext) {
        taint_times(obj, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| spec_rules(spec, c));
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        for field in ["spec.pool.name", "spec.driver", "spec.nodeName"] {
            fields::immutable(obj, before, field, causes);
        }
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        let driver = str_at(obj, "spec.driver");
        if driver.bytes().any(|b| b.is_ascii_uppercase()) {
            return vec![format!(
                "spec.driver: driver names should be lowercase; \"{driver}\" contains uppercase characters"
            )];
        }
        Vec::new()
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["spec.nodeName", "spec.driver", "spec.pool.name"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        ["spec.nodeName", "spec.driver", "spec.pool.name"]
            .iter()
            .map(|key| (*key, str_at(obj, key).to_string()))
            .collect()
    }

    fn columns(&self) -> Vec<Column> {
        ["Node", "Driver", "Pool", "Age"]
            .into_iter()
            .fold(vec![Column::name()], |mut all, name| {
                all.push(Column::new(name));
                all
            })
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let text = |path| json!(str_at(obj, path));
        vec![
            cells::name(obj),
            text("spec.nodeName"),
            text("spec.driver"),
            text("spec.pool.name"),
            cells::age(obj, now),
        ]
    }
}

fn spec_rules(spec: &Value, c: &mut Causes) {
    devices::driver(spec, "driver", c);
    let pool = at(spec, "pool").unwrap_or(&Value::Null);
    c.at("pool", |c| {
        devices::pool(pool, "name", c);
        let count = i64_at(pool, "resourceSliceCount").unwrap_or(0);
        if count <= 0 {
            c.at("resourceSliceCount", |c| {
                c.invalid(&json!(count), fields::POSITIVE);
            });
        }
        fields::at_least(
            pool,
            "generation",
            0,
            "must be greater than or equal to zero",
            c,
        );
    });
    where_it_is(spec, c);
    let (counters, all) = (list_at(spec, "sharedCounters"), list_at(spec, "devices"));
    if at(spec, "sharedCounters").is_some() && at(spec, "devices").is_some() {
        c.invalid(
            &json!(""),
            "only one of `sharedCounters` or `devices` is allowed",
        );
    }
    let heavy =
        |d: &Value| !list_at(d, "taints").is_empty() || !list_at(d, "consumesCounters").is_empty();
    let max = if all.iter().any(heavy) {
        HEAVY_DEVICES_MAX
    } else {
        DEVICES_MAX
    };
    devices::limited(spec, "devices", max, c, &mut |one, c| device(one, c));
    c.at("devices", |c| fields::unique(all, "name", c));
    devices::limited(
        spec,
        "sharedCounters",
        COUNTER_SETS_MAX,
        c,
        &mut |one, c| {
            fields::required_text(one, "name", names::dns1123_label, c);
            if map_at(one, "counters").is_none_or(serde_json::Map::is_empty) {
                c.at("counters", |c| c.required(""));
            }
        },
    );
    c.at("sharedCounters", |c| fields::unique(counters, "name", c));
}

/// Checks which nodes the slice's devices can be used from.
fn where_it_is(spec: &Value, c: &mut Causes) {
    let mut given = Vec::new();
    match at(spec, "nodeName").and_then(Value::as_str) {
        None => {}
        Some("") => c.at("nodeName", |c| {
            c.invalid(
                &json!(""),
                "must be either unset or set to a non-empty string",
            );
        }),
        Some(name) => {
            given.push("`nodeName`");
            c.at("nodeName", |c| {
                fields::text(name, names::dns1123_subdomain, c);
            });
        }
    }
    if let Some(selector) = at(spec, "nodeSelector") {
        given.push("`nodeSelector`");
        c.at("nodeSelector", |c| {
            node_selector(selector, true, c);
            let terms = list_at(selector, "nodeSelectorTerms");
            if terms.len() != 1 {
                c.at("nodeSelectorTerms", |c| {
                    c.invalid(&json!(terms), "must have exactly one node selector term");
                });
            }
        });
    }
    for (field, shown) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        match bool_at(spec, field) {
            None => {}
            Some(true) => given.push(shown),
            Some(false) => c.at(field, |c| {
                c.invalid(&json!(false), "must be either unset or set to true");
            }),
        }
    }
    match given.len() {
        0 => c.required(ONE_OF),
        1 => {}
        _ => c.invalid(
            &json!(format!("{{{}}}", given.join(", "))),
            format!("{ONE_OF}, but multiple fields are set"),
        ),
    }
}

fn device(device: &Value, c: &mut Causes) {
    fields::required_text(device, "name", names::dns1123_label, c);
    let (attributes, capacity) = (map_at(device, "attributes"), map_at(device, "capacity"));
    let count =
        attributes.map_or(0, serde_json::Map::len) + capacity.map_or(0, serde_json::Map::len);
    if count > PROPERTIES_MAX {
        c.invalid(
            &json!(count),
            "the total number of attributes and capacities must not exceed 32",
        );
    }
    for (name, value) in attributes.into_iter().flatten() {
        c.at("attributes", |c| {
            c.key(name, |c| {
                devices::qualified(name, c);
                attribute(value, c);
            });
        });
    }
    for (name, value) in capacity.into_iter().flatten() {
        c.at("capacity", |c| {
            c.key(name, |c| {
                devices::qualified(name, c);
                let text = at(value, "value").map_or_else(String::new, |v| {
                    v.as_str().map_or_else(|| v.to_string(), str::to_string)
                });
                if let Err(e) = Quantity::parse(&text) {
                    c.at("value", |c| c.invalid(&json!(text), e.to_string()));
                }
                if at(value, "requestPolicy").is_some()
                    && bool_at(device, "allowMultipleAllocations") != Some(true)
                {
                    c.at("requestPolicy", |c| {
                        c.forbidden("allowMultipleAllocations must be true");
                    });
                }
            });
        });
    }
    for (i, taint) in list_at(device, "taints").iter().enumerate() {
        c.at("taints", |c| c.index(i, |c| devices::taint(taint, c)));
    }
    let consumed = list_at(device, "consumesCounters");
    if consumed.len() > CONSUMED_MAX {
        c.at("consumesCounters", |c| {
            c.too_many(consumed.len(), CONSUMED_MAX);
        });
    }
    resource_claim::binding(device, c);
}

/// One value of one of the types.
fn attribute(value: &Value, c: &mut Causes) {
    let members = [
        "bool", "bools", "int", "ints", "string", "strings", "version", "versions",
    ];
    let given: Vec<&str> = members
        .into_iter()
        .filter(|m| at(value, m).is_some())
        .collect();
    let list: Vec<String> = members.iter().map(|m| format!("`{m}`")).collect();
    match given.len() {
        0 => c.invalid(
            &json!(""),
            format!("must specify one of: {}", list.join(", ")),
        ),
        1 => {}
        _ => c.invalid(
            &json!(format!("{{{}}}", given.join(", "))),
            format!("must specify exactly one of: {}", list.join(", ")),
        ),
    }
    for field in ["string", "version"] {
        let text = str_at(value, field);
        c.at(field, |c| {
            if text.len() > TEXT_MAX {
                c.too_long(TEXT_MAX);
            }
            if field == "version" && !text.is_empty() && !is_semver(text) {
                c.invalid(
                    &json!(text),
                    "must be a string compatible with semver.org spec 2.0.0",
                );
            }
        });
    }
}

fn is_semver(text: &str) -> bool {
    let (rest, build) = text
        .split_once('+')
        .map_or((text, None), |(r, b)| (r, Some(b)));
    let (core, pre) = rest
        .split_once('-')
        .map_or((rest, None), |(r, p)| (r, Some(p)));
    let number = |s: &str| {
        !s.is_empty()
            && s.bytes().all(|b| b.is_ascii_digit())
            && (s.len() == 1 || !s.starts_with('0'))
    };
    let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let numeric = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = core.split('.').collect();
    parts.len() == 3
        && parts.iter().all(|p| number(p))
        && pre.is_none_or(|p| p.split('.').all(|w| word(w) && (!numeric(w) || number(w))))
        && build.is_none_or(|b| b.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        json!({"spec": {"driver": "d.e", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "x", "attributes": {"model": {"string": "m"}, "d.e/v": {"version": "1.2.3-a.1+b"}}, "capacity": {"mem": {"value": "1Gi"}}}]}})
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(texts(|c| ResourceSlice.validate(&good(), c)), [""; 0]);
        for (path, value, expected) in [
            (
                "spec.nodeName",
                Value::Null,
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ),
            (
                "spec.allNodes",
                json!(true),
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ),
            (
                "spec.pool.resourceSliceCount",
                json!(0),
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            ),
            (
                "spec.devices",
                json!([{"name": "x", "attributes": {"v": {"version": "1.2"}}}]),
                "spec.devices[0].attributes[v].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0",
            ),
            (
                "spec.devices",
                json!([{"name": "x"}, {"name": "x"}]),
                "spec.devices[1].name: Duplicate value: \"x\"",
            ),
        ] {
            let mut obj = good();
            machinery::object::set(&mut obj, path, value);
            assert_eq!(texts(|c| ResourceSlice.validate(&obj, c)), [expected]);
        }
        let mut obj = good();
        obj["spec"]["nodeName"] = json!("m");
        assert_eq!(
            texts(|c| ResourceSlice.validate_update(&obj, &good(), c)),
            ["spec.nodeName: Invalid value: \"m\": field is immutable"]
        );
    }
}
