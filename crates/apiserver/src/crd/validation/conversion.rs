//! `spec.conversion`, whose webhook upstream's internal type has as `webhookClientConfig`.
//! Upstream: `validateCustomResourceConversion`; k8s.io/apiserver/pkg/util/webhook/validation.go.

use api::names;
use machinery::Causes;
use machinery::object::{i64_at, list_at, str_at};
use serde_json::{Value, json};

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Checks a conversion at the current path.
pub fn validate(conversion: &Value, before: Option<&Value>, c: &mut Causes) {
    if !conversion.is_object() {
        return;
    }
    let strategy = str_at(conversion, "strategy");
    c.at("strategy", |c| match strategy {
        "" => c.required(""),
        "None" | "Webhook" => {}
        other => c.not_supported_in_order(&json!(other), &["None", "Webhook"]),
    });
    let client = conversion
        .pointer("/webhook/clientConfig")
        .filter(|v| !v.is_null());
    let versions = list_at(conversion, "webhook.conversionReviewVersions");
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            c.at("webhookClientConfig", |c| c.forbidden(why));
        }
        if !versions.is_empty() {
            c.at("conversionReviewVersions", |c| c.forbidden(why));
        }
        return;
    }
    c.at("webhookClientConfig", |c| match client {
        None => c.required("required when strategy is set to Webhook"),
        Some(client) => client_config(client, c),
    });
    // What was stored without a version that is known stays.
    let old = before.map_or(&[][..], |b| {
        list_at(b, "spec.conversion.webhook.conversionReviewVersions")
    });
    let recognized = old.is_empty() || old.iter().any(is_known);
    c.at("conversionReviewVersions", |c| {
        review_versions(versions, recognized, c)
    });
}

fn is_known(version: &Value) -> bool {
    version.as_str().is_some_and(|v| REVIEWS.contains(&v))
}

fn client_config(client: &Value, c: &mut Causes) {
    let service = client.get("service").filter(|s| s.is_object());
    match (client.get("url").and_then(Value::as_str), service) {
        (Some(url), None) => c.at("url", |c| self::url(url, c)),
        (None, Some(s)) => c.at("service", |c| self::service(s, c)),
        _ => c.required("exactly one of url or service is required"),
    }
}

fn url(text: &str, c: &mut Causes) {
    let form = "; desired format: https://host[/path]";
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest))
            if scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            (scheme, rest)
        }
        _ => ("", text),
    };
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest
        .strip_prefix("//")
        .map_or("", |r| r.split('/').next().unwrap_or(""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if scheme.to_lowercase() != "https" {
        c.invalid(
            &json!(scheme.to_lowercase()),
            format!("'https' is the only allowed URL scheme{form}"),
        );
    }
    if host.is_empty() {
        c.invalid(&json!(""), format!("host must be specified{form}"));
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

fn service(s: &Value, c: &mut Causes) {
    // Upstream gives its check the two in the other order.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        if str_at(s, field).is_empty() {
            c.at(told, |c| c.required(""));
        }
    }
    let port = i64_at(s, "port").unwrap_or(0);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        c.at("port", |c| c.invalid(&json!(port), why));
    }
    let path = str_at(s, "path");
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

fn review_versions(versions: &[Value], recognized: bool, c: &mut Causes) {
    if versions.is_empty() {
        return c.required("");
    }
    for (i, version) in versions.iter().enumerate() {
        c.index(i, |c| {
            if versions[..i].contains(version) {
                c.invalid(version, "duplicate version");
            } else {
                let text = version.as_str().unwrap_or("");
                let problems = names::dns1035_label(text);
                problems.into_iter().for_each(|p| c.invalid(version, p));
            }
        });
    }
    if recognized && !versions.iter().any(is_known) {
        c.invalid(&json!(versions), "must include at least one of v1, v1beta1");
    }
}
