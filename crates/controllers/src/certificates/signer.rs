//! Approved requests are signed by the cluster's CA. Upstream: pkg/controller/certificates/signer.

use std::sync::Arc;
use std::time::Duration;

use api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use api::k8s_openapi::ByteString;
use async_trait::async_trait;
use client::Client;
use pki::csr::Csr;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use super::approver::{self, KUBELET_CLIENT};
use crate::common::act;
use crate::common::object::time;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-signing-controller",
    account: "certificate-controller",
    component: "certificate-controller",
    needs: &[("certificates.k8s.io", "certificatesigningrequests")],
    build: |setup| Ok(build(setup)),
};

const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// The longest and the shortest validity.
const VALIDITY: i64 = 365 * 86_400;
const VALIDITY_MIN: i64 = 600;

fn build(setup: &Setup) -> Reconciler {
    let this = Signer {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
        ca: setup.signing.ca.clone(),
    };
    Reconciler::new("certificatesigningrequest-signing-controller", 5, this)
        .backoff(Duration::from_millis(200), Duration::from_secs(1000))
        .on(Trigger::own(
            "certificates.k8s.io",
            "certificatesigningrequests",
        ))
}

struct Signer {
    client: Client,
    clock: Clock,
    ca: Option<Arc<pki::Ca>>,
}

/// Why a signer does not sign a request.
fn problem(spec: &CertificateSigningRequestSpec, csr: &Csr) -> Option<String> {
    let usages = spec.usages.clone().unwrap_or_default();
    match spec.signer_name.as_str() {
        KUBELET_CLIENT => approver::kubelet_client_problem(csr, &usages),
        KUBELET_SERVING => kubelet_serving_problem(csr, &usages),
        CLIENT => client_problem(&usages),
        _ => None,
    }
}

fn kubelet_serving_problem(csr: &Csr, usages: &[String]) -> Option<String> {
    if csr.organizations != ["system:nodes"] {
        return Some("subject organization is not system:nodes".into());
    }
    if !csr.common_name.starts_with("system:node:") {
        return Some("subject common name does not begin with system:node:".into());
    }
    if csr.dns_names.is_empty() && csr.ip_addresses.is_empty() {
        return Some("DNS or IP subjectAltName is required".into());
    }
    if !csr.emails.is_empty() {
        return Some("Email subjectAltNames are not allowed".into());
    }
    if !csr.uris.is_empty() {
        return Some("URI subjectAltNames are not allowed".into());
    }
    approver::usages_problem(usages, "server auth")
}

fn client_problem(usages: &[String]) -> Option<String> {
    const ALLOWED: &[&str] = &["digital signature", "key encipherment", "client auth"];
    if let Some(bad) = usages.iter().find(|u| !ALLOWED.contains(&u.as_str())) {
        return Some(format!("invalid usage for client certificate: {bad}"));
    }
    let missing = !usages.iter().any(|u| u == "client auth");
    missing.then(|| "missing required usage for client certificate: client auth".into())
}

/// How long a certificate is valid.
fn validity(spec: &CertificateSigningRequestSpec) -> i64 {
    let asked = spec.expiration_seconds.map_or(VALIDITY, i64::from);
    asked.clamp(VALIDITY_MIN, VALIDITY)
}

#[async_trait]
impl Reconcile for Signer {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<CertificateSigningRequest>()?;
        let (Some(csr), Some(ca)) = (lister.get("", &key.name), &self.ca) else {
            return Ok(Next::Done);
        };
        let ours = [KUBELET_CLIENT, KUBELET_SERVING, CLIENT, LEGACY];
        let ready = approver::has(&csr, "Approved")
            && !approver::has(&csr, "Denied")
            && !approver::has(&csr, "Failed");
        if approver::issued(&csr) || !ready || !ours.contains(&csr.spec.signer_name.as_str()) {
            return Ok(Next::Done);
        }
        let pem = String::from_utf8_lossy(&csr.spec.request.0).into_owned();
        let parsed = Csr::parse(&pem);
        let parsed = parsed.map_err(|e| Error::Other(format!("unable to parse csr: {e}")))?;
        let mut new = (*csr).clone();
        let now = self.clock.seconds();
        let status = new.status.get_or_insert_default();
        if let Some(message) = problem(&csr.spec, &parsed) {
            let conditions = status.conditions.get_or_insert_default();
            conditions.push(CertificateSigningRequestCondition {
                type_: "Failed".into(),
                status: "True".into(),
                reason: Some("SignerValidationFailure".into()),
                message: Some(message),
                last_update_time: time(now),
                last_transition_time: time(now),
            });
        } else {
            let usages = csr.spec.usages.clone().unwrap_or_default();
            let usages: Vec<&str> = usages.iter().map(String::as_str).collect();
            let signed = parsed.sign(ca, &usages, validity(&csr.spec));
            let signed = signed.map_err(|e| Error::Other(format!("error signing csr: {e}")))?;
            status.certificate = Some(ByteString(signed.into_bytes()));
        }
        let api = self.client.all::<CertificateSigningRequest>();
        api.replace_status(&key.name, &act::post_params(), &new)
            .await
            .during("update the signed request")?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_asked_within_bounds() {
        let spec = |seconds| CertificateSigningRequestSpec {
            expiration_seconds: seconds,
            ..CertificateSigningRequestSpec::default()
        };
        assert_eq!(validity(&spec(None)), VALIDITY);
        assert_eq!(validity(&spec(Some(3600))), 3600);
        assert_eq!(validity(&spec(Some(1))), VALIDITY_MIN);
        assert_eq!(validity(&spec(Some(i32::MAX))), VALIDITY);
    }

    #[test]
    fn client_certificates_are_for_clients() {
        let u = |l: &[&str]| -> Vec<String> { l.iter().map(|s| (*s).to_string()).collect() };
        assert_eq!(client_problem(&u(&["client auth"])), None);
        let why = client_problem(&u(&["client auth", "server auth"])).unwrap();
        assert_eq!(why, "invalid usage for client certificate: server auth");
    }
}
