//! Selectors of typed objects.

use std::collections::BTreeMap;

use api::meta::LabelSelector as Typed;
use api::selector::{LabelSelector, Operator, Requirement};
use client::Entry;

/// A selector that matches as its typed form says; `None` where that is malformed.
pub fn parse(typed: &Typed) -> Option<LabelSelector> {
    LabelSelector::from_object(&serde_json::to_value(typed).ok()?)
}

/// A selector of exact labels.
pub fn of_map(labels: &BTreeMap<String, String>) -> LabelSelector {
    let requirement = |(k, v): (&String, &String)| Requirement {
        key: k.clone(),
        operator: Operator::In(vec![v.clone()]),
    };
    LabelSelector {
        requirements: labels.iter().map(requirement).collect(),
    }
}

/// Whether an entry's labels match.
pub fn matches_entry(selector: &LabelSelector, entry: &Entry) -> bool {
    selector.matches(|k| entry.labels.get(k).map(|v| &**v))
}

/// Whether labels match.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches(|k| labels.get(k).map(String::as_str))
}
