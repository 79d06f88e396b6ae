//! What claims, templates, classes and slices share: requests, selectors, configuration, names.
//! Upstream: pkg/apis/resource/validation.

use std::collections::BTreeMap;

use api::names;
use jiff::Timestamp;
use machinery::Causes;
use machinery::object::{at, at_mut, i64_at, list_at, set, set_default, str_at};
use serde_json::{Value, json};

use crate::fields;

const LIST_MAX: usize = 32;
const FIRST_AVAILABLE_MAX: usize = 8;
const EXPRESSION_MAX: usize = 10 << 10;
const PARAMETERS_MAX: usize = 10 << 10;
const DRIVER_MAX: usize = 63;
const DOMAIN_MAX: usize = 63;
const IDENTIFIER_MAX: usize = 32;
const POOL_MAX: usize = 253;
const REFERENCE: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Names of a claim's requests, each with those of its subrequests.
pub struct RequestNames(BTreeMap<String, Vec<String>>);

impl RequestNames {
    /// The names in the `devices` of a claim.
    pub fn of(devices: &Value) -> Self {
        let name = |r: &Value| str_at(r, "name").to_string();
        let one = |r: &Value| {
            let subs = list_at(r, "firstAvailable").iter().map(name).collect();
            (name(r), subs)
        };
        Self(list_at(devices, "requests").iter().map(one).collect())
    }

    fn has(&self, reference: &str) -> bool {
        match reference.split_once('/') {
            None => self.0.contains_key(reference),
            Some((request, sub)) => self
                .0
                .get(request)
                .is_some_and(|subs| subs.iter().any(|s| s == sub)),
        }
    }

    /// Checks a reference to a request at the current path.
    pub fn check(&self, reference: &str, c: &mut Causes) {
        let shown = json!(reference);
        if reference.split('/').count() > 2 {
            return c.invalid(&shown, REFERENCE);
        }
        for part in reference.split('/') {
            fields::text(part, names::dns1123_label, c);
        }
        if !self.has(reference) {
            c.invalid(&shown, REFERENCE);
        }
    }

    /// Checks a list of references in `requests` of an object at the current path.
    pub fn check_list(&self, obj: &Value, c: &mut Causes) {
        let all = list_at(obj, "requests");
        c.at("requests", |c| {
            if all.len() > LIST_MAX {
                c.too_many(all.len(), LIST_MAX);
            }
            for (i, one) in all.iter().enumerate() {
                c.index(i, |c| {
                    self.check(one.as_str().unwrap_or(""), c);
                    if all[..i].contains(one) {
                        c.duplicate(one);
                    }
                });
            }
        });
    }
}

/// Defaults of the requests of a claim's spec at a path.
pub fn set_defaults(obj: &mut Value, path: &str) {
    let Some(Value::Array(requests)) = at_mut(obj, &format!("{path}.devices.requests")) else {
        return;
    };
    for request in requests {
        if let Some(exactly) = request.get_mut("exactly") {
            request_defaults(exactly);
        }
        if let Some(Value::Array(subs)) = request.get_mut("firstAvailable") {
            subs.iter_mut().for_each(request_defaults);
        }
    }
}

fn request_defaults(request: &mut Value) {
    if !request.is_object() {
        return;
    }
    if str_at(request, "allocationMode").is_empty() {
        set(request, "allocationMode", json!("ExactCount"));
    }
    let exact = str_at(request, "allocationMode") == "ExactCount";
    if exact && i64_at(request, "count").unwrap_or(0) == 0 {
        set(request, "count", json!(1));
    }
}

/// Gives taints in the list at a path the time they were added, where they name none.
pub fn taint_times(obj: &mut Value, path: &str, now: Timestamp) {
    let Some(Value::Array(taints)) = at_mut(obj, path) else {
        return;
    };
    for taint in taints.iter_mut().filter(|t| t.is_object()) {
        set_default(taint, "timeAdded", json!(crate::time::rfc3339(now)));
    }
}

/// Checks the spec of a claim at the current path.
pub fn claim_spec(spec: &Value, c: &mut Causes) {
    let devices = at(spec, "devices").unwrap_or(&Value::Null);
    let known = RequestNames::of(devices);
    c.at("devices", |c| {
        limited(devices, "requests", LIST_MAX, c, &mut |one, c| {
            request(one, c);
        });
        let requests = list_at(devices, "requests");
        c.at("requests", |c| unique_elements(requests, c));
        limited(devices, "constraints", LIST_MAX, c, &mut |one, c| {
            constraint(one, &known, c);
        });
        limited(devices, "config", LIST_MAX, c, &mut |one, c| {
            known.check_list(one, c);
            configuration(one, c);
        });
    });
}

/// Refuses a name that an earlier element of a list has; the element is shown.
fn unique_elements(all: &[Value], c: &mut Causes) {
    for (i, one) in all.iter().enumerate() {
        if all[..i].iter().any(|o| o.get("name") == one.get("name")) {
            c.index(i, |c| c.duplicate(one));
        }
    }
}

/// Runs a check over a list of at most so many.
pub fn limited(
    obj: &Value,
    field: &str,
    max: usize,
    c: &mut Causes,
    check: &mut dyn FnMut(&Value, &mut Causes),
) {
    let all = list_at(obj, field);
    c.at(field, |c| {
        if all.len() > max {
            c.too_many(all.len(), max);
        }
        for (i, one) in all.iter().enumerate() {
            c.index(i, |c| check(one, c));
        }
    });
}

fn request(request: &Value, c: &mut Causes) {
    fields::required_text(request, "name", names::dns1123_label, c);
    let exactly = at(request, "exactly");
    let first = list_at(request, "firstAvailable");
    let text = "exactly one of `exactly` or `firstAvailable` is required";
    match (exactly, first.is_empty()) {
        (None, true) => c.required(text),
        (Some(_), false) => c.invalid(&Value::Null, format!("{text}, but multiple fields are set")),
        (Some(exactly), true) => c.at("exactly", |c| one_request(exactly, c)),
        (None, false) => {
            limited(
                request,
                "firstAvailable",
                FIRST_AVAILABLE_MAX,
                c,
                &mut |one, c| {
                    fields::required_text(one, "name", names::dns1123_label, c);
                    one_request(one, c);
                },
            );
            c.at("firstAvailable", |c| unique_elements(first, c));
        }
    }
}

fn one_request(request: &Value, c: &mut Causes) {
    fields::required_text(request, "deviceClassName", names::dns1123_subdomain, c);
    selectors(request, c);
    let mode = str_at(request, "allocationMode");
    let count = i64_at(request, "count").unwrap_or(0);
    match mode {
        "All" if count != 0 => c.at("count", |c| {
            c.invalid(
                &json!(count),
                "must not be specified when allocationMode is 'All'",
            );
        }),
        "ExactCount" if count <= 0 => c.at("count", |c| {
            c.invalid(&json!(count), fields::POSITIVE);
        }),
        "All" | "ExactCount" => {}
        other => c.at("allocationMode", |c| {
            fields::unsupported(c, &json!(other), &["All", "ExactCount"]);
        }),
    }
    for (i, one) in list_at(request, "tolerations").iter().enumerate() {
        c.at("tolerations", |c| c.index(i, |c| toleration(one, c)));
    }
}

fn toleration(one: &Value, c: &mut Causes) {
    fields::optional_text(one, "key", names::qualified_name, c);
    let operator = str_at(one, "operator");
    let value = str_at(one, "value");
    match operator {
        "Exists" if !value.is_empty() => c.at("value", |c| {
            c.invalid(&json!(value), "must be empty for operator `Exists`");
        }),
        "Exists" => {}
        "" | "Equal" => fields::optional_text(one, "value", names::label_value, c),
        other => c.at("operator", |c| {
            fields::unsupported(c, &json!(other), &["Equal", "Exists"]);
        }),
    }
    effect(one, true, c);
}

fn effect(one: &Value, optional: bool, c: &mut Causes) {
    let all = ["NoExecute", "NoSchedule", "None"];
    let value = str_at(one, "effect");
    if value.is_empty() {
        if !optional {
            c.at("effect", |c| c.required(""));
        }
    } else if !all.contains(&value) {
        c.at("effect", |c| fields::unsupported(c, &json!(value), &all));
    }
}

/// Checks a taint at the current path.
pub fn taint(taint: &Value, c: &mut Causes) {
    fields::required_text(taint, "key", names::qualified_name, c);
    fields::optional_text(taint, "value", names::label_value, c);
    effect(taint, false, c);
}

/// Checks `selectors` of an object at the current path.
pub fn selectors(obj: &Value, c: &mut Causes) {
    limited(obj, "selectors", LIST_MAX, c, &mut |one, c| {
        let Some(cel) = at(one, "cel") else {
            return c.at("cel", |c| c.required(""));
        };
        if str_at(cel, "expression").len() > EXPRESSION_MAX {
            c.at("cel.expression", |c| c.too_long(EXPRESSION_MAX));
        }
    });
}

fn constraint(one: &Value, known: &RequestNames, c: &mut Causes) {
    known.check_list(one, c);
    for field in ["matchAttribute", "distinctAttribute"] {
        if let Some(name) = at(one, field).and_then(Value::as_str) {
            return c.at(field, |c| fully_qualified(name, c));
        }
    }
    c.required("exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set");
}

fn fully_qualified(name: &str, c: &mut Causes) {
    if name.is_empty() {
        return c.required("");
    }
    if !name.contains('/') {
        return c.invalid(
            &json!(name),
            "a fully qualified name must be a domain and a name separated by a slash",
        );
    }
    qualified(name, c);
}

/// Checks the name of an attribute or capacity at the current path: `[domain/]identifier`.
pub fn qualified(name: &str, c: &mut Causes) {
    let (domain, identifier) = match name.split_once('/') {
        Some((domain, identifier)) => (Some(domain), identifier),
        None => (None, name),
    };
    if let Some(domain) = domain {
        if domain.is_empty() {
            c.invalid(&json!(domain), "the domain must not be empty");
        } else {
            if domain.len() > DOMAIN_MAX {
                c.too_long(DOMAIN_MAX);
            }
            fields::text(domain, names::dns1123_subdomain, c);
        }
    }
    if identifier.is_empty() {
        return c.invalid(&json!(identifier), "the name must not be empty");
    }
    if identifier.len() > IDENTIFIER_MAX {
        c.too_long(IDENTIFIER_MAX);
    }
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let good = identifier.bytes().next().is_some_and(first)
        && identifier.bytes().all(|b| first(b) || b.is_ascii_digit());
    if !good {
        c.invalid(&json!(identifier), "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')");
    }
}

/// Checks the opaque configuration in an object at the current path.
pub fn configuration(config: &Value, c: &mut Causes) {
    let Some(opaque) = at(config, "opaque") else {
        return c.at("opaque", |c| c.required(""));
    };
    c.at("opaque", |c| {
        driver(opaque, "driver", c);
        object_text(opaque, "parameters", PARAMETERS_MAX, true, c);
    });
}

/// A field that holds a JSON object of at most so many bytes.
pub fn object_text(obj: &Value, field: &str, max: usize, needed: bool, c: &mut Causes) {
    c.at(field, |c| match at(obj, field) {
        None if needed => c.required(""),
        None => {}
        Some(v) if v.to_string().len() > max => c.too_long(max),
        Some(Value::Object(_)) => {}
        Some(_) => fields::invalid_shown(
            c,
            Some("\"<value omitted>\""),
            "must be a valid JSON object",
        ),
    });
}

/// The name of a driver in a field.
pub fn driver(obj: &Value, field: &str, c: &mut Causes) {
    let name = str_at(obj, field);
    c.at(field, |c| {
        if name.is_empty() {
            return c.required("");
        }
        if name.len() > DRIVER_MAX {
            c.too_long(DRIVER_MAX);
        }
        for problem in names::dns1123_subdomain(&name.to_lowercase()) {
            c.invalid(&json!(name), problem);
        }
    });
}

/// The name of a pool in a field: subdomains with slashes between them.
pub fn pool(obj: &Value, field: &str, c: &mut Causes) {
    let name = str_at(obj, field);
    c.at(field, |c| {
        if name.is_empty() {
            return c.required("");
        }
        if name.len() > POOL_MAX {
            c.too_long(POOL_MAX);
        }
        for part in name.split('/') {
            fields::text(part, names::dns1123_subdomain, c);
        }
    });
}
