//! PriorityLevelConfiguration. Upstream: pkg/registry/flowcontrol/prioritylevelconfiguration,
//! pkg/apis/flowcontrol.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, map_at, remove, set_default, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, bootstrap, flow_schema};
use crate::cells;
use crate::fields;

/// An annotation that old servers understood.
const OLD_NOTE: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
const QUEUES_MAX: i64 = 10_000_000;
/// Most bits of entropy that dealing a hand may take.
const ENTROPY_MAX: f64 = 60.0;

struct PriorityLevelConfiguration;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        Scope::Cluster,
        PriorityLevelConfiguration,
    )
    .status()
}

impl Strategy for PriorityLevelConfiguration {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        for (member, shares) in [("exempt", 0), ("limited", 30)] {
            let path = format!("spec.{member}");
            if at(obj, &path).is_some() {
                let nominal = format!("{path}.nominalConcurrencyShares");
                set_default(obj, &nominal, json!(shares));
                set_default(obj, &format!("{path}.lendablePercent"), json!(0));
            }
        }
        let queuing = "spec.limited.limitResponse.queuing";
        if at(obj, queuing).is_some() {
            for (field, n) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                let path = format!("{queuing}.{field}");
                if i64_at(obj, &path).unwrap_or(0) == 0 {
                    machinery::object::set(obj, &path, json!(n));
                }
            }
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let notes = map_at(obj, "metadata.annotations");
        if notes.is_some_and(|n| n.contains_key(OLD_NOTE)) {
            causes.at("metadata.annotations", |c| {
                c.forbidden(format!("annotation '{OLD_NOTE}' is forbidden"));
            });
        }
        let name = machinery::object::name(obj);
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            spec_rules(name, spec, c);
            fixed(name, spec, c);
        });
        causes.at("status", |c| flow_schema::conditions(obj, c));
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        causes.at("status", |c| flow_schema::conditions(obj, c));
    }

    fn columns(&self) -> Vec<Column> {
        [
            "Type",
            "NominalConcurrencyShares",
            "Queues",
            "HandSize",
            "QueueLengthLimit",
            "Age",
        ]
        .into_iter()
        .fold(vec![Column::name()], |mut all, name| {
            all.push(Column::new(name));
            all
        })
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let cell = |path: &str| {
            i64_at(obj, &format!("spec.limited.{path}")).map_or(json!("<none>"), |n| json!(n))
        };
        vec![
            cells::name(obj),
            json!(str_at(obj, "spec.type")),
            cell("nominalConcurrencyShares"),
            cell("limitResponse.queuing.queues"),
            cell("limitResponse.queuing.handSize"),
            cell("limitResponse.queuing.queueLengthLimit"),
            cells::age(obj, now),
        ]
    }
}

/// The two levels that must stay as they are; shares of the exempt one may change.
fn fixed(name: &str, spec: &Value, c: &mut Causes) {
    let Some(mut wanted) = bootstrap::fixed("PriorityLevelConfiguration", name) else {
        return;
    };
    let mut given = spec.clone();
    let except = if name == "exempt" {
        remove(&mut wanted, "exempt");
        remove(&mut given, "exempt");
        " except the 'spec.exempt' field"
    } else {
        ""
    };
    if given != wanted {
        c.invalid(
            spec,
            format!("spec of '{name}'{except} must equal the fixed value"),
        );
    }
}

fn spec_rules(name: &str, spec: &Value, c: &mut Causes) {
    let kind = str_at(spec, "type");
    if (name == "exempt") != (kind == "Exempt") {
        c.at("type", |c| {
            c.invalid(
                &json!(kind),
                "must be 'Exempt' if and only if `name` is 'exempt'",
            );
        });
    }
    if !["Exempt", "Limited"].contains(&kind) {
        c.at("type", |c| {
            fields::unsupported(c, &json!(kind), &["Exempt", "Limited"]);
        });
    }
    for (member, wanted) in [("limited", "Limited"), ("exempt", "Exempt")] {
        let Some(value) = at(spec, member) else {
            continue;
        };
        c.at(member, |c| {
            shares(value, c);
            if member == "limited" && kind == wanted {
                limited(value, c);
            }
        });
    }
    match (kind, at(spec, "limited").is_some()) {
        ("Limited", false) => c.at("limited", |c| c.required("")),
        ("Exempt", true) => c.at("limited", |c| c.forbidden("")),
        _ => {}
    }
    if kind == "Limited" && at(spec, "exempt").is_some() {
        c.at("exempt", |c| c.forbidden(""));
    }
}

fn shares(value: &Value, c: &mut Causes) {
    fields::at_least(
        value,
        "nominalConcurrencyShares",
        0,
        "must be a non-negative integer",
        c,
    );
    if let Some(n) = i64_at(value, "lendablePercent").filter(|n| !(0..=100).contains(n)) {
        c.at("lendablePercent", |c| {
            c.invalid(&json!(n), "must be between 0 and 100, inclusive");
        });
    }
}

fn limited(value: &Value, c: &mut Causes) {
    fields::at_least(
        value,
        "borrowingLimitPercent",
        0,
        "if specified, must be a non-negative integer",
        c,
    );
    let response = at(value, "limitResponse").unwrap_or(&Value::Null);
    c.at("limitResponse", |c| {
        let kind = str_at(response, "type");
        let queuing = at(response, "queuing");
        if !["Queue", "Reject"].contains(&kind) {
            c.at("type", |c| {
                fields::unsupported(c, &json!(kind), &["Queue", "Reject"]);
            });
        }
        match (kind, queuing) {
            ("Queue", None) => c.at("queuing", |c| c.required("")),
            ("Reject", Some(_)) => c.at("queuing", |c| c.forbidden("")),
            ("Queue", Some(queuing)) => c.at("queuing", |c| queues(queuing, c)),
            _ => {}
        }
    });
}

fn queues(queuing: &Value, c: &mut Causes) {
    let get = |field| i64_at(queuing, field).unwrap_or(0);
    for field in ["queueLengthLimit", "queues"] {
        if get(field) <= 0 {
            c.at(field, |c| c.invalid(&json!(get(field)), "must be positive"));
        }
    }
    let (all, hand) = (get("queues"), get("handSize"));
    if all > QUEUES_MAX {
        c.at("queues", |c| {
            c.invalid(&json!(all), "must not be greater than 10000000");
        });
    }
    c.at("handSize", |c| {
        if hand <= 0 {
            c.invalid(&json!(hand), "must be positive");
        } else if hand > all {
            c.invalid(
                &json!(hand),
                format!("should not be greater than queues ({all})"),
            );
        } else if entropy(all, hand) > ENTROPY_MAX {
            c.invalid(&json!(hand), format!("required entropy bits of deckSize {all} and handSize {hand} should not be greater than 60"));
        }
    });
}

/// Bits needed to deal a hand from a deck.
fn entropy(deck: i64, hand: i64) -> f64 {
    // Decks are at most ten million, so nothing is lost.
    #[allow(clippy::cast_precision_loss)]
    let bits: f64 = (0..hand).map(|i| ((deck - i) as f64).log2()).sum();
    bits.ceil()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        for (spec, expected) in [
            (
                json!({"type": "Exempt"}),
                "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
            ),
            (json!({"type": "Limited"}), "spec.limited: Required value"),
            (
                json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "lendablePercent": 101, "limitResponse": {"type": "Reject"}}}),
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            ),
            (
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 2, "handSize": 3, "queueLengthLimit": 1}}}}),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 3: should not be greater than queues (2)",
            ),
            (
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 128, "handSize": 10, "queueLengthLimit": 1}}}}),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 10: required entropy bits of deckSize 128 and handSize 10 should not be greater than 60",
            ),
        ] {
            let obj = json!({"metadata": {"name": "l"}, "spec": spec});
            assert_eq!(
                texts(|c| PriorityLevelConfiguration.validate(&obj, c)),
                [expected]
            );
        }
    }
}
