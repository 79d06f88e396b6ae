//! LimitRange. Upstream: pkg/registry/core/limitrange, ValidateLimitRange; validation-core §7.

use std::collections::BTreeSet;

use api::names;
use api::quantity::Quantity;
use jiff::Timestamp;
use machinery::object::{list_at, map_at, map_mut, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Map, Value, json};

use super::amounts;
use super::pod_spec::each;
use crate::cells;
use crate::checks::{self, quantity};

struct LimitRange;

/// The lists of amounts of one limit.
const FIELDS: [&str; 5] = [
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "",
        "v1",
        "LimitRange",
        "limitranges",
        Scope::Namespaced,
        LimitRange,
    )
    .short(&["limits"])
}

impl Strategy for LimitRange {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if let Some(spec) = obj.get_mut("spec") {
            each(spec, "limits", |limit| {
                if str_at(limit, "type") == "Container" {
                    fill(limit, "default", "max");
                    fill(limit, "defaultRequest", "default");
                    fill(limit, "defaultRequest", "min");
                }
                for field in FIELDS {
                    amounts::canonical_list(limit, field);
                }
            });
        }
    }

    // Upstream: a range without a name gets a UUID for one.
    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        if machinery::object::name(obj).is_empty() {
            let name = machinery::object::uid(obj).to_string();
            machinery::object::set(obj, "metadata.name", json!(name));
        }
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let mut seen = BTreeSet::new();
        for (i, limit) in list_at(obj, "spec.limits").iter().enumerate() {
            causes.at("spec", |c| {
                c.at("limits", |c| {
                    c.index(i, |c| {
                        kind(limit, c);
                        let kind = str_at(limit, "type");
                        if !seen.insert(kind) {
                            c.at("type", |c| c.duplicate(&json!(kind)));
                        }
                        item(limit, c);
                    });
                });
            });
        }
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        cells::default_columns()
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        vec![cells::name(obj), cells::created_at(obj)]
    }
}

/// What `field` lacks comes from `from`.
fn fill(limit: &mut Value, field: &str, from: &str) {
    let given = map_at(limit, from).cloned().unwrap_or_default();
    if given.is_empty() && map_at(limit, field).is_none_or(Map::is_empty) {
        return;
    }
    let map = map_mut(limit, field);
    for (name, value) in given {
        map.entry(name).or_insert(value);
    }
}

fn kind(limit: &Value, c: &mut Causes) {
    let kind = str_at(limit, "type");
    c.at("type", |c| {
        let problems = names::qualified_name(kind);
        let fine = problems.is_empty();
        checks::all(kind, problems, c);
        let known = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind);
        if fine && !kind.contains('/') && !known {
            c.invalid(
                &json!(kind),
                "must be a standard limit type or fully qualified",
            );
        }
    });
}

fn item(limit: &Value, c: &mut Causes) {
    let kind = str_at(limit, "type");
    let of_pods = ["Pod", "Container"].contains(&kind);
    for field in FIELDS {
        if kind == "Pod" && field.starts_with("default") {
            if map_at(limit, field).is_some_and(|m| !m.is_empty()) {
                c.at(field, |c| {
                    c.forbidden("may not be specified when `type` is 'Pod'");
                });
            }
            continue;
        }
        for name in map_at(limit, field).into_iter().flatten().map(|(k, _)| k) {
            c.at(field, |c| {
                c.key(name, |c| {
                    if of_pods {
                        quantity::container_resource_name(name, c);
                    } else {
                        quantity::resource_name(name, c);
                    }
                });
            });
        }
    }
    let has = |field: &str| map_at(limit, field).is_some_and(|m| m.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !has("min") && !has("max") {
        c.at("limits", |c| {
            c.required(
                "either minimum or maximum storage value is required, but neither was provided",
            );
        });
    }
    let all: BTreeSet<&String> = FIELDS
        .iter()
        .flat_map(|f| map_at(limit, f).into_iter().flatten().map(|(k, _)| k))
        .collect();
    for name in all {
        amounts_of(limit, name, c);
    }
}

/// How the amounts of one resource stand to each other.
fn amounts_of(limit: &Value, name: &str, c: &mut Causes) {
    let read = |field: &str| {
        let map = map_at(limit, field)
            .filter(|_| str_at(limit, "type") != "Pod" || !field.starts_with("default"));
        map.and_then(|m| m.get(name)).and_then(amounts::read)
    };
    let (min, max) = (read("min"), read("max"));
    let (default, request) = (read("default"), read("defaultRequest"));
    let above =
        |c: &mut Causes, field: &str, a: (Option<Quantity>, &str), b: (Option<Quantity>, &str)| {
            if let (Some(x), Some(y)) = (a.0, b.0)
                && x > y
            {
                let shown = match field {
                    "default" if a.1 == "default value" => y,
                    _ => x,
                };
                c.at(field, |c| {
                    c.key(name, |c| {
                        c.invalid(
                            &json!(shown.to_string()),
                            format!("{} {x} is greater than {} {y}", a.1, b.1),
                        );
                    });
                });
            }
        };
    above(c, "min", (min, "min value"), (max, "max value"));
    above(
        c,
        "defaultRequest",
        (min, "min value"),
        (request, "default request value"),
    );
    above(
        c,
        "defaultRequest",
        (request, "default request value"),
        (max, "max value"),
    );
    above(
        c,
        "defaultRequest",
        (request, "default request value"),
        (default, "default limit value"),
    );
    above(c, "default", (min, "min value"), (default, "default value"));
    above(c, "default", (default, "default value"), (max, "max value"));
    ratio(read("maxLimitRequestRatio"), (min, max), name, c);
    if !quantity::is_overcommitable(name)
        && let (Some(d), Some(r)) = (default, request)
        && d != r
    {
        c.at("defaultRequest", |c| {
            c.key(name, |c| {
                c.invalid(
                    &json!(d.to_string()),
                    format!("default value {d} must equal to defaultRequest value {r} in {name}"),
                );
            });
        });
    }
}

fn ratio(
    ratio: Option<Quantity>,
    (min, max): (Option<Quantity>, Option<Quantity>),
    name: &str,
    c: &mut Causes,
) {
    let Some(ratio) = ratio else { return };
    c.at("maxLimitRequestRatio", |c| {
        c.key(name, |c| {
            let shown = json!(ratio.to_string());
            if ratio.as_f64() < 1.0 {
                c.invalid(&shown, format!("ratio {ratio} is less than 1"));
            }
            if let (Some(min), Some(max)) = (min, max) {
                let most = max.as_f64() / min.as_f64();
                if ratio.as_f64() > most {
                    c.invalid(
                        &shown,
                        format!("ratio {ratio} is greater than max/min = {most:.6}"),
                    );
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_come_from_the_bounds() {
        let mut obj = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        LimitRange.set_defaults(&mut obj);
        let limit = &obj["spec"]["limits"][0];
        assert_eq!(limit["default"], json!({"cpu": "2"}));
        assert_eq!(
            limit["defaultRequest"],
            json!({"cpu": "2", "memory": "1Mi"})
        );
    }

    #[test]
    fn mistakes_are_named_as_upstream_names_them() {
        for (limit, expected) in [
            (
                json!({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}),
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "2"}}),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                json!({"type": "Odd"}),
                "spec.limits[0].type: Invalid value: \"Odd\": must be a standard limit type or fully qualified",
            ),
            (
                json!({"type": "PersistentVolumeClaim"}),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}}),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
        ] {
            let mut c = Causes::new();
            LimitRange.validate(&json!({"spec": {"limits": [limit]}}), &mut c);
            let texts: Vec<String> = c.as_slice().iter().map(|c| c.text()).collect();
            assert_eq!(texts, [expected]);
        }
    }
}
