//! Twins of projected_podcertificate.go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::super::Twin;
use crate::images::AGNHOST_IMAGE;
use crate::rest::Cx;
use crate::signer::{self, Signer};
use crate::waits;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] MaxExpirationSeconds validations should issue certificate with default life time (24h) when MaxExpirationSeconds is not set [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-podcertificate",
        default_life
    ),
    twin!(
        "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] MaxExpirationSeconds validations should issue certificate with specified duration (1h) when MaxExpirationSeconds is set [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-podcertificate",
        one_hour
    ),
    twin!(
        "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] MaxExpirationSeconds validations should reject pod creation when MaxExpirationSeconds exceeds maximum (91d) [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-podcertificate",
        too_long
    ),
    twin!(
        "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] MaxExpirationSeconds validations should reject pod creation when MaxExpirationSeconds is less than minimum (1h) [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-podcertificate",
        too_short
    ),
    twin!(
        "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should allow server and client pods to establish an mTLS connection [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-podcertificate",
        mutual_tls
    ),
    twin!(
        "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should honor UserAnnotations for SPIFFE URI path [MinimumKubeletVersion:1.37] [Conformance]",
        "projected-podcertificate",
        path_override
    ),
];

const DAY: i64 = 86_400;
/// How long a line may take into the log.
const LOG: Duration = Duration::from_secs(30);
const FILE: &str = "/run/tls-config/spiffe-cred-bundle.pem";

/// A podCertificate source of a twin's signer.
fn source(signer: &str) -> Value {
    json!({"signerName": signer, "keyType": "ECDSAP256",
        "credentialBundlePath": "spiffe-cred-bundle.pem"})
}

/// A pod that shows the certificate it got.
fn inspector(signer: &str, name: &str, more: &Value) -> Value {
    let mut own = source(signer);
    crate::operations::merge(&mut own, more);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never",
            "containers": [{"name": "inspector", "image": AGNHOST_IMAGE,
                "command": ["/bin/sh", "-c", format!("cat {FILE} && sleep infinity")],
                "volumeMounts": [{"name": "tls-config", "mountPath": "/run/tls-config"}]}],
            "volumes": [{"name": "tls-config", "projected": {"sources": [{"podCertificate": own}]}}]}})
}

/// The leaf certificate that a pod gets, once it runs, and shows.
async fn leaf(cx: &Cx, name: &str, more: Value) -> Result<Pem> {
    let signer = Signer::start(cx).await?;
    let pod = inspector(&signer.name, name, &more);
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    waits::running(cx, name).await?;
    let what = "the pod's log shows a certificate";
    cx.eventually(Duration::from_millis(100), LOG, what, || async {
        let log = waits::log(cx, name, "inspector").await?;
        Ok(log.contains("-----END CERTIFICATE-----"))
    })
    .await?;
    let log = waits::log(cx, name, "inspector").await?;
    let blocks = Pem::iter_from_buffer(log.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    ensure!(
        blocks.first().is_some_and(|b| b.label == "PRIVATE KEY"),
        "{log}"
    );
    let mut certificates = blocks.into_iter().filter(|b| b.label == "CERTIFICATE");
    certificates.next().with_context(|| log.clone())
}

fn life(leaf: &X509Certificate<'_>) -> i64 {
    let validity = leaf.validity();
    validity.not_after.timestamp() - validity.not_before.timestamp()
}

async fn default_life(cx: Cx) -> Result<()> {
    let leaf = leaf(&cx, "default-duration-pod", json!({})).await?;
    let found = life(&leaf.parse_x509()?);
    ensure!(found == DAY, "the certificate lasts {found} s");
    Ok(())
}

async fn one_hour(cx: Cx) -> Result<()> {
    let more = json!({"maxExpirationSeconds": 3600});
    let leaf = leaf(&cx, "one-hour-duration-pod", more).await?;
    let found = life(&leaf.parse_x509()?);
    ensure!(found == 3600, "the certificate lasts {found} s");
    Ok(())
}

async fn path_override(cx: Cx) -> Result<()> {
    let more = json!({"userAnnotations": {signer::PATH: "/custom-workload"}});
    let pem = leaf(&cx, "path-override-pod", more).await?;
    let leaf = pem.parse_x509()?;
    let names = leaf.subject_alternative_name()?.context("no names")?;
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|n| match n {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    ensure!(
        uris.contains(&"spiffe://cluster.local/custom-workload"),
        "{uris:?}"
    );
    Ok(())
}

async fn refused(cx: &Cx, name: &str, seconds: u32, wanted: &str) -> Result<()> {
    let signer = format!("e2e.example.com/{}", cx.namespace);
    let pod = inspector(&signer, name, &json!({"maxExpirationSeconds": seconds}));
    let f = cx.refused(Method::POST, &cx.core("pods"), &pod).await?;
    ensure!(f.message.contains(wanted), "{f:?}");
    Ok(())
}

async fn too_long(cx: Cx) -> Result<()> {
    let wanted = "if provided, maxExpirationSeconds must be <= 7862400";
    refused(&cx, "too-long-duration-pod", 7_862_401, wanted).await
}

async fn too_short(cx: Cx) -> Result<()> {
    let wanted = "if provided, maxExpirationSeconds must be >= 3600";
    refused(&cx, "too-short-duration-pod", 3599, wanted).await
}

/// A Deployment of one pod with a certificate and the bundle that it trusts.
fn deployment(signer: &str, name: &str, args: &[String]) -> Value {
    let trust =
        json!({"signerName": signer, "labelSelector": {}, "path": "spiffe-trust-bundle.pem"});
    let sources = json!([{"podCertificate": source(signer)}, {"clusterTrustBundle": trust}]);
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "containers": [{"name": name, "image": AGNHOST_IMAGE, "imagePullPolicy": "Always",
                    "args": args,
                    "securityContext": {"allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "tls-config", "mountPath": "/run/tls-config"}]}],
                "volumes": [{"name": "tls-config", "projected": {"sources": sources}}]}}}})
}

async fn mutual_tls(cx: Cx) -> Result<()> {
    let signer = Signer::start(&cx).await?;
    let trust = "/run/tls-config/spiffe-trust-bundle.pem";
    let serve = [
        "mtlsserver".to_string(),
        "--listen=0.0.0.0:443".into(),
        format!("--server-creds={FILE}"),
        format!("--spiffe-trust-bundle={trust}"),
    ];
    let ask = [
        "mtlsclient".to_string(),
        format!(
            "--fetch-url=https://server.{}.svc.cluster.local/spiffe-echo",
            cx.namespace
        ),
        format!("--server-trust-bundle={trust}"),
        format!("--client-cred-bundle={FILE}"),
    ];
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"},
        "spec": {"type": "ClusterIP", "selector": {"app": "server"},
            "ports": [{"name": "https", "port": 443, "targetPort": 443}]}});
    let deployments = cx.group("apps/v1", "deployments");
    let server = deployment(&signer.name, "server", &serve);
    cx.ok(Method::POST, &deployments, &server).await?;
    cx.ok(Method::POST, &cx.core("services"), &service).await?;
    let client = deployment(&signer.name, "client", &ask);
    cx.ok(Method::POST, &deployments, &client).await?;
    let wanted = "Got response body: Client Identity: spiffe://";
    let (every, within) = (Duration::from_secs(2), Duration::from_secs(30));
    cx.eventually(every, within, wanted, || async {
        let pods = waits::pods(&cx, "app=client").await?;
        let Some(pod) = pods.first() else {
            return Ok(false);
        };
        let path = cx.core(&format!("pods/{}/log", waits::name(pod)));
        let log = cx.raw_get(&path).await?;
        Ok(log.code == 200 && log.text.contains(wanted))
    })
    .await
}
