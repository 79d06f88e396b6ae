//! Trust anchors of ClusterTrustBundles, for projected volumes. Pure.
//! Upstream: pkg/kubelet/clustertrustbundle.

use std::collections::BTreeSet;

use api::certificates::v1::ClusterTrustBundle;
use api::core::v1::ClusterTrustBundleProjection;
use api::selector::LabelSelector;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Characters of a line of PEM.
const LINE: usize = 64;

/// The file of a projection: each certificate of the chosen bundles once, in an order that only depends on
/// what is chosen.
pub fn file<'a>(
    source: &ClusterTrustBundleProjection,
    all: impl Iterator<Item = &'a ClusterTrustBundle>,
) -> Result<Vec<u8>, String> {
    let optional = source.optional == Some(true);
    let chosen: Vec<&ClusterTrustBundle> = match (&source.name, &source.signer_name) {
        (Some(name), _) => {
            let named = all.filter(|b| b.metadata.name.as_ref() == Some(name));
            let named: Vec<_> = named.collect();
            if named.is_empty() && !optional {
                return Err(format!(
                    "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found"
                ));
            }
            named
        }
        (None, Some(signer)) => {
            let matches = by_labels(source)?;
            let signed = all.filter(|b| b.spec.signer_name.as_ref() == Some(signer) && matches(b));
            let signed: Vec<_> = signed.collect();
            if signed.is_empty() && !optional {
                return Err(
                    "combination of signerName and labelSelector matched zero ClusterTrustBundles"
                        .into(),
                );
            }
            signed
        }
        (None, None) => {
            return Err(
                "ClusterTrustBundle projection requires either name or signerName to be set".into(),
            );
        }
    };
    let bundles = chosen.iter().map(|b| b.spec.trust_bundle.as_str());
    Ok(normalized(bundles)?.into_bytes())
}

/// No selector selects nothing, an empty one everything.
fn by_labels(
    source: &ClusterTrustBundleProjection,
) -> Result<impl Fn(&ClusterTrustBundle) -> bool, String> {
    let selector = match &source.label_selector {
        None => None,
        Some(s) => {
            let object = serde_json::to_value(s).map_err(|e| e.to_string())?;
            let parsed = LabelSelector::from_object(&object);
            Some(parsed.ok_or("while parsing label selector: it is not valid")?)
        }
    };
    Ok(move |bundle: &ClusterTrustBundle| {
        let labels = bundle.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
        selector.as_ref().is_some_and(|s| s.matches(label))
    })
}

/// PEM of each certificate once, without headers and remarks.
fn normalized<'a>(bundles: impl Iterator<Item = &'a str>) -> Result<String, String> {
    let mut anchors = BTreeSet::new();
    for bundle in bundles {
        for anchor in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let anchor = anchor.map_err(|e| format!("while normalizing trust anchors: {e}"))?;
            anchors.insert(BASE64_STANDARD.encode(&anchor));
        }
    }
    let mut text = String::new();
    for anchor in anchors {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = anchor.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pem(data: &str) -> String {
        let body = BASE64_STANDARD.encode(data);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    fn bundles() -> Vec<ClusterTrustBundle> {
        let one = |name: &str, signer: Value, live: &str, text: String| {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"live": live}},
                    "spec": {"signerName": signer, "trustBundle": text}}))
            .unwrap()
        };
        vec![
            one(
                "alone",
                Value::Null,
                "yes",
                format!("a remark\n{}", pem("a")),
            ),
            one("s:1", json!("s"), "yes", pem("c") + &pem("b")),
            one("s:2", json!("s"), "no", pem("b")),
            one("t:1", json!("t"), "yes", pem("d")),
        ]
    }

    #[test]
    fn names_signers_and_selectors() {
        let all = bundles();
        let get = |source: Value| {
            let source = serde_json::from_value(source).unwrap();
            file(&source, all.iter()).map(|f| String::from_utf8(f).unwrap())
        };
        let cases = [
            (json!({"name": "alone"}), pem("a")),
            (json!({"name": "no", "optional": true}), String::new()),
            (
                json!({"signerName": "s", "labelSelector": {}}),
                pem("b") + &pem("c"),
            ),
            (
                json!({"signerName": "s", "labelSelector": {"matchLabels": {"live": "no"}}}),
                pem("b"),
            ),
            (json!({"signerName": "s", "optional": true}), String::new()),
        ];
        for (mut source, wanted) in cases {
            source["path"] = json!("p");
            assert_eq!(get(source.clone()).unwrap(), wanted, "{source}");
        }
        let none = get(json!({"path": "p", "name": "no"})).unwrap_err();
        assert!(none.ends_with("\"no\" not found"), "{none}");
        let none = get(json!({"path": "p", "signerName": "s"})).unwrap_err();
        assert!(none.contains("matched zero ClusterTrustBundles"), "{none}");
        assert!(get(json!({"path": "p"})).is_err());
    }

    #[test]
    fn long_certificates_are_wrapped() {
        let text = normalized([pem(&"x".repeat(100)).as_str()].into_iter()).unwrap();
        let longest = text.lines().map(str::len).max();
        assert_eq!((longest, text.lines().count()), (Some(64), 5));
    }
}
