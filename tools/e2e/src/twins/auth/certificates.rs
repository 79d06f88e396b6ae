//! Twins of certificates.go and podcertificaterequest.go.

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::certs;
use crate::connect::escape;
use crate::exercise::Exercise;
use crate::operations::{discovered, sees_patched};
use crate::rest::{Cx, version};
use crate::waits::name;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations [Conformance]",
        "certificates",
        signing_requests
    ),
    twin!(
        "[sig-auth] PodCertificateRequest API [Privileged:ClusterAdmin] should support PodCertificateRequest API operations [Conformance]",
        "podcertificaterequest",
        pod_certificate_requests
    ),
];

const V1: &str = "certificates.k8s.io/v1";
const ALL: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn conditions(object: &Value) -> &[Value] {
    let all = object["status"]["conditions"].as_array();
    all.map(Vec::as_slice).unwrap_or_default()
}

fn annotated(object: &Value, key: &str) -> bool {
    object["metadata"]["annotations"][key] == "true"
}

async fn signing_requests(cx: Cx) -> Result<()> {
    let resources = [
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status",
    ];
    discovered(&cx, V1, &resources).await?;
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec!["e2e.example.com".to_string()])?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "e2e.example.com");
    let request = params.serialize_request(&key)?.pem()?;
    let signer = format!("example.com/e2e-{}", cx.namespace);
    let object = json!({"apiVersion": V1, "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "e2e-example-csr-"},
        "spec": {"request": BASE64.encode(request), "signerName": signer, "expirationSeconds": 3600,
            "usages": ["digital signature", "key encipherment", "server auth"]}});
    let mut made = Value::Null;
    for _ in 0..3 {
        made = cx.ok(Method::POST, ALL, &object).await?;
        cx.clean(format!("{ALL}/{}", name(&made)));
    }
    let path = format!("{ALL}/{}", name(&made));
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["uid"] == made["metadata"]["uid"],
        "{found}"
    );
    ensure!(found["spec"]["expirationSeconds"] == 3600, "{found}");
    let before = version(&found)?;
    let selector = format!(
        "fieldSelector={}",
        escape(&format!("spec.signerName={signer}"))
    );
    let listed = format!("{ALL}?{selector}");
    let list = cx.get(&listed).await?;
    ensure!(list["items"].as_array().map(Vec::len) == Some(3), "{list}");
    let one = escape(&format!("metadata.name={}", name(&made)));
    let query = format!("fieldSelector={one}&resourceVersion={}", version(&list)?);
    let mut watch = cx.watch(ALL, &query).await?;

    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = cx.patch(&path, "merge", &patch).await?;
    ensure!(
        annotated(&patched, "patched") && version(&patched)? > before,
        "{patched}"
    );
    let updated = cx
        .update(&path, |o| {
            o["metadata"]["annotations"]["updated"] = json!("true")
        })
        .await?;
    ensure!(annotated(&updated, "updated"), "{updated}");
    sees_patched(&mut watch).await?;

    approve(&cx, &path, &made).await?;
    set_status(&cx, &path, &made).await?;

    cx.delete(&path).await?;
    ensure!(!cx.exists(&path).await?, "{path} is still there");
    ensure!(cx.items(&listed).await?.len() == 2, "two are left");
    cx.delete(&listed).await?;
    let left = cx.items(&listed).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Is this the request, read through a subresource?
fn same(found: &Value, made: &Value) -> Result<()> {
    ensure!(
        found["kind"] == "CertificateSigningRequest" && found["apiVersion"] == V1,
        "{found}"
    );
    ensure!(
        found["metadata"]["uid"] == made["metadata"]["uid"],
        "{found}"
    );
    Ok(())
}

async fn approve(cx: &Cx, path: &str, made: &Value) -> Result<()> {
    let approval = format!("{path}/approval");
    same(&cx.get(&approval).await?, made)?;
    let patch = json!({"metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [{"type": "ApprovalPatch", "status": "True", "reason": "e2e"}]}});
    let patched = cx.patch(&approval, "merge", &patch).await?;
    let found = conditions(&patched);
    ensure!(
        found.len() == 1 && found[0]["type"] == "ApprovalPatch",
        "{patched}"
    );
    ensure!(annotated(&patched, "patchedapproval"), "{patched}");
    let updated = cx
        .update(&approval, |o| {
            if let Some(all) = o["status"]["conditions"].as_array_mut() {
                all.push(
                    json!({"type": "Approved", "status": "True", "reason": "E2E",
                    "message": "Set from an e2e test"}),
                );
            }
        })
        .await?;
    let found = conditions(&updated);
    ensure!(
        found.len() == 2 && found[1]["type"] == "Approved",
        "{updated}"
    );
    Ok(())
}

async fn set_status(cx: &Cx, path: &str, made: &Value) -> Result<()> {
    let status = format!("{path}/status");
    same(&cx.get(&status).await?, made)?;
    let key = rcgen::KeyPair::generate()?;
    let now = certs::now()?;
    let certificate = BASE64.encode(certs::self_signed(
        "e2e.example.com",
        &key,
        now,
        now + 3600,
    )?);
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"certificate": certificate}});
    let patched = cx.patch(&status, "merge", &patch).await?;
    ensure!(patched["status"]["certificate"] == certificate, "{patched}");
    ensure!(annotated(&patched, "patchedstatus"), "{patched}");
    let sent = conditions(&patched).len() + 1;
    let updated = cx
        .update(&status, |o| {
            if let Some(all) = o["status"]["conditions"].as_array_mut() {
                all.push(
                    json!({"type": "StatusUpdate", "status": "True", "reason": "E2E",
                    "message": "Set from an e2e test"}),
                );
            }
        })
        .await?;
    let found = conditions(&updated);
    ensure!(
        found.len() == sent && found[sent - 1]["type"] == "StatusUpdate",
        "{updated}"
    );
    Ok(())
}

async fn pod_certificate_requests(cx: Cx) -> Result<()> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    let from = certs::now()? - 60;
    let chain = certs::self_signed("e2e.example.com", &key, from, from + 3600)?;
    let condition = json!({"type": "Issued", "status": "True", "reason": "E2E",
        "message": "Set from an e2e test", "lastTransitionTime": certs::rfc3339(certs::now()?)?});
    let status = json!({"certificateChain": chain, "notBefore": certs::rfc3339(from)?,
        "notAfter": certs::rfc3339(from + 3600)?, "beginRefreshAt": certs::rfc3339(from + 900)?,
        "conditions": [condition]});
    let add = |(field, value): (&String, &Value)| json!({"op": "add", "path": format!("/status/{field}"), "value": value});
    let status_json_patch = status.as_object().into_iter().flatten().map(add).collect();
    let uid = |i: u32| format!("12345678-1234-1234-1234-1234567890{i}");
    let label = "test.podcertificaterequest.example.com";
    let exercise = Exercise {
        group: V1,
        plural: "podcertificaterequests",
        kind: "PodCertificateRequest",
        namespaced: true,
        name: "test".into(),
        object: json!({"metadata": {"generateName": "e2e-example-pcr-"}, "spec": {
            "signerName": format!("example.com/e2e-{}", cx.namespace),
            "podName": "test-pod", "podUID": uid(12),
            "serviceAccountName": "default", "serviceAccountUID": uid(13),
            "nodeName": "test-node", "nodeUID": uid(14), "maxExpirationSeconds": 86400,
            "stubPKCS10Request": BASE64.encode(request.der())}}),
        update: json!({"metadata": {"labels": {label: "test"}}}),
        json_patch: json!([{"op": "add", "path": format!("/metadata/labels/{label}"), "value": "test"}]),
        status: Some(status),
        status_json_patch,
    };
    exercise.run(&cx).await
}
