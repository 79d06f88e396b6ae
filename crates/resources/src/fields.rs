//! Checks that many kinds share, each on a field of the object at the current path.
//! Upstream: apimachinery validation helpers, apis/core/validation; texts as clients see them.

use api::names;
use machinery::causes::{Cause, CauseKind};
use machinery::object::{at, i64_at, list_at, map_at, str_at};
use machinery::{Causes, WriteContext};
use serde_json::{Value, json};

/// Text of integers that may not be negative.
pub const NON_NEGATIVE: &str = "must be greater than or equal to 0";
/// Text of integers that must be positive.
pub const POSITIVE: &str = "must be greater than zero";
/// Text of fields that never change.
pub const IMMUTABLE: &str = "field is immutable";

/// A check of a text: gives messages, none if fine.
pub type Check = fn(&str) -> Vec<String>;

/// Integers that, where they are, must be at least 0.
pub fn non_negative(obj: &Value, fields: &[&str], c: &mut Causes) {
    for field in fields {
        at_least(obj, field, 0, NON_NEGATIVE, c);
    }
}

/// An integer that, where it is, must be at least `min`.
pub fn at_least(obj: &Value, field: &str, min: i64, text: &str, c: &mut Causes) {
    if let Some(n) = i64_at(obj, field).filter(|n| *n < min) {
        c.at(field, |c| c.invalid(&json!(n), text));
    }
}

/// An integer that, where it is, must be at most `max`.
pub fn at_most(obj: &Value, field: &str, max: i64, text: &str, c: &mut Causes) {
    if let Some(n) = i64_at(obj, field).filter(|n| *n > max) {
        c.at(field, |c| c.invalid(&json!(n), text));
    }
}

/// A field whose number may not be over that of another one (absent counts as 0).
pub fn not_over(obj: &Value, field: &str, other: &str, text: &str, c: &mut Causes) {
    let n = i64_at(obj, field).unwrap_or(0);
    if n > i64_at(obj, other).unwrap_or(0) {
        c.at(field, |c| c.invalid(&json!(n), text));
    }
}

/// A counter that may only rise.
pub fn not_decremented(obj: &Value, before: &Value, field: &str, c: &mut Causes) {
    let (new, old) = (i64_at(obj, field), i64_at(before, field));
    let fell = matches!((new, old), (None, Some(_))) || new < old;
    if fell {
        c.at(field, |c| {
            c.invalid(&json!(new.unwrap_or(0)), "cannot be decremented");
        });
    }
}

/// A text that must be there.
pub fn required(obj: &Value, field: &str, c: &mut Causes) {
    if str_at(obj, field).is_empty() {
        c.at(field, |c| c.required(""));
    }
}

/// A text that, where it is not empty, must be one of some.
pub fn enumerated(obj: &Value, field: &str, allowed: &[&str], c: &mut Causes) {
    let Some(value) = at(obj, field) else { return };
    if !allowed.contains(&value.as_str().unwrap_or("")) {
        c.at(field, |c| unsupported(c, value, allowed));
    }
}

/// `Unsupported value` with the supported ones in the order given: that of upstream's list.
pub fn unsupported(c: &mut Causes, value: &Value, allowed: &[&str]) {
    let all: Vec<String> = allowed.iter().map(|a| format!("\"{a}\"")).collect();
    let cause = Cause {
        kind: CauseKind::NotSupported,
        field: here(c),
        value: Some(machinery::causes::go_text(value)),
        detail: format!("supported values: {}", all.join(", ")),
    };
    c.add(cause);
}

/// The current path as errors show it.
fn here(c: &Causes) -> String {
    match c.path() {
        "" => "<nil>".into(),
        path => path.to_string(),
    }
}

/// A structure as Go prints it: its fields in order under their Go names.
pub fn go_struct(fields: &[(&str, Option<&Value>)]) -> String {
    let one = |(name, value): &(&str, Option<&Value>)| {
        let value = value.map_or_else(|| "null".to_string(), Value::to_string);
        format!("\"{name}\":{value}")
    };
    let all: Vec<String> = fields.iter().map(one).collect();
    format!("{{{}}}", all.join(","))
}

/// The first of each kind of text in a list that came before, as a Duplicate where `field` repeats.
pub fn unique(list: &[Value], field: &str, c: &mut Causes) {
    for (i, one) in list.iter().enumerate() {
        let value = str_at(one, field);
        if list[..i].iter().any(|o| str_at(o, field) == value) {
            c.index(i, |c| c.at(field, |c| c.duplicate(&json!(value))));
        }
    }
}

/// A text that must be there and be one of some.
pub fn required_enum(obj: &Value, field: &str, allowed: &[&str], c: &mut Causes) {
    if str_at(obj, field).is_empty() {
        c.at(field, |c| c.required(""));
    } else {
        enumerated(obj, field, allowed, c);
    }
}

/// Problems of a text, each as an error at the current path.
pub fn text(value: &str, check: Check, c: &mut Causes) {
    for problem in check(value) {
        c.invalid(&json!(value), problem);
    }
}

/// A text that is checked even where it is empty.
pub fn text_at(obj: &Value, field: &str, check: Check, c: &mut Causes) {
    c.at(field, |c| text(str_at(obj, field), check, c));
}

/// A text that is checked where it is not empty.
pub fn optional_text(obj: &Value, field: &str, check: Check, c: &mut Causes) {
    let value = str_at(obj, field);
    if !value.is_empty() {
        c.at(field, |c| text(value, check, c));
    }
}

/// A text that must be there and pass a check.
pub fn required_text(obj: &Value, field: &str, check: Check, c: &mut Causes) {
    let value = str_at(obj, field);
    c.at(field, |c| {
        if value.is_empty() {
            c.required("");
        } else {
            text(value, check, c);
        }
    });
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> Vec<String> {
    names::path_segment(name, false)
}

/// A name that must be there and be one segment of a path.
pub fn required_segment(obj: &Value, field: &str, c: &mut Causes) {
    required_text(obj, field, segment, c);
}

/// A field that may not change. The new value is shown.
pub fn immutable(obj: &Value, before: &Value, field: &str, c: &mut Causes) {
    let (new, old) = (at(obj, field), at(before, field));
    if new != old {
        let shown = new.cloned().unwrap_or(Value::Null);
        c.at(field, |c| c.invalid(&shown, IMMUTABLE));
    }
}

/// A field that may not change, by the declarative rule: no value is shown.
pub fn frozen(obj: &Value, before: &Value, field: &str, c: &mut Causes) {
    if at(obj, field) != at(before, field) {
        c.at(field, |c| c.invalid(&Value::Null, IMMUTABLE));
    }
}

/// An integer of at least 0 or a percentage.
pub fn int_or_percent(obj: &Value, field: &str, c: &mut Causes) {
    c.at(field, |c| match at(obj, field) {
        Some(Value::String(s)) => text(s, percent, c),
        Some(v) if v.as_i64().is_some_and(|n| n < 0) => c.invalid(v, NON_NEGATIVE),
        _ => {}
    });
}

/// Refuses percentages over 100.
pub fn at_most_hundred_percent(obj: &Value, field: &str, c: &mut Causes) {
    let over = |s: &str| percent_of(s).is_some_and(|n| n > 100);
    if let Some(v) = at(obj, field).filter(|v| v.as_str().is_some_and(over)) {
        c.at(field, |c| c.invalid(v, "must not be greater than 100%"));
    }
}

/// The number of an integer or percentage field, 0 where there is none.
pub fn int_or_percent_value(obj: &Value, field: &str) -> i64 {
    match at(obj, field) {
        Some(Value::String(s)) => percent_of(s).unwrap_or(0),
        Some(v) => v.as_i64().unwrap_or(0),
        None => 0,
    }
}

fn percent_of(text: &str) -> Option<i64> {
    text.strip_suffix('%')?.parse().ok()
}

/// Problems of a percentage.
fn percent(s: &str) -> Vec<String> {
    let digits = s.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')".into(),
    ]
}

/// Checks the LabelSelector in a field.
pub fn label_selector(obj: &Value, field: &str, c: &mut Causes) {
    let Some(selector) = at(obj, field) else {
        return;
    };
    c.at(field, |c| selector_here(selector, c));
}

/// Checks a LabelSelector at the current path.
pub fn selector_here(selector: &Value, c: &mut Causes) {
    c.at("matchLabels", |c| {
        machinery::meta::labels(map_at(selector, "matchLabels"), c);
    });
    for (i, e) in list_at(selector, "matchExpressions").iter().enumerate() {
        c.at("matchExpressions", |c| {
            c.index(i, |c| selector_expression(e, c))
        });
    }
}

fn selector_expression(e: &Value, c: &mut Causes) {
    let values = list_at(e, "values");
    match str_at(e, "operator") {
        "In" | "NotIn" if values.is_empty() => c.at("values", |c| {
            c.required("must be specified when `operator` is 'In' or 'NotIn'");
        }),
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" if !values.is_empty() => c.at("values", |c| {
            c.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }),
        "Exists" | "DoesNotExist" => {}
        other => c.at("operator", |c| {
            c.invalid(&json!(other), "not a valid selector operator");
        }),
    }
    c.at("key", |c| text(str_at(e, "key"), names::qualified_name, c));
    for (j, v) in values.iter().enumerate() {
        c.at("values", |c| {
            c.index(j, |c| text(v.as_str().unwrap_or(""), names::label_value, c));
        });
    }
}

/// Checks a list of `metav1.Condition` at the current path.
pub fn conditions(list: &[Value], c: &mut Causes) {
    for (i, one) in list.iter().enumerate() {
        let kind = str_at(one, "type");
        if list[..i].iter().any(|o| str_at(o, "type") == kind) {
            c.index(i, |c| c.duplicate(&json!(kind)));
        }
        c.index(i, |c| condition(one, c));
    }
}

fn condition(one: &Value, c: &mut Causes) {
    match str_at(one, "type") {
        "" => c.at("type", |c| c.required("is required")),
        kind => c.at("type", |c| text(kind, names::qualified_name, c)),
    }
    required_enum(one, "status", &["False", "True", "Unknown"], c);
    at_least(
        one,
        "observedGeneration",
        0,
        "must be greater than or equal to zero",
        c,
    );
    required(one, "lastTransitionTime", c);
    let reason = str_at(one, "reason");
    c.at("reason", |c| match reason {
        "" => c.required(""),
        reason => {
            text(reason, condition_reason, c);
            if reason.len() > 1024 {
                c.too_long(1024);
            }
        }
    });
    if str_at(one, "message").len() > 32768 {
        c.at("message", |c| c.too_long(32768));
    }
}

fn condition_reason(s: &str) -> Vec<String> {
    let b = s.as_bytes();
    let middle = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b',' | b':');
    let end = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_';
    let good = b.first().is_some_and(u8::is_ascii_alphabetic)
        && b.last().is_some_and(end)
        && b.iter().all(middle);
    if good {
        return Vec::new();
    }
    vec![
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')".into(),
    ]
}

/// Problems of a DNS-1123 subdomain that may begin with `*.`.
pub fn wildcard_subdomain(s: &str) -> Vec<String> {
    let rest = s.strip_prefix("*.").unwrap_or("");
    if !rest.is_empty() && names::dns1123_subdomain(rest).is_empty() {
        return Vec::new();
    }
    vec![
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into(),
    ]
}

/// Checks a domain-prefixed path such as `acme.io/foo` at the current path.
pub fn domain_prefixed_path(value: &str, c: &mut Causes) {
    if value.is_empty() {
        return c.required("");
    }
    let Some((host, path)) = value
        .split_once('/')
        .filter(|(h, p)| !h.is_empty() && !p.is_empty())
    else {
        return c.invalid(
            &json!(value),
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        );
    };
    for problem in names::dns1123_subdomain(host) {
        c.invalid(&json!(host), problem);
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(fits) {
        c.invalid(
            &json!(path),
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}

/// Adds an Invalid error that shows no value, or a text that stands for it.
pub fn invalid_shown(c: &mut Causes, shown: Option<&str>, detail: impl Into<String>) {
    let cause = Cause {
        kind: CauseKind::Invalid,
        field: here(c),
        value: shown.map(str::to_string),
        detail: detail.into(),
    };
    c.add(cause);
}

/// Fields that status updates of some kinds cannot change either (upstream's ResetObjectMetaForStatus).
pub fn keep_metadata(obj: &mut Value, before: &Value, _cx: &WriteContext) {
    for field in [
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "managedFields",
    ] {
        let path = format!("metadata.{field}");
        match at(before, &path) {
            Some(v) => machinery::object::set(obj, &path, v.clone()),
            None => {
                machinery::object::remove(obj, &path);
            }
        }
    }
}

/// Texts of all causes: for tests of validation.
#[cfg(test)]
pub fn texts(check: impl FnOnce(&mut Causes)) -> Vec<String> {
    let mut c = Causes::new();
    check(&mut c);
    c.as_slice().iter().map(Cause::text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_percentages_and_paths_are_judged() {
        let obj = json!({"s": {"matchExpressions": [{"key": "a", "operator": "In"},
            {"key": "a", "operator": "Exists", "values": ["x"]}, {"key": "a", "operator": "Is"}]},
            "p": "101%", "q": "x%", "n": -1});
        let found = texts(|c| {
            label_selector(&obj, "s", c);
            int_or_percent(&obj, "p", c);
            at_most_hundred_percent(&obj, "p", c);
            int_or_percent(&obj, "q", c);
            int_or_percent(&obj, "n", c);
            c.at("m", |c| domain_prefixed_path("x", c));
        });
        let starts = [
            "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "s.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            "s.matchExpressions[2].operator: Invalid value: \"Is\": not a valid selector operator",
            "p: Invalid value: \"101%\": must not be greater than 100%",
            "q: Invalid value: \"x%\": a valid percent string must be",
            "n: Invalid value: -1: must be greater than or equal to 0",
            "m: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (text, start) in found.iter().zip(starts) {
            assert!(text.starts_with(start), "{text}");
        }
    }
}
