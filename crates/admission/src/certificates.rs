//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest and CertificateSubjectRestriction.
//! Upstream: plugin/pkg/admission/certificates.

use async_trait::async_trait;
use base64::Engine as _;
use machinery::object::{name, str_at};
use machinery::request::{Admission, Attempt, Attributes, Decision, Operation, Steps};
use machinery::{ApiError, Causes};
use serde_json::Value;

use crate::Context;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

pub struct CertificateApproval(pub Context);
pub struct CertificateSigning(pub Context);
pub struct ClusterTrustBundleAttest(pub Context);
pub struct CertificateSubjectRestriction;

fn is(a: &Attempt<'_>, subresource: &str) -> bool {
    let d = a.descriptor;
    d.group == GROUP && d.resource == RESOURCE && a.subresource == subresource
}

/// Whether the user may do `verb` with a signer, by its name or by `<domain>/*`.
async fn may(c: &Context, a: &Attempt<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or(signer);
    for name in [signer.to_string(), format!("{domain}/*")] {
        let attributes = Attributes {
            user: a.user.clone(),
            verb: verb.into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name,
            is_resource: true,
            ..Attributes::default()
        };
        if matches!(
            c.authorizer.authorize(&attributes).await,
            Decision::Allow(_)
        ) {
            return true;
        }
    }
    false
}

async fn check(c: &Context, a: &Attempt<'_>, verb: &str, what: &str) -> Result<(), ApiError> {
    let signer = str_at(a.before.unwrap_or(&Value::Null), "spec.signerName").to_string();
    if may(c, a, verb, &signer).await {
        return Ok(());
    }
    Err(a.forbidden(&format!(
        "user not permitted to {what} requests with signerName \"{signer}\""
    )))
}

/// Whether the user may give a pod its certificate. Upstream: the status strategy of podcertificaterequest,
/// which is why this answers as a validation does.
async fn may_issue(c: &Context, a: &Attempt<'_>) -> Result<(), ApiError> {
    let (Some(after), Some(before)) = (&a.object, a.before) else {
        return Ok(());
    };
    let signer = str_at(before, "spec.signerName");
    if after.get("status") == before.get("status") || may(c, a, "sign", signer).await {
        return Ok(());
    }
    let user = &a.user.name;
    let mut causes = Causes::new();
    causes.at("spec", |c| {
        c.at("signerName", |c| {
            c.forbidden(format!(
                "User {user:?} is not permitted to \"sign\" for signer {signer:?}"
            ));
        });
    });
    let d = a.descriptor;
    Err(ApiError::invalid(
        &d.group,
        &d.kind,
        name(before),
        causes.as_slice(),
    ))
}

#[async_trait]
impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        if !is(a, "approval") {
            return Ok(());
        }
        check(&self.0, a, "approve", "approve").await
    }
}

#[async_trait]
impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        if a.is(GROUP, "podcertificaterequests") && a.subresource == "status" {
            return may_issue(&self.0, a).await;
        }
        let (true, Some(after), Some(before)) = (is(a, "status"), &a.object, a.before) else {
            return Ok(());
        };
        let same = ["certificate", "conditions"]
            .iter()
            .all(|f| after["status"].get(f) == before["status"].get(f));
        if same {
            return Ok(());
        }
        check(&self.0, a, "sign", "sign").await
    }
}

#[async_trait]
impl Admission for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let (true, Some(after)) = (a.is(GROUP, "clustertrustbundles"), &a.object) else {
            return Ok(());
        };
        let signer = str_at(after, "spec.signerName");
        // Finalizers and owners may change without the signer's leave.
        let same = a.before.is_some_and(|b| b.get("spec") == after.get("spec"));
        if signer.is_empty() || same || may(&self.0, a, "attest", signer).await {
            return Ok(());
        }
        Err(a.forbidden(&format!(
            "user not permitted to attest for signerName \"{signer}\""
        )))
    }
}

#[async_trait]
impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let Some(object) = a.object.as_ref().filter(|_| is(a, "")) else {
            return Ok(());
        };
        if str_at(object, "spec.signerName") != "kubernetes.io/kube-apiserver-client" {
            return Ok(());
        }
        let csr = parse(object).map_err(|e| a.forbidden(&format!("failed to parse CSR: {e}")))?;
        if csr.organizations.iter().any(|o| o == "system:masters") {
            return Err(a.forbidden(
                "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            ));
        }
        Ok(())
    }
}

/// The request inside a CertificateSigningRequest.
pub(crate) fn parse(object: &Value) -> Result<pki::Csr, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(str_at(object, "spec.request"))
        .map_err(|e| e.to_string())?;
    let pem = String::from_utf8(bytes).map_err(|e| e.to_string())?;
    pki::Csr::parse(&pem).map_err(|e| e.to_string())
}
