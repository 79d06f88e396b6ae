//! Requests of kubelets for their client certificates are approved for those who may ask.
//! Upstream: pkg/controller/certificates/approver/sarapprove.go.

use std::time::Duration;

use api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use async_trait::async_trait;
use client::Client;
use pki::csr::Csr;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::common::object::time;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-approving-controller",
    account: "certificate-controller",
    component: "certificate-controller",
    needs: &[("certificates.k8s.io", "certificatesigningrequests")],
    build: |setup| Ok(build(setup)),
};

/// The signer of kubelets' client certificates.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

fn build(setup: &Setup) -> Reconciler {
    let this = Approver {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    Reconciler::new("certificatesigningrequest-approving-controller", 5, this)
        .backoff(Duration::from_millis(200), Duration::from_secs(1000))
        .on(Trigger::own(
            "certificates.k8s.io",
            "certificatesigningrequests",
        ))
}

struct Approver {
    client: Client,
    clock: Clock,
}

/// Whether a condition of this type is there.
pub fn has(csr: &CertificateSigningRequest, kind: &str) -> bool {
    let mut all = csr
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    all.any(|c| c.type_ == kind)
}

/// Whether a certificate was issued.
pub fn issued(csr: &CertificateSigningRequest) -> bool {
    let certificate = csr.status.as_ref().and_then(|s| s.certificate.as_ref());
    certificate.is_some_and(|c| !c.0.is_empty())
}

/// Why a request is not one of a kubelet for its client certificate.
pub fn kubelet_client_problem(csr: &Csr, usages: &[String]) -> Option<String> {
    if csr.organizations != ["system:nodes"] {
        return Some("subject organization is not system:nodes".into());
    }
    if !csr.common_name.starts_with("system:node:") {
        return Some("subject common name does not begin with system:node:".into());
    }
    for (there, what) in [
        (
            !csr.dns_names.is_empty(),
            "DNS subjectAltNames are not allowed",
        ),
        (
            !csr.emails.is_empty(),
            "Email subjectAltNames are not allowed",
        ),
        (
            !csr.ip_addresses.is_empty(),
            "IP subjectAltNames are not allowed",
        ),
        (!csr.uris.is_empty(), "URI subjectAltNames are not allowed"),
    ] {
        if there {
            return Some(what.into());
        }
    }
    usages_problem(usages, "client auth")
}

/// Kubelets ask for digital signatures and one kind of authentication; key encipherment may be there.
pub fn usages_problem(usages: &[String], auth: &str) -> Option<String> {
    let mut asked: Vec<&str> = usages.iter().map(String::as_str).collect();
    asked.retain(|u| *u != "key encipherment");
    asked.sort_unstable();
    let mut wanted = [auth, "digital signature"];
    wanted.sort_unstable();
    (asked != wanted).then(|| format!("usages did not match [{}]", wanted.join(" ")))
}

#[async_trait]
impl Reconcile for Approver {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<CertificateSigningRequest>()?;
        let Some(csr) = lister.get("", &key.name) else {
            return Ok(Next::Done);
        };
        let decided = has(&csr, "Approved") || has(&csr, "Denied");
        if issued(&csr) || decided || csr.spec.signer_name != KUBELET_CLIENT {
            return Ok(Next::Done);
        }
        let pem = String::from_utf8_lossy(&csr.spec.request.0).into_owned();
        let parsed = Csr::parse(&pem);
        let parsed = parsed.map_err(|e| Error::Other(format!("unable to parse csr: {e}")))?;
        let usages = csr.spec.usages.clone().unwrap_or_default();
        if kubelet_client_problem(&parsed, &usages).is_some() {
            return Ok(Next::Done);
        }
        let own = csr.spec.username.as_deref() == Some(&*parsed.common_name);
        let tries = [
            (
                own,
                "selfnodeclient",
                "Auto approving self kubelet client certificate after SubjectAccessReview.",
            ),
            (
                true,
                "nodeclient",
                "Auto approving kubelet client certificate after SubjectAccessReview.",
            ),
        ];
        for (fits, subresource, message) in tries {
            if fits && self.allowed(&csr.spec, subresource).await? {
                self.approve(&csr, message).await?;
                return Ok(Next::Done);
            }
        }
        Err(Error::Other(format!(
            "recognized csr {:?} as [selfnodeclient nodeclient] but subject access review was not approved",
            &*key.name
        )))
    }
}

impl Approver {
    async fn allowed(
        &self,
        spec: &CertificateSigningRequestSpec,
        subresource: &str,
    ) -> Result<bool, Error> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".into()),
                    resource: Some("certificatesigningrequests".into()),
                    subresource: Some(subresource.into()),
                    verb: Some("create".into()),
                    version: Some("*".into()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api = self.client.all::<SubjectAccessReview>();
        let answer = api.create(&act::post_params(), &review).await;
        let answer = answer.during("ask whether the request is allowed")?;
        Ok(answer.status.is_some_and(|s| s.allowed))
    }

    async fn approve(&self, csr: &CertificateSigningRequest, message: &str) -> Result<(), Error> {
        let mut new = csr.clone();
        let now = self.clock.seconds();
        let status = new.status.get_or_insert_default();
        status
            .conditions
            .get_or_insert_default()
            .push(CertificateSigningRequestCondition {
                type_: "Approved".into(),
                status: "True".into(),
                reason: Some("AutoApproved".into()),
                message: Some(message.into()),
                last_update_time: time(now),
                last_transition_time: time(now),
            });
        let api = self.client.all::<CertificateSigningRequest>();
        let name = csr.metadata.name.clone().unwrap_or_default();
        let params = act::post_params();
        api.replace_subresource("approval", &name, &params, &new)
            .await
            .during("approve the request")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usages_must_be_exactly_those_of_kubelets() {
        let u = |l: &[&str]| -> Vec<String> { l.iter().map(|s| (*s).to_string()).collect() };
        assert_eq!(
            usages_problem(&u(&["digital signature", "client auth"]), "client auth"),
            None
        );
        let all = u(&["client auth", "key encipherment", "digital signature"]);
        assert_eq!(usages_problem(&all, "client auth"), None);
        assert!(usages_problem(&u(&["client auth"]), "client auth").is_some());
        let why = usages_problem(&all, "server auth").unwrap();
        assert_eq!(why, "usages did not match [digital signature server auth]");
    }
}
