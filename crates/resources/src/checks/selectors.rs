//! Label and node selectors. Upstream: ValidateLabelSelector, ValidateNodeSelector; validation-pod §4, §8.13.

use api::names;
use machinery::Causes;
use machinery::object::{list_at, map_at, str_at};
use serde_json::{Value, json};

/// Checks a LabelSelector at the current path; nil is fine.
pub fn label_selector(selector: Option<&Value>, c: &mut Causes) {
    let Some(selector) = selector else { return };
    c.at("matchLabels", |c| {
        machinery::meta::labels(map_at(selector, "matchLabels"), c)
    });
    for (i, e) in list_at(selector, "matchExpressions").iter().enumerate() {
        c.at("matchExpressions", |c| {
            c.index(i, |c| {
                operator(e, false, c);
                key(e, c);
                for (j, value) in list_at(e, "values").iter().enumerate() {
                    let value = value.as_str().unwrap_or_default();
                    c.at("values", |c| {
                        c.index(j, |c| super::all(value, names::label_value(value), c))
                    });
                }
            });
        });
    }
}

fn key(e: &Value, c: &mut Causes) {
    let key = str_at(e, "key");
    c.at("key", |c| super::all(key, names::qualified_name(key), c));
}

fn operator(e: &Value, node: bool, c: &mut Causes) {
    let values = list_at(e, "values").len();
    match str_at(e, "operator") {
        "In" | "NotIn" if values == 0 => c.at("values", |c| {
            c.required("must be specified when `operator` is 'In' or 'NotIn'");
        }),
        "Exists" | "DoesNotExist" if values > 0 => c.at("values", |c| {
            c.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }),
        "Gt" | "Lt" if node && values != 1 => c.at("values", |c| {
            c.required("must be specified single value when `operator` is 'Lt' or 'Gt'");
        }),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if node => {}
        other => c.at("operator", |c| {
            c.invalid(&json!(other), "not a valid selector operator");
        }),
    }
}

/// Checks a NodeSelector at the current path. `values` asks for label values to be checked too.
pub fn node_selector(selector: &Value, values: bool, c: &mut Causes) {
    let terms = list_at(selector, "nodeSelectorTerms");
    c.at("nodeSelectorTerms", |c| {
        if terms.is_empty() {
            c.required("must have at least one node selector term");
        }
        for (i, term) in terms.iter().enumerate() {
            c.index(i, |c| node_selector_term(term, values, c));
        }
    });
}

/// Checks one NodeSelectorTerm at the current path.
pub fn node_selector_term(term: &Value, values: bool, c: &mut Causes) {
    for (j, e) in list_at(term, "matchExpressions").iter().enumerate() {
        c.at("matchExpressions", |c| {
            c.index(j, |c| {
                operator(e, true, c);
                key(e, c);
                let all = list_at(e, "values").iter().enumerate();
                for (k, value) in all.filter(|_| values) {
                    let value = value.as_str().unwrap_or_default();
                    c.at("values", |c| {
                        c.index(k, |c| super::all(value, names::label_value(value), c))
                    });
                }
            });
        });
    }
    for (j, f) in list_at(term, "matchFields").iter().enumerate() {
        c.at("matchFields", |c| c.index(j, |c| node_field(f, c)));
    }
}

fn node_field(f: &Value, c: &mut Causes) {
    let values = list_at(f, "values");
    match str_at(f, "operator") {
        "In" | "NotIn" if values.len() != 1 => c.at("values", |c| {
            c.required(
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }),
        "In" | "NotIn" => {}
        other => c.at("operator", |c| {
            c.invalid(&json!(other), "not a valid selector operator");
        }),
    }
    let key = str_at(f, "key");
    if key != "metadata.name" {
        c.at("key", |c| {
            c.invalid(&json!(key), "not a valid field selector key")
        });
        return;
    }
    for (k, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        c.at("values", |c| {
            c.index(k, |c| super::all(value, names::dns1123_subdomain(value), c))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_judged_as_upstream_does() {
        let mut c = Causes::new();
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "In"},
            {"key": "b", "operator": "Exists", "values": ["x"]}, {"key": "c", "operator": "Gt", "values": ["1"]}]});
        label_selector(Some(&bad), &mut c);
        node_selector(&json!({}), true, &mut c);
        let texts: Vec<String> = c.as_slice().iter().map(|c| c.text()).collect();
        assert_eq!(
            texts,
            [
                "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                "matchExpressions[2].operator: Invalid value: \"Gt\": not a valid selector operator",
                "nodeSelectorTerms: Required value: must have at least one node selector term",
            ]
        );
    }
}
