//! `spec.conversion`, whose webhook upstream's internal type has as `webhookClientConfig`.
//! Upstream: `validateCustomResourceConversion`; k8s.io/apiserver/pkg/util/webhook/validation.go.

use api::names;
use machinery::object::{list_at, str_at};
use machinery::{Causes, webhook_client};
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
        (None, Some(s)) => c.at("service", |c| webhook_client::service(s, c)),
        _ => c.required("exactly one of url or service is required"),
    }
}

fn url(text: &str, c: &mut Causes) {
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
    webhook_client::address(&scheme.to_lowercase(), rest, c);
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
