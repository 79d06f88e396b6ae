//! The rules of a flow schema. Upstream: ValidateFlowSchemaPolicyRulesWithSubjects.

use api::names;
use machinery::Causes;
use machinery::object::{at, bool_at, list_at, str_at};
use serde_json::{Value, json};

use crate::fields;

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
/// A kind of subject and the field it needs.
const SUBJECTS: [(&str, &str); 3] = [
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
    ("Group", "group"),
];

/// Checks one rule at the current path.
pub fn validate(rule: &Value, c: &mut Causes) {
    let subjects = list_at(rule, "subjects");
    c.at("subjects", |c| {
        if subjects.is_empty() {
            c.required("subjects must contain at least one value");
        }
        for (i, subject) in subjects.iter().enumerate() {
            c.index(i, |c| subject_rules(subject, c));
        }
    });
    let (resources, others) = (
        list_at(rule, "resourceRules"),
        list_at(rule, "nonResourceRules"),
    );
    if resources.is_empty() && others.is_empty() {
        c.required("at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (i, one) in resources.iter().enumerate() {
        c.at("resourceRules", |c| c.index(i, |c| resource_rule(one, c)));
    }
    for (i, one) in others.iter().enumerate() {
        c.at("nonResourceRules", |c| c.index(i, |c| url_rule(one, c)));
    }
}

fn subject_rules(subject: &Value, c: &mut Causes) {
    let kind = str_at(subject, "kind");
    let Some((_, field)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        return c.at("kind", |c| {
            fields::unsupported(c, &json!(kind), &["Group", "ServiceAccount", "User"]);
        });
    };
    c.at(field, |c| match at(subject, field) {
        None => c.required(format!("{field} is required when subject kind is '{kind}'")),
        Some(who) => {
            let name = str_at(who, "name");
            fields::required(who, "name", c);
            if kind != "ServiceAccount" {
                return;
            }
            if name != "*" {
                fields::optional_text(who, "name", names::dns1123_subdomain, c);
            }
            let namespace = str_at(who, "namespace");
            c.at("namespace", |c| {
                if namespace.is_empty() {
                    c.required("must specify namespace for service account");
                } else {
                    fields::text(namespace, names::dns1123_label, c);
                }
            });
        }
    });
    for (other, field) in SUBJECTS.iter().filter(|(k, _)| *k != kind) {
        if at(subject, field).is_some() {
            c.at(field, |c| {
                c.forbidden(format!(
                    "{field} is forbidden when subject kind is not '{other}'"
                ));
            });
        }
    }
}

fn texts<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    list_at(rule, field)
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// A list that may be `*` alone; gives whether it has a wildcard.
fn wildcard(rule: &Value, field: &str, what: &str, c: &mut Causes) -> bool {
    let all = texts(rule, field);
    let any = all.contains(&"*");
    if any && all.len() > 1 {
        c.at(field, |c| {
            c.invalid(
                &json!(all),
                format!("if '*' is present, must not specify other {what}"),
            );
        });
    }
    any
}

fn verbs(rule: &Value, c: &mut Causes) {
    let all = texts(rule, "verbs");
    if all.is_empty() {
        return c.at("verbs", |c| {
            c.required("verbs must contain at least one value");
        });
    }
    if !wildcard(rule, "verbs", "verbs", c) && !all.iter().all(|v| VERBS.contains(v)) {
        c.at("verbs", |c| fields::unsupported(c, &json!(all), VERBS));
    }
}

fn url_rule(rule: &Value, c: &mut Causes) {
    verbs(rule, c);
    let urls = texts(rule, "nonResourceURLs");
    if urls.is_empty() {
        return c.at("nonResourceURLs", |c| {
            c.required("nonResourceURLs must contain at least one value");
        });
    }
    if wildcard(rule, "nonResourceURLs", "non-resource URLs", c) {
        return;
    }
    for (i, url) in urls.iter().enumerate() {
        if let Some(problem) = url_problem(url) {
            c.at("nonResourceURLs", |c| {
                c.index(i, |c| c.invalid(&json!(url), problem));
            });
        }
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    match url {
        "" => return Some("must not be empty"),
        "/" => return None,
        _ => {}
    }
    if !url.starts_with('/') {
        return Some("must start with slash");
    }
    if url.contains(' ') {
        return Some("must not contain white-space");
    }
    if url.contains("//") {
        return Some("must not contain double slash");
    }
    let bad = url.contains('*') && !(url.ends_with("/*") && url.matches('*').count() == 1);
    bad.then_some("wildcard can only do suffix matching")
}

fn resource_rule(rule: &Value, c: &mut Causes) {
    verbs(rule, c);
    for (field, what, needed) in [
        (
            "apiGroups",
            "api groups",
            "resource rules must supply at least one api group",
        ),
        (
            "resources",
            "resources",
            "resource rules must supply at least one resource",
        ),
    ] {
        if list_at(rule, field).is_empty() {
            c.at(field, |c| c.required(needed));
        } else {
            wildcard(rule, field, what, c);
        }
    }
    let namespaces = texts(rule, "namespaces");
    if namespaces.is_empty() && bool_at(rule, "clusterScope") != Some(true) {
        return c.at("namespaces", |c| {
            c.required(
                "resource rules that are not cluster scoped must supply at least one namespace",
            );
        });
    }
    if wildcard(rule, "namespaces", "namespaces", c) {
        return;
    }
    for (i, namespace) in namespaces.iter().enumerate() {
        for problem in names::dns1123_label(namespace) {
            c.at("namespaces", |c| {
                c.index(i, |c| {
                    let text = format!(
                        "each member of this list must be '*' or a DNS-1123 label; {problem}"
                    );
                    c.invalid(&json!(namespace), text);
                });
            });
        }
    }
}
