//! What both webhook configurations share. Upstream: validateMutatingWebhook, validateValidatingWebhook.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, list_at, set_default, str_at};
use machinery::webhook_client::{self, URL_FORM};
use machinery::{Causes, Column, Row};
use serde_json::{Value, json};

use super::rules;
use crate::cells;
use crate::fields;

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];

/// Defaults of every webhook of a configuration.
pub fn set_defaults(obj: &mut Value, mutating: bool) {
    let Some(Value::Array(hooks)) = obj.get_mut("webhooks") else {
        return;
    };
    for hook in hooks.iter_mut().filter(|h| h.is_object()) {
        set_default(hook, "failurePolicy", json!("Fail"));
        set_default(hook, "matchPolicy", json!("Equivalent"));
        set_default(hook, "namespaceSelector", json!({}));
        set_default(hook, "objectSelector", json!({}));
        set_default(hook, "timeoutSeconds", json!(10));
        if mutating {
            set_default(hook, "reinvocationPolicy", json!("Never"));
        }
        if at(hook, "clientConfig.service").is_some() {
            set_default(hook, "clientConfig.service.port", json!(443));
        }
        rules::default_scopes(hook, "rules");
    }
}

/// Checks a configuration. Some rules are not asked where the stored object breaks them already.
pub fn validate(obj: &Value, before: Option<&Value>, causes: &mut Causes) {
    let hooks = list_at(obj, "webhooks");
    let old = before.map(|b| list_at(b, "webhooks"));
    let all_old = |good: fn(&Value) -> bool| old.is_none_or(|o| o.iter().all(good));
    let effects = all_old(|h| NO_SIDE_EFFECTS.contains(&str_at(h, "sideEffects")));
    let known = all_old(|h| {
        let versions = list_at(h, "admissionReviewVersions");
        versions.is_empty() || versions.iter().any(is_known)
    });
    let names_of = |list: &[Value]| -> Vec<String> {
        list.iter().map(|h| str_at(h, "name").to_string()).collect()
    };
    let unique = old.is_none_or(|o| {
        let mut names = names_of(o);
        names.sort();
        names.windows(2).all(|w| w[0] != w[1])
    });
    let conditions = |list: &[Value]| -> Vec<Value> {
        list.iter()
            .map(|h| h.get("matchConditions").cloned().unwrap_or_default())
            .collect()
    };
    let same = old.is_some_and(|o| conditions(o) == conditions(hooks));
    causes.at("webhooks", |c| {
        for (i, hook) in hooks.iter().enumerate() {
            c.index(i, |c| {
                one(hook, effects, c);
                if !same {
                    c.at("matchConditions", |c| {
                        rules::match_conditions(list_at(hook, "matchConditions"), false, c);
                    });
                }
                c.at("admissionReviewVersions", |c| versions(hook, known, c));
            });
        }
        if unique {
            fields::unique(hooks, "name", c);
        }
    });
}

fn one(hook: &Value, effects: bool, c: &mut Causes) {
    c.at("name", |c| fully_qualified(str_at(hook, "name"), c));
    for (i, rule) in list_at(hook, "rules").iter().enumerate() {
        c.at("rules", |c| c.index(i, |c| rules::rule(rule, c)));
    }
    fields::enumerated(hook, "failurePolicy", &["Fail", "Ignore"], c);
    fields::enumerated(hook, "matchPolicy", &["Equivalent", "Exact"], c);
    let allowed: &[&str] = if effects {
        NO_SIDE_EFFECTS
    } else {
        &["None", "NoneOnDryRun", "Some", "Unknown"]
    };
    if at(hook, "sideEffects").is_none() {
        c.at("sideEffects", |c| {
            c.required(format!("must specify one of {}", allowed.join(", ")));
        });
    }
    fields::enumerated(hook, "sideEffects", allowed, c);
    if let Some(n) = i64_at(hook, "timeoutSeconds").filter(|n| !(1..=30).contains(n)) {
        c.at("timeoutSeconds", |c| {
            c.invalid(
                &json!(n),
                "the timeout value must be between 1 and 30 seconds",
            );
        });
    }
    fields::label_selector(hook, "namespaceSelector", c);
    fields::label_selector(hook, "objectSelector", c);
    fields::enumerated(hook, "reinvocationPolicy", &["IfNeeded", "Never"], c);
    let client = at(hook, "clientConfig").unwrap_or(&Value::Null);
    c.at("clientConfig", |c| {
        match (
            at(client, "url").and_then(Value::as_str),
            at(client, "service"),
        ) {
            (Some(url), None) => c.at("url", |c| url_rules(url, c)),
            (None, Some(service)) => c.at("service", |c| webhook_client::service(service, c)),
            _ => c.required("exactly one of url or service is required"),
        }
    });
}

/// A name of at least three parts.
fn fully_qualified(name: &str, c: &mut Causes) {
    if name.is_empty() {
        return c.required("");
    }
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        return c.invalid(&json!(name), problems.join(","));
    }
    if name.split('.').count() < 3 {
        c.invalid(
            &json!(name),
            "should be a domain with at least three segments separated by dots",
        );
    }
}

fn url_rules(url: &str, c: &mut Causes) {
    if url.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return c.required(format!(
            "url must be a valid URL: parse {url:?}: net/url: invalid control character in URL{URL_FORM}"
        ));
    }
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    webhook_client::address(scheme, rest, c);
}

fn is_known(version: &Value) -> bool {
    REVIEW_VERSIONS.contains(&version.as_str().unwrap_or(""))
}

fn versions(hook: &Value, known: bool, c: &mut Causes) {
    let all = list_at(hook, "admissionReviewVersions");
    let list = REVIEW_VERSIONS.join(", ");
    if all.is_empty() {
        return c.required(format!("must specify one of {list}"));
    }
    for (i, version) in all.iter().enumerate() {
        c.index(i, |c| {
            if all[..i].contains(version) {
                c.invalid(version, "duplicate version");
            } else {
                fields::text(version.as_str().unwrap_or(""), names::dns1035_label, c);
            }
        });
    }
    if known && !all.iter().any(is_known) {
        c.invalid(&json!(all), format!("must include at least one of {list}"));
    }
}

/// The columns of both kinds.
pub fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::integer("Webhooks"),
        Column::new("Age"),
    ]
}

/// The row of both kinds.
pub fn row(obj: &Value, now: Timestamp) -> Row {
    vec![
        cells::name(obj),
        json!(list_at(obj, "webhooks").len()),
        cells::age(obj, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/a"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]});
        set_defaults(&mut obj, true);
        obj
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(texts(|c| validate(&good(), None, c)), [""; 0]);
        for (field, value, expected) in [
            (
                "name",
                json!("a.b"),
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ),
            (
                "sideEffects",
                json!("Some"),
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                "timeoutSeconds",
                json!(31),
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                "clientConfig",
                json!({}),
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                "clientConfig",
                json!({"url": "http://x"}),
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                "clientConfig",
                json!({"service": {"namespace": "n", "port": 443}}),
                "webhooks[0].clientConfig.service.namespace: Required value",
            ),
            (
                "admissionReviewVersions",
                json!(["v2"]),
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
            ),
            (
                "matchConditions",
                json!([{"name": "x", "expression": ""}]),
                "webhooks[0].matchConditions[0].expression: Required value",
            ),
            (
                "rules",
                json!([{"operations": ["*", "CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]),
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            ),
        ] {
            let mut obj = good();
            obj["webhooks"][0][field] = value;
            assert_eq!(texts(|c| validate(&obj, None, c)), [expected], "{field}");
        }
    }

    #[test]
    fn what_was_stored_once_does_not_hinder() {
        let mut old = good();
        old["webhooks"][0]["sideEffects"] = json!("Unknown");
        assert_eq!(texts(|c| validate(&old, Some(&old), c)), [""; 0]);
        assert_eq!(texts(|c| validate(&old, None, c)).len(), 1);
    }
}
