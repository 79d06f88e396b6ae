//! Names of signers: `example.com/signer-name`. Upstream: ValidateSignerName.

use api::names;
use machinery::Causes;
use machinery::object::str_at;
use serde_json::Value;
use serde_json::json;

const DOMAIN_MAX: usize = 253;
const NAME_MAX: usize = 571;

/// Checks the signer's name in a field.
pub fn validate(obj: &Value, field: &str, c: &mut Causes) {
    let name = str_at(obj, field);
    c.at(field, |c| one(name, c));
}

fn one(name: &str, c: &mut Causes) {
    if name.is_empty() {
        return c.required("");
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, p)| !p.contains('/')) else {
        return c.invalid(
            &json!(name),
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    if domain.len() > DOMAIN_MAX {
        c.too_long(DOMAIN_MAX);
    }
    let labels: Vec<&str> = domain.split('.').collect();
    for label in &labels {
        for problem in names::dns1123_label(label) {
            c.invalid(
                &json!(domain),
                format!("validating label \"{label}\": {problem}"),
            );
        }
    }
    if labels.len() < 2 {
        c.invalid(
            &json!(domain),
            "should be a domain with at least two segments separated by dots",
        );
    }
    for problem in names::dns1123_subdomain(path) {
        c.invalid(&json!(path), problem);
    }
    if name.len() > NAME_MAX {
        c.too_long(NAME_MAX);
    }
}
