//! CertificateSigningRequest. Upstream: pkg/registry/certificates, pkg/apis/certificates.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use machinery::object::{at, at_mut, i64_at, list_at, remove, set, str_at};
use machinery::strategy::{human_duration, keep};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, pem, signer};
use crate::cells;
use crate::fields;

/// Usages in the order of upstream's sorted list.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SECONDS_MIN: i64 = 600;

struct CertificateSigningRequest;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        Scope::Cluster,
        CertificateSigningRequest,
    )
    .short(&["csr"])
    .sub("approval", SubresourceKind::Object)
    .status()
}

impl Strategy for CertificateSigningRequest {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        api::names::path_segment(name, prefix)
    }

    fn prepare_create(&self, obj: &mut Value, cx: &WriteContext) {
        for field in ["username", "uid", "groups", "extra"] {
            remove(obj, &format!("spec.{field}"));
        }
        let user = cx.user;
        if !user.name.is_empty() {
            set(obj, "spec.username", json!(user.name));
        }
        if !user.uid.is_empty() {
            set(obj, "spec.uid", json!(user.uid));
        }
        if !user.groups.is_empty() {
            set(obj, "spec.groups", json!(user.groups));
        }
        if !user.extra.is_empty() {
            set(obj, "spec.extra", json!(user.extra));
        }
        set(obj, "status", json!({}));
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "spec");
        keep(obj, before, "status");
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        keep(obj, before, "spec");
        for kind in ["Approved", "Denied"] {
            keep_conditions(obj, before, kind);
        }
        fill_times(obj, before, cx.now);
    }

    fn prepare_subresource(&self, _sub: &str, obj: &mut Value, before: &Value, cx: &WriteContext) {
        fill_times(obj, before, cx.now);
        let conditions = list_at(obj, "status.conditions").to_vec();
        keep(obj, before, "spec");
        keep(obj, before, "status");
        set(obj, "status.conditions", json!(conditions));
    }

    fn has_status(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        request_rules(obj, None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        update_rules(obj, before, "", causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        update_rules(obj, before, "status", causes);
    }

    fn validate_subresource(&self, sub: &str, obj: &Value, before: &Value, causes: &mut Causes) {
        update_rules(obj, before, sub, causes);
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["spec.signerName"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", str_at(obj, "spec.signerName").into())]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Age"),
            Column::new("SignerName"),
            Column::new("Requestor"),
            Column::new("RequestedDuration"),
            Column::new("Condition"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let duration = i64_at(obj, "spec.expirationSeconds");
        vec![
            cells::name(obj),
            cells::age(obj, now),
            cells::or_none(str_at(obj, "spec.signerName")),
            json!(str_at(obj, "spec.username")),
            json!(duration.map_or_else(|| "<none>".to_string(), human_duration)),
            json!(condition_cell(obj)),
        ]
    }
}

fn has(obj: &Value, kind: &str) -> bool {
    !of_kind(obj, kind).is_empty()
}

fn of_kind<'a>(obj: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = list_at(obj, "status.conditions").iter();
    all.filter(|c| str_at(c, "type") == kind).collect()
}

fn condition_cell(obj: &Value) -> String {
    let mut text = if has(obj, "Denied") {
        "Denied"
    } else if has(obj, "Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_string();
    if has(obj, "Failed") {
        text.push_str(",Failed");
    }
    if !str_at(obj, "status.certificate").is_empty() {
        text.push_str(",Issued");
    }
    text
}

/// Puts the stored conditions of a type in the place of those sent, where they are as many.
fn keep_conditions(obj: &mut Value, before: &Value, kind: &str) {
    let old: Vec<Value> = of_kind(before, kind).into_iter().cloned().collect();
    if of_kind(obj, kind).len() != old.len() {
        return;
    }
    let Some(Value::Array(all)) = at_mut(obj, "status.conditions") else {
        return;
    };
    let places = all.iter_mut().filter(|c| str_at(c, "type") == kind);
    for (new, old) in places.zip(old) {
        *new = old;
    }
}

fn fill_times(obj: &mut Value, before: &Value, now: Timestamp) {
    let now = json!(crate::time::rfc3339(now));
    let old = list_at(before, "status.conditions");
    let Some(Value::Array(all)) = at_mut(obj, "status.conditions") else {
        return;
    };
    for c in all.iter_mut().filter(|c| c.is_object()) {
        machinery::object::set_default(c, "lastUpdateTime", now.clone());
        let same = |o: &&Value| {
            o.get("type") == c.get("type")
                && o.get("status") == c.get("status")
                && at(o, "lastTransitionTime").is_some()
        };
        let since = old
            .iter()
            .find(same)
            .and_then(|o| at(o, "lastTransitionTime"));
        let since = since.cloned().unwrap_or_else(|| now.clone());
        machinery::object::set_default(c, "lastTransitionTime", since);
    }
}

fn request_problem(spec: &Value) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(str_at(spec, "request")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let first = pem::blocks(&text);
    if first
        .first()
        .is_none_or(|b| b.label != "CERTIFICATE REQUEST")
    {
        return Some("PEM block type must be CERTIFICATE REQUEST".into());
    }
    match pki::csr::Csr::parse(&text) {
        Ok(_) => None,
        Err(pki::Error::ParseCsr { why }) => Some(why),
        Err(other) => Some(other.to_string()),
    }
}

/// The rules of every request; mistakes that were stored once are let through.
fn request_rules(obj: &Value, before: Option<&Value>, causes: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    causes.at("spec", |c| {
        if let Some(problem) = request_problem(spec) {
            let shown = spec.get("request").cloned().unwrap_or_default();
            c.at("request", |c| c.invalid(&shown, problem));
        }
        c.at("usages", |c| usages(spec, c));
        let name = str_at(spec, "signerName");
        let legacy = before.is_some_and(|b| str_at(b, "spec.signerName") == LEGACY_SIGNER);
        if name == LEGACY_SIGNER && !legacy {
            c.at("signerName", |c| {
                c.invalid(
                    &json!(name),
                    "the legacy signerName is not allowed via this API version",
                );
            });
        } else {
            signer::validate(spec, "signerName", c);
        }
        fields::at_least(
            spec,
            "expirationSeconds",
            SECONDS_MIN,
            "may not specify a duration less than 600 seconds (10 minutes)",
            c,
        );
    });
    causes.at("status.conditions", |c| conditions(obj, before, c));
    let (new, old) = (
        str_at(obj, "status.certificate"),
        before.map_or("", |b| str_at(b, "status.certificate")),
    );
    if new != old && !new.is_empty() {
        let bytes = BASE64_STANDARD.decode(new).unwrap_or_default();
        if let Some(problem) = pem::certificates(&String::from_utf8_lossy(&bytes)) {
            causes.at("status.certificate", |c| {
                c.invalid(&json!("<certificate data>"), problem);
            });
        }
    }
}

fn usages(spec: &Value, c: &mut Causes) {
    let all = list_at(spec, "usages");
    if all.is_empty() {
        c.required("");
    }
    for (i, usage) in all.iter().enumerate() {
        c.index(i, |c| {
            if !USAGES.contains(&usage.as_str().unwrap_or("")) {
                fields::unsupported(c, usage, USAGES);
            }
            if all[..i].contains(usage) {
                c.duplicate(usage);
            }
        });
    }
}

fn conditions(obj: &Value, before: Option<&Value>, c: &mut Causes) {
    let all = list_at(obj, "status.conditions");
    for (i, one) in all.iter().enumerate() {
        c.index(i, |c| {
            fields::required(one, "type", c);
            let kind = str_at(one, "type");
            let allowed: &[&str] = match kind {
                "Approved" | "Denied" | "Failed" => &["True"],
                _ => &["False", "True", "Unknown"],
            };
            fields::required_enum(one, "status", allowed, c);
            if all[..i].iter().any(|o| str_at(o, "type") == kind) {
                c.at("type", |c| c.duplicate(&json!(kind)));
            }
        });
    }
    let both = |o: &Value| has(o, "Approved") && has(o, "Denied");
    if both(obj) && !before.is_some_and(both) {
        c.invalid(
            &json!("{Approved, Denied}"),
            "must specify at most one of: `Approved`, `Denied`",
        );
    }
}

/// The rules of updates through `via`: `""`, `status` or `approval`.
fn update_rules(obj: &Value, before: &Value, via: &str, causes: &mut Causes) {
    request_rules(obj, Some(before), causes);
    let refuse = |causes: &mut Causes, text: String| {
        causes.at("status.conditions", |c| c.forbidden(text));
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of_kind(obj, kind).len() < of_kind(before, kind).len() {
            refuse(
                causes,
                format!("updates may not remove a condition of type \"{kind}\""),
            );
        }
    }
    for kind in ["Approved", "Denied"] {
        let (new, old) = (of_kind(obj, kind), of_kind(before, kind));
        if via == "approval" || new.len() < old.len() || new == old {
            continue;
        }
        let what = if new.len() > old.len() {
            "add"
        } else {
            "modify"
        };
        refuse(
            causes,
            format!("updates may not {what} a condition of type \"{kind}\""),
        );
    }
    let certificate = |o: &Value| str_at(o, "status.certificate").to_string();
    let (new, old) = (certificate(obj), certificate(before));
    if new == old {
        return;
    }
    causes.at("status.certificate", |c| {
        if via != "status" {
            c.forbidden("updates may not set certificate content");
        } else if !old.is_empty() {
            c.forbidden("updates may not modify existing certificate content");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn cx(user: &machinery::request::User) -> WriteContext<'_> {
        WriteContext {
            now: Timestamp::UNIX_EPOCH,
            user,
            namespace: "",
            subresource: "",
        }
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        let obj = json!({"spec": {"request": BASE64_STANDARD.encode("x"), "usages": ["client auth", "client auth", "x"],
            "signerName": "nope", "expirationSeconds": 1}});
        let found = texts(|c| CertificateSigningRequest.validate(&obj, c));
        for text in [
            "spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST",
            "spec.usages[1]: Duplicate value: \"client auth\"",
            "spec.signerName: Invalid value: \"nope\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)",
        ] {
            assert!(found.iter().any(|f| f == text), "{text}: {found:#?}");
        }
        assert!(found.iter().any(|f| {
            f.starts_with("spec.usages[2]: Unsupported value: \"x\": supported values: \"any\", ")
        }));
    }

    #[test]
    fn who_asks_is_set_by_the_server() {
        let user = machinery::request::User::new("jane", &["dev"]);
        let mut obj = json!({"spec": {"username": "root"}, "status": {"certificate": "eA=="}});
        CertificateSigningRequest.prepare_create(&mut obj, &cx(&user));
        assert_eq!(
            obj,
            json!({"spec": {"username": "jane", "groups": ["dev"]}, "status": {}})
        );
    }

    #[test]
    fn approval_status_and_spec_have_their_own_ways() {
        let user = machinery::request::User::new("jane", &[]);
        let approved = json!([{"type": "Approved", "status": "True"}]);
        let old = json!({"spec": {"signerName": "a.b/c"}});
        let mut obj = json!({"spec": {"signerName": "x.y/z"}, "status": {"conditions": approved, "certificate": "eA=="}});
        let sent = obj.clone();
        CertificateSigningRequest.prepare_subresource("approval", &mut obj, &old, &cx(&user));
        assert_eq!(obj["spec"], old["spec"]);
        assert!(obj["status"].get("certificate").is_none());
        assert_eq!(
            obj["status"]["conditions"][0]["lastUpdateTime"],
            "1970-01-01T00:00:00Z"
        );
        let mut main = sent.clone();
        CertificateSigningRequest.prepare_update(&mut main, &old, &cx(&user));
        assert_eq!(main, old);
        let through = |via: &str| {
            let found = texts(|c| update_rules(&sent, &old, via, c));
            let about = |path: &str| {
                found
                    .iter()
                    .filter(|f| f.starts_with(path) && f.contains("Forbidden"))
                    .count()
            };
            (about("status.conditions"), about("status.certificate"))
        };
        assert_eq!(through("approval"), (0, 1));
        assert_eq!(through("status"), (1, 0));
    }
}
