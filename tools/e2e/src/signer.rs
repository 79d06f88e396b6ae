//! A signer of pod certificates that runs within a twin. Upstream: test/utils/hermeticpodcertificatesigner.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::certs;
use crate::connect::escape;
use crate::rest::{Cx, version};

const V1: &str = "certificates.k8s.io/v1";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/podcertificaterequests";
const BUNDLES: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";
/// Annotation by which a pod chooses the path of its identity.
pub const PATH: &str = "spiffe/path-overriding";
const DAY: u64 = 86_400;
const BEFORE: u64 = 120;
const REFRESH: u64 = 1800;
/// A watch is begun anew after so long without an event.
const QUIET: Duration = Duration::from_secs(300);

/// A running signer; it ends when this is dropped.
pub struct Signer {
    pub name: String,
    task: AbortHandle,
}

/// What certificates are made with.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    intermediate: String,
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === Signer ===

impl Signer {
    /// Publishes a new root and signs what comes.
    pub async fn start(cx: &Cx) -> Result<Self> {
        let unique = &cx.namespace;
        let name = format!("e2e.example.com/{unique}");
        let (root, authority) = hierarchy()?;
        let bundle = format!("e2e.example.com:{unique}:primary-bundle");
        let object = json!({"apiVersion": V1, "kind": "ClusterTrustBundle", "metadata": {"name": bundle},
            "spec": {"signerName": name, "trustBundle": root}});
        cx.ok(Method::POST, BUNDLES, &object).await?;
        cx.clean(format!("{BUNDLES}/{bundle}"));
        let (own, cx) = (name.clone(), cx.clone());
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = sign_all(&cx, &own, &authority).await {
                    eprintln!("signer {own}: {error:#}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        });
        Ok(Self {
            name,
            task: task.abort_handle(),
        })
    }
}

/// A root's certificate and an intermediate that it signed.
fn hierarchy() -> Result<(String, Authority)> {
    let now = certs::now()?;
    let authority = || {
        let mut params = certs::authority_params("");
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        lasting(&mut params, now, 365 * DAY);
        params
    };
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let params = authority();
    let root = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let mut params = authority();
    // Names chain the certificates: both authorities without one would sign each other.
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "intermediate");
    let intermediate = params.signed_by(&key, &issuer)?.pem();
    Ok((
        root,
        Authority {
            issuer: Issuer::new(params, key),
            intermediate,
        },
    ))
}

fn lasting(params: &mut CertificateParams, from: u64, seconds: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(from + seconds);
}

/// Signs what there is and what comes, until a watch ends.
async fn sign_all(cx: &Cx, signer: &str, authority: &Authority) -> Result<()> {
    let selector = format!(
        "fieldSelector={}",
        escape(&format!("spec.signerName={signer}"))
    );
    let list = cx.get(&format!("{REQUESTS}?{selector}")).await?;
    for request in list["items"].as_array().into_iter().flatten() {
        sign(cx, request, authority).await?;
    }
    let query = format!("{selector}&resourceVersion={}", version(&list)?);
    let mut watch = cx.watch(REQUESTS, &query).await?;
    while let Ok((kind, request)) = watch.next(QUIET).await {
        if kind == "ADDED" || kind == "MODIFIED" {
            sign(cx, &request, authority).await?;
        }
    }
    Ok(())
}

/// Gives a request that has none its certificate.
async fn sign(cx: &Cx, request: &Value, authority: &Authority) -> Result<()> {
    if request["status"]["certificateChain"].is_string() {
        return Ok(());
    }
    let (spec, metadata) = (&request["spec"], &request["metadata"]);
    let namespace = metadata["namespace"].as_str().context("no namespace")?;
    let stub = spec["stubPKCS10Request"].as_str().context("no request")?;
    let stub = BASE64_STANDARD.decode(stub)?;
    let asked = CertificateSigningRequestParams::from_der(&stub.into())?;
    let account = spec["serviceAccountName"].as_str().unwrap_or_default();
    let path = match spec["unverifiedUserAnnotations"][PATH].as_str() {
        Some(path) => path.trim_start_matches('/').to_string(),
        None => format!("ns/{namespace}/sa/{account}"),
    };
    let from = certs::now()? - BEFORE;
    let life = spec["maxExpirationSeconds"]
        .as_u64()
        .unwrap_or(DAY)
        .min(DAY);
    let mut params = CertificateParams::new(vec![
        format!("server.{namespace}.svc"),
        format!("server.{namespace}.svc.cluster.local"),
    ])?;
    params.distinguished_name = DistinguishedName::new();
    let uri = format!("spiffe://cluster.local/{path}");
    params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    lasting(&mut params, from, life);
    let leaf = params
        .signed_by(&asked.public_key, &authority.issuer)?
        .pem();
    let mut issued = request.clone();
    issued["status"] = json!({
        "certificateChain": format!("{leaf}{}", authority.intermediate),
        "notBefore": certs::rfc3339(from)?, "notAfter": certs::rfc3339(from + life)?,
        "beginRefreshAt": certs::rfc3339(from + life - REFRESH)?,
        "conditions": [{"type": "Issued", "status": "True", "reason": "Reason", "message": "Issued",
            "lastTransitionTime": certs::rfc3339(certs::now()?)?}]});
    let name = metadata["name"].as_str().context("no name")?;
    let path = format!(
        "/apis/certificates.k8s.io/v1/namespaces/{namespace}/podcertificaterequests/{name}/status"
    );
    cx.ok(Method::PUT, &path, &issued).await?;
    Ok(())
}
