//! PodCertificateRequest. Upstream: pkg/registry/certificates/podcertificaterequest,
//! pkg/apis/certificates/validation. That notBefore is near now is not checked: strategies have no clock.

use api::names;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use machinery::object::{at, i64_at, list_at, map_at, set_default, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};
use x509_parser::public_key::PublicKey;

use super::{GROUP, pem, signer};
use crate::cells;
use crate::fields;

const UID_MAX: usize = 128;
const SECONDS_MIN: i64 = 3600;
const SECONDS_MAX: i64 = 7_862_400;
const KUBERNETES_SECONDS_MAX: i64 = 86_400;
const CHAIN_BYTES_MAX: usize = 160 << 10;
const STUB_BYTES_MAX: usize = 10 << 10;
const NOTES_BYTES_MAX: usize = 256 << 10;
/// Seconds that a refresh keeps from both ends of a certificate's life.
const REFRESH_MARGIN: i64 = 600;
const FINAL: [&str; 3] = ["Issued", "Denied", "Failed"];

struct PodCertificateRequest;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "PodCertificateRequest",
        "podcertificaterequests",
        Scope::Namespaced,
        PodCertificateRequest,
    )
    .status()
}

impl Strategy for PodCertificateRequest {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.maxExpirationSeconds", json!(86_400));
    }

    fn has_status(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| spec_rules(spec, c));
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        fields::immutable(obj, before, "spec", causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        causes.at("status", |c| status_rules(obj, before, c));
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["spec.signerName", "spec.podName", "spec.nodeName"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        ["spec.signerName", "spec.podName", "spec.nodeName"]
            .iter()
            .map(|key| (*key, str_at(obj, key).to_string()))
            .collect()
    }

    fn columns(&self) -> Vec<Column> {
        [
            "PodName",
            "ServiceAccountName",
            "NodeName",
            "SignerName",
            "State",
            "UnverifiedUserAnnotations",
        ]
        .into_iter()
        .fold(vec![Column::name()], |mut all, name| {
            all.push(Column::new(name));
            all
        })
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        let conditions = list_at(obj, "status.conditions");
        let state = conditions
            .iter()
            .map(|c| str_at(c, "type"))
            .rfind(|t| FINAL.contains(t));
        let text = |path| json!(str_at(obj, path));
        vec![
            cells::name(obj),
            text("spec.podName"),
            text("spec.serviceAccountName"),
            text("spec.nodeName"),
            text("spec.signerName"),
            json!(state.unwrap_or("Pending")),
            cells::label_map(map_at(obj, "spec.unverifiedUserAnnotations")),
        ]
    }
}

fn spec_rules(spec: &Value, c: &mut Causes) {
    signer::validate(spec, "signerName", c);
    c.at("unverifiedUserAnnotations", |c| notes(spec, c));
    for (name, uid) in [
        ("podName", "podUID"),
        ("serviceAccountName", "serviceAccountUID"),
        ("nodeName", "nodeUID"),
    ] {
        c.at(name, |c| {
            fields::text(str_at(spec, name), names::dns1123_subdomain, c);
        });
        let text = str_at(spec, uid);
        c.at(uid, |c| {
            if text.is_empty() {
                c.invalid(&json!(""), "must not be empty");
            }
            if text.len() > UID_MAX {
                c.too_long(UID_MAX);
            }
        });
    }
    let Some(seconds) = i64_at(spec, "maxExpirationSeconds") else {
        return c.at("maxExpirationSeconds", |c| c.required("must be set"));
    };
    let signer = str_at(spec, "signerName");
    let domain = signer.split('/').next().unwrap_or("");
    let ours = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let max = if ours {
        KUBERNETES_SECONDS_MAX
    } else {
        SECONDS_MAX
    };
    if !(SECONDS_MIN..=max).contains(&seconds) {
        c.at("maxExpirationSeconds", |c| {
            c.invalid(
                &json!(seconds),
                format!("must be in the range [{SECONDS_MIN}, {max}]"),
            );
        });
    }
    if str_at(spec, "stubPKCS10Request").is_empty() {
        let text =
            "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        return fields::invalid_shown(c, None, text);
    }
    c.at("stubPKCS10Request", |c| stub(spec, c));
}

fn notes(spec: &Value, c: &mut Causes) {
    let all = map_at(spec, "unverifiedUserAnnotations");
    let mut bytes = 0;
    for (key, value) in all.into_iter().flatten() {
        let low = key.to_lowercase();
        for problem in names::qualified_name(&low) {
            c.invalid(&json!(key), problem);
        }
        if !low.contains('/') {
            c.invalid(
                &json!(key),
                "must be a domain-prefixed key (such as \"acme.io/foo\")",
            );
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > NOTES_BYTES_MAX {
        c.too_long(NOTES_BYTES_MAX);
    }
}

fn stub_bytes(spec: &Value) -> Vec<u8> {
    BASE64_STANDARD
        .decode(str_at(spec, "stubPKCS10Request"))
        .unwrap_or_default()
}

fn stub(spec: &Value, c: &mut Causes) {
    let bytes = stub_bytes(spec);
    if bytes.len() > STUB_BYTES_MAX {
        return c.too_long(STUB_BYTES_MAX);
    }
    let Ok((_, request)) = X509CertificationRequest::from_der(&bytes) else {
        return fields::invalid_shown(c, None, "must be a valid PKCS#10 CSR");
    };
    let key = &request.certification_request_info.subject_pki;
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if ![3072, 4096].contains(&rsa.key_size()) => {
            let shown = format!("\"{}-bit modulus\"", rsa.key_size());
            return fields::invalid_shown(
                c,
                Some(&shown),
                "RSA keys must have modulus size 3072 or 4096",
            );
        }
        Ok(PublicKey::RSA(_) | PublicKey::EC(_)) => {}
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => {}
        _ => {
            return fields::invalid_shown(
                c,
                None,
                "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
            );
        }
    }
    if request.verify_signature().is_err() {
        fields::invalid_shown(c, None, "invalid signature");
    }
}

fn is(obj: &Value, kind: &str) -> bool {
    list_at(obj, "status.conditions")
        .iter()
        .any(|c| str_at(c, "type") == kind && str_at(c, "status") == "True")
}

fn status_rules(obj: &Value, before: &Value, c: &mut Causes) {
    let count = c.as_slice().len();
    c.at("conditions", |c| conditions(obj, c));
    if c.as_slice().len() > count {
        return;
    }
    let empty = json!({});
    let (status, old) = (
        obj.get("status").unwrap_or(&empty),
        before.get("status").unwrap_or(&empty),
    );
    let bare = |s: &Value| {
        let mut s = s.clone();
        machinery::object::remove(&mut s, "conditions");
        s
    };
    let same = status == old;
    if FINAL.iter().any(|k| is(before, k)) {
        if !same {
            let text = "immutable after PodCertificateRequest is issued, denied, or failed";
            c.invalid(status, text);
        }
    } else if is(obj, "Denied") || is(obj, "Failed") {
        if bare(status) != empty {
            let text = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            c.invalid(status, text);
        }
    } else if is(obj, "Issued") {
        issued(obj, status, c);
    } else if !same {
        let text =
            "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        c.invalid(status, text);
    }
}

fn conditions(obj: &Value, c: &mut Causes) {
    let all = list_at(obj, "status.conditions");
    for (i, one) in all.iter().enumerate() {
        let kind = str_at(one, "type");
        c.index(i, |c| {
            if !FINAL.contains(&kind) {
                return c.at("type", |c| {
                    fields::unsupported(c, &json!(kind), &FINAL);
                });
            }
            if i > 0 {
                c.at("type", |c| {
                    c.invalid(&json!(kind), "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"");
                });
            }
            let status = str_at(one, "status");
            if status != "True" {
                c.at("status", |c| {
                    fields::unsupported(c, &json!(status), &["True"]);
                });
            }
        });
    }
    fields::conditions(all, c);
}

fn issued(obj: &Value, status: &Value, c: &mut Causes) {
    let chain = str_at(status, "certificateChain");
    let wrong = |c: &mut Causes, text: &str| {
        c.at("certificateChain", |c| c.invalid(&json!(chain), text));
    };
    if chain.len() > CHAIN_BYTES_MAX {
        return c.at("certificateChain", |c| c.too_long(CHAIN_BYTES_MAX));
    }
    let blocks = pem::blocks(chain);
    let Some((leaf, rest)) = blocks.split_first() else {
        return wrong(
            c,
            "issued certificate chain must contain at least one certificate",
        );
    };
    if leaf.label != "CERTIFICATE" {
        return wrong(
            c,
            "issued certificate chain must consist entirely of CERTIFICATE PEM blocks",
        );
    }
    let Ok(leaf) = leaf.parse_x509() else {
        return wrong(c, "leaf certificate does not parse as valid X.509");
    };
    let stub = stub_bytes(obj.get("spec").unwrap_or(&Value::Null));
    let Ok((_, request)) = X509CertificationRequest::from_der(&stub) else {
        return wrong(c, "must be a valid PKCS#10 CSR");
    };
    if request.certification_request_info.subject_pki.raw != leaf.public_key().raw {
        return wrong(
            c,
            "leaf certificate was not issued to the requested public key",
        );
    }
    times(obj, status, &leaf, c);
    for block in rest {
        if block.label != "CERTIFICATE" {
            return wrong(
                c,
                "issued certificate chain must consist entirely of CERTFICATE PEM blocks",
            );
        }
        if block.parse_x509().is_err() {
            return wrong(c, "intermediate certificate does not parse as valid X.509");
        }
    }
}

fn times(obj: &Value, status: &Value, leaf: &X509Certificate<'_>, c: &mut Causes) {
    let consistent = "must be present and consistent with the issued certificate";
    let mut missing = false;
    for (field, text) in [
        ("notBefore", consistent),
        ("notAfter", consistent),
        (
            "beginRefreshAt",
            "must be present and in the range [notbefore+10min, notafter-10min]",
        ),
    ] {
        if at(status, field).is_none() {
            missing = true;
            c.at(field, |c| c.required(text));
        }
    }
    if missing {
        return;
    }
    let second = |field: &str| {
        let time = str_at(status, field).parse::<Timestamp>();
        time.map_or(i64::MIN, |t| t.as_second())
    };
    let wrong = |c: &mut Causes, field: &str, text: &str| {
        c.at(field, |c| c.invalid(&json!(str_at(status, field)), text));
    };
    let (begin, end) = (
        leaf.validity().not_before.timestamp(),
        leaf.validity().not_after.timestamp(),
    );
    let life = end - begin;
    let max = i64_at(obj, "spec.maxExpirationSeconds").unwrap_or(0);
    let refresh = second("beginRefreshAt");
    let shown = format!("\"{life}s\"");
    let chain = |c: &mut Causes, text: String| {
        c.at("certificateChain", |c| {
            fields::invalid_shown(c, Some(&shown), text);
        });
    };
    if second("notBefore") != begin {
        wrong(
            c,
            "notBefore",
            "must be set to the NotBefore time encoded in the leaf certificate",
        );
    } else if second("notAfter") != end {
        wrong(
            c,
            "notAfter",
            "must be set to the NotAfter time encoded in the leaf certificate",
        );
    } else if life < SECONDS_MIN {
        chain(c, "leaf certificate lifetime must be >= 1 hour".into());
    } else if life > max {
        chain(
            c,
            format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({max})"),
        );
    } else if refresh < begin + REFRESH_MARGIN {
        wrong(
            c,
            "beginRefreshAt",
            "must be at least 10 minutes after status.notBefore",
        );
    } else if refresh > end - REFRESH_MARGIN {
        wrong(
            c,
            "beginRefreshAt",
            "must be at least 10 minutes before status.notAfter",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        let obj = json!({"spec": {"signerName": "kubernetes.io/x", "podName": "p", "podUID": "", "nodeName": "n", "nodeUID": "u",
            "serviceAccountName": "s", "serviceAccountUID": "u", "maxExpirationSeconds": 90_000}});
        assert_eq!(
            texts(|c| PodCertificateRequest.validate(&obj, c)),
            [
                "spec.podUID: Invalid value: \"\": must not be empty",
                "spec.maxExpirationSeconds: Invalid value: 90000: must be in the range [3600, 86400]",
                "spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set",
            ]
        );
    }

    #[test]
    fn a_final_status_stays() {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let denied = json!({"status": {"conditions": [condition("Denied")]}});
        let open = json!({"status": {}});
        let check = |new: &Value, old: &Value| {
            texts(|c| PodCertificateRequest.validate_status_update(new, old, c))
        };
        assert_eq!(check(&denied, &open), [""; 0]);
        assert!(
            check(&open, &denied)[0]
                .ends_with("immutable after PodCertificateRequest is issued, denied, or failed")
        );
        let issued =
            json!({"status": {"conditions": [condition("Issued")], "certificateChain": "x"}});
        assert_eq!(
            check(&issued, &open),
            [
                "status.certificateChain: Invalid value: \"x\": issued certificate chain must contain at least one certificate"
            ]
        );
    }
}
