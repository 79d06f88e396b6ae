//! Checks that many kinds share, with upstream's texts. Upstream: pkg/apis/core/validation,
//! apimachinery/pkg/util/validation; validation-core §0, validation-pod §3 to §5.

pub mod net;
pub mod quantity;
pub mod selectors;

use machinery::Causes;
use machinery::object::{at, i64_at, str_at};
use serde_json::{Value, json};

/// Text of numbers that may not be negative.
pub const NON_NEGATIVE: &str = "must be greater than or equal to 0";
/// Text of fields that stay.
pub const IMMUTABLE: &str = "field is immutable";

/// One Invalid at the current path for each problem of a text.
pub fn all(value: &str, problems: Vec<String>, c: &mut Causes) {
    for problem in problems {
        c.invalid(&json!(value), problem);
    }
}

/// Checks a text field where it is not empty.
pub fn optional(obj: &Value, field: &str, check: fn(&str) -> Vec<String>, c: &mut Causes) {
    let value = str_at(obj, field);
    if !value.is_empty() {
        c.at(field, |c| all(value, check(value), c));
    }
}

/// Required where a text field is empty; else its check. Tells whether it is there.
pub fn required(obj: &Value, field: &str, check: fn(&str) -> Vec<String>, c: &mut Causes) -> bool {
    let value = str_at(obj, field);
    c.at(field, |c| {
        if value.is_empty() {
            c.required("");
        } else {
            all(value, check(value), c);
        }
    });
    !value.is_empty()
}

/// Required where a text field is empty.
pub fn present(obj: &Value, field: &str, c: &mut Causes) -> bool {
    required(obj, field, |_| Vec::new(), c)
}

/// Required where empty, else one of the allowed values (told in the given order).
pub fn one_of(obj: &Value, field: &str, allowed: &[&str], c: &mut Causes) {
    let value = str_at(obj, field);
    c.at(field, |c| {
        if value.is_empty() {
            c.required("");
        } else if !allowed.contains(&value) {
            c.not_supported_in_order(&json!(value), allowed);
        }
    });
}

/// One of the allowed values where the field is there at all.
pub fn optional_one_of(obj: &Value, field: &str, allowed: &[&str], c: &mut Causes) {
    if let Some(value) = at(obj, field)
        && !allowed.contains(&value.as_str().unwrap_or_default())
    {
        c.at(field, |c| c.not_supported_in_order(value, allowed));
    }
}

/// An integer that may not be negative; absent is fine.
pub fn non_negative(obj: &Value, field: &str, c: &mut Causes) {
    if let Some(n) = i64_at(obj, field).filter(|n| *n < 0) {
        c.at(field, |c| c.invalid(&json!(n), NON_NEGATIVE));
    }
}

/// Checks a port number at the current path.
pub fn port_number(n: i64, c: &mut Causes) {
    if !(1..=65535).contains(&n) {
        c.invalid(&json!(n), "must be between 1 and 65535, inclusive");
    }
}

/// Checks a port that is a number or a name, at the current path.
pub fn port(value: &Value, c: &mut Causes) {
    match value.as_str() {
        Some(name) => all(name, port_name(name), c),
        None => port_number(value.as_i64().unwrap_or(0), c),
    }
}

/// Problems of an IANA service name.
pub fn port_name(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |bad: bool, text: &str| {
        if bad {
            out.push(text.to_string());
        }
    };
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    say(name.len() > 15, "must be no more than 15 characters");
    say(
        name.is_empty() || !name.bytes().all(fine),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    say(
        !name.bytes().any(|b| b.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    say(name.contains("--"), "must not contain consecutive hyphens");
    say(
        name.starts_with('-') || name.ends_with('-'),
        "must not begin or end with a hyphen",
    );
    out
}

/// Checks a user or group id at the current path.
pub fn id(value: &Value, c: &mut Causes) {
    let n = value.as_i64().unwrap_or(-1);
    if !(0..=i64::from(i32::MAX)).contains(&n) {
        c.invalid(value, "must be between 0 and 2147483647, inclusive");
    }
}

/// Checks a file mode field; absent is fine.
pub fn file_mode(obj: &Value, field: &str, c: &mut Causes) {
    if let Some(n) = i64_at(obj, field).filter(|n| !(0..=0o777).contains(n)) {
        c.at(field, |c| {
            c.invalid(
                &json!(n),
                "must be a number between 0 and 0777 (octal), both inclusive",
            );
        });
    }
}

/// Checks a relative path without `..` at the current path.
pub fn descending_path(path: &str, c: &mut Causes) {
    if path.starts_with('/') {
        c.invalid(&json!(path), "must be a relative path");
    }
    no_backsteps(path, c);
}

/// Checks that no part of a path is `..`, at the current path.
pub fn no_backsteps(path: &str, c: &mut Causes) {
    if path.split('/').any(|p| p == "..") {
        c.invalid(&json!(path), "must not contain '..'");
    }
}

/// Checks a descending path that also may not begin as the kubelet's own files do.
pub fn non_reserved_path(path: &str, c: &mut Causes) {
    descending_path(path, c);
    if path.starts_with("..") && !path.starts_with("../") {
        c.invalid(&json!(path), "must not start with '..'");
    }
}

/// `Go`'s print of a list of texts: `[a b]`.
pub fn go_list(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

/// What deprecated node labels say. `None` for all others.
pub fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_are_judged_as_upstream_does() {
        assert!(port_name("http").is_empty());
        assert_eq!(
            port_name("-1--"),
            [
                "must contain at least one letter (a-z)",
                "must not contain consecutive hyphens",
                "must not begin or end with a hyphen"
            ]
        );
    }

    #[test]
    fn paths() {
        for (path, count) in [("a/b", 0), ("/a", 1), ("../a", 1), ("..", 2), ("..a", 1)] {
            let mut c = Causes::new();
            non_reserved_path(path, &mut c);
            assert_eq!(c.as_slice().len(), count, "{path}");
        }
    }
}
