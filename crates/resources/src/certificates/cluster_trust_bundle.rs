//! ClusterTrustBundle. Upstream: pkg/registry/certificates/clustertrustbundle, pkg/apis/certificates.

use std::collections::HashMap;

use api::names;
use jiff::Timestamp;
use machinery::object::str_at;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{GROUP, pem, signer};
use crate::cells;
use crate::fields;

const BUNDLE_BYTES_MAX: usize = 1 << 20;

struct ClusterTrustBundle;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ClusterTrustBundle",
        "clustertrustbundles",
        Scope::Cluster,
        ClusterTrustBundle,
    )
}

impl Strategy for ClusterTrustBundle {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        // What belongs to the signer is checked with the spec, which is not known here.
        let rest = name.rsplit_once(':').map_or(name, |(_, rest)| rest);
        names::subdomain_name(rest, prefix)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        name_rules(obj, causes);
        causes.at("spec", |c| {
            let spec = obj.get("spec").unwrap_or(&Value::Null);
            if !str_at(spec, "signerName").is_empty() {
                signer::validate(spec, "signerName", c);
            }
            c.at("trustBundle", |c| bundle(str_at(spec, "trustBundle"), c));
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::immutable(obj, before, "spec.signerName", causes);
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["spec.signerName"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", str_at(obj, "spec.signerName").into())]
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("SignerName")]
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            cells::or_none(str_at(obj, "spec.signerName")),
        ]
    }
}

fn name_rules(obj: &Value, causes: &mut Causes) {
    let (name, signer) = (machinery::object::name(obj), str_at(obj, "spec.signerName"));
    let problem = if signer.is_empty() {
        name.contains(':').then(|| {
            "ClusterTrustBundle without signer name must not have \":\" in its name".to_string()
        })
    } else {
        let prefix = format!("{}:", signer.replace('/', ":"));
        (!name.starts_with(&prefix)).then(|| {
            format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")
        })
    };
    if let Some(problem) = problem {
        causes.at("metadata.name", |c| c.invalid(&json!(name), problem));
    }
}

fn bundle(text: &str, c: &mut Causes) {
    if text.len() > BUNDLE_BYTES_MAX {
        return c.too_long(BUNDLE_BYTES_MAX);
    }
    let wrong = |c: &mut Causes, text: String| c.invalid(&json!("<value omitted>"), text);
    let mut places: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    let blocks = pem::blocks(text);
    for (i, block) in blocks.iter().enumerate() {
        if block.label != "CERTIFICATE" {
            wrong(c, format!("entry {i} has bad block type: {}", block.label));
            continue;
        }
        if pem::headers(text) {
            wrong(c, format!("entry {i} has PEM block headers"));
            continue;
        }
        let Ok(certificate) = block.parse_x509() else {
            wrong(c, format!("entry {i} does not parse as X.509"));
            continue;
        };
        match certificate.basic_constraints() {
            Ok(Some(b)) if b.value.ca => {}
            Ok(Some(_)) => wrong(c, format!("entry {i} does not have the CA bit set")),
            _ => wrong(c, format!("entry {i} has invalid basic constraints")),
        }
        places.entry(block.contents.clone()).or_default().push(i);
    }
    if blocks.is_empty() {
        return wrong(c, "at least one trust anchor must be provided".into());
    }
    for twice in places.values().filter(|p| p.len() > 1) {
        let all: Vec<String> = twice.iter().map(usize::to_string).collect();
        wrong(
            c,
            format!("duplicate trust anchor (indices [{}])", all.join(" ")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn names_follow_the_signer_and_anchors_are_needed() {
        for (name, signer, expected) in [
            (
                "a:b",
                "",
                "metadata.name: Invalid value: \"a:b\": ClusterTrustBundle without signer name must not have \":\" in its name",
            ),
            (
                "x",
                "a.b/c",
                "metadata.name: Invalid value: \"x\": ClusterTrustBundle for signerName a.b/c must be named with prefix a.b:c:",
            ),
        ] {
            let obj = json!({"metadata": {"name": name}, "spec": {"signerName": signer}});
            assert_eq!(
                texts(|c| ClusterTrustBundle.validate(&obj, c)),
                [
                    expected,
                    "spec.trustBundle: Invalid value: \"<value omitted>\": at least one trust anchor must be provided"
                ]
            );
        }
    }
}
