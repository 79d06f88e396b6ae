//! Where a webhook is, as admission webhooks and conversions of custom resources say it.
//! Upstream: k8s.io/apiserver/pkg/util/webhook/validation.go.

use api::names;
use serde_json::{Value, json};

use crate::causes::Causes;
use crate::object::{i64_at, str_at};

/// What errors say a URL should be.
pub const URL_FORM: &str = "; desired format: https://host[/path]";

/// Checks what follows the scheme of a webhook's URL, and the scheme.
pub fn address(scheme: &str, rest: &str, c: &mut Causes) {
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest
        .strip_prefix("//")
        .map_or("", |r| r.split('/').next().unwrap_or(""));
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(u, h)| (Some(u), h));
    if scheme != "https" {
        c.invalid(
            &json!(scheme),
            format!("'https' is the only allowed URL scheme{URL_FORM}"),
        );
    }
    if host.is_empty() {
        c.invalid(&json!(host), format!("host must be specified{URL_FORM}"));
    }
    if let Some(user) = user {
        c.invalid(&json!(user), "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        c.invalid(&json!(fragment), "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        c.invalid(
            &json!(query),
            "query parameters are not permitted in the URL",
        );
    }
}

/// Checks the service that a webhook is.
pub fn service(service: &Value, c: &mut Causes) {
    // Upstream gives its check the two in the other order.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        if str_at(service, field).is_empty() {
            c.at(told, |c| c.required(""));
        }
    }
    let port = i64_at(service, "port").unwrap_or(0);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        c.at("port", |c| c.invalid(&json!(port), why));
    }
    let path = str_at(service, "path");
    if !["", "/"].contains(&path) {
        c.at("path", |c| service_path(path, c));
    }
}

fn service_path(path: &str, c: &mut Causes) {
    let mut bad = |why: String| c.invalid(&json!(path), why);
    if path == "//" {
        return bad("segment[0] may not be empty".into());
    }
    if !path.starts_with('/') {
        bad("must start with a '/'".into());
    }
    let rest = path.char_indices().nth(1).map_or("", |(i, _)| &path[i..]);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (i, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            bad(format!("segment[{i}] may not be empty"));
            continue;
        }
        for problem in names::dns1123_subdomain(step) {
            bad(format!("segment[{i}]: {problem}"));
        }
    }
}
