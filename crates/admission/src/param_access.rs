//! Who writes an admission policy or its binding must be able to read the parameters that it names.
//! Upstream: authz.go of pkg/registry/admissionregistration/*policy and *policybinding, which check it when an object
//! is validated: this plugin stands first among those that validate.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::causes::{Cause, CauseKind};
use machinery::object::{at, name, str_at};
use machinery::request::{Admission, Attempt, Attributes, Decision, Operation, Steps, User};
use serde_json::Value;

use crate::Context;
use crate::policies::resource_of;

const GROUP: &str = "admissionregistration.k8s.io";
/// Superusers may name what they like.
const MASTERS: &str = "system:masters";

pub struct ParamAccess(pub Context);

/// Group, version and resource of parameters, as far as they are known.
struct Params {
    group: String,
    version: String,
    resource: String,
}

impl Params {
    /// All there is, while nothing is known.
    fn any() -> Self {
        let any = || "*".to_string();
        Self {
            group: any(),
            version: any(),
            resource: any(),
        }
    }
}

/// A user as Go prints one.
fn shown(user: &User) -> String {
    let mut extra: Vec<String> = user
        .extra
        .iter()
        .map(|(k, v)| format!("{k}:[{}]", v.join(" ")))
        .collect();
    extra.sort();
    format!(
        "&{{{} {} [{}] map[{}]}}",
        user.name,
        user.uid,
        user.groups.join(" "),
        extra.join(" ")
    )
}

impl ParamAccess {
    async fn may(
        &self,
        a: &Attempt<'_>,
        verb: &str,
        of: Params,
        namespace: &str,
        name: &str,
    ) -> bool {
        let attributes = Attributes {
            user: a.user.clone(),
            verb: verb.into(),
            group: of.group,
            version: of.version,
            resource: of.resource,
            namespace: namespace.into(),
            name: name.into(),
            is_resource: true,
            ..Attributes::default()
        };
        let decision = self.0.authorizer.authorize(&attributes).await;
        matches!(decision, Decision::Allow(_))
    }

    /// What a paramKind stands for; the flag says whether its resource is served.
    fn params(&self, kind: &Value) -> (Params, bool) {
        let api_version = str_at(kind, "apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = resource_of(&self.0, group, str_at(kind, "kind"));
        let params = Params {
            group: group.to_string(),
            version: version.to_string(),
            resource: found
                .as_ref()
                .map_or("*".into(), |d| d.resource.to_string()),
        };
        (params, found.is_some())
    }

    async fn policy(&self, a: &Attempt<'_>, object: &Value) -> Option<String> {
        let kind = at(object, "spec.paramKind")?;
        if a.before.and_then(|b| at(b, "spec.paramKind")) == Some(kind) {
            return None;
        }
        let (params, _) = self.params(kind);
        if self.may(a, "get", params, "*", "*").await {
            return None;
        }
        Some(format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            shown(a.user),
            str_at(kind, "kind"),
            str_at(kind, "apiVersion")
        ))
    }

    async fn binding(
        &self,
        a: &Attempt<'_>,
        object: &Value,
        policies: &'static str,
    ) -> Option<String> {
        let reference = at(object, "spec.paramRef")?;
        let policy_name = str_at(object, "spec.policyName");
        let same = |b: &Value| {
            at(b, "spec.paramRef") == Some(reference) && str_at(b, "spec.policyName") == policy_name
        };
        if a.before.is_some_and(same) {
            return None;
        }
        let policy = self.0.get(GROUP, policies, "", policy_name);
        let kind = policy.as_ref().and_then(|p| at(p, "spec.paramKind"));
        let (params, served) = match kind {
            Some(kind) => self.params(kind),
            None => (Params::any(), true),
        };
        let named = str_at(reference, "name");
        let verb = if named.is_empty() { "list" } else { "get" };
        let namespace = str_at(reference, "namespace");
        if self.may(a, verb, params, namespace, named).await {
            return None;
        }
        let user = shown(a.user);
        let all = format!(
            "to determine minimum required permissions and user {user} does not have \"{verb}\" permission for all groups, versions and resources"
        );
        Some(match (&policy, kind) {
            (None, _) => format!("unable to get policy {policy_name} {all}"),
            (_, Some(kind)) if !served => format!(
                "unable to resolve paramKind &ParamKind{{APIVersion:{},Kind:{},}} {all}",
                str_at(kind, "apiVersion"),
                str_at(kind, "kind")
            ),
            _ => format!(
                "user {user} does not have \"{verb}\" permission on the object referenced by paramRef"
            ),
        })
    }
}

#[async_trait]
impl Admission for ParamAccess {
    fn name(&self) -> &'static str {
        "ParamAccess"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let d = a.descriptor;
        if d.group != GROUP || !a.subresource.is_empty() || a.user.in_group(MASTERS) {
            return Ok(());
        }
        let Some(object) = &a.object else {
            return Ok(());
        };
        let (field, why) = match d.resource.as_ref() {
            "validatingadmissionpolicies" | "mutatingadmissionpolicies" => {
                ("spec.paramKind", self.policy(a, object).await)
            }
            "validatingadmissionpolicybindings" => {
                let policies = "validatingadmissionpolicies";
                ("spec.paramRef", self.binding(a, object, policies).await)
            }
            "mutatingadmissionpolicybindings" => {
                let policies = "mutatingadmissionpolicies";
                ("spec.paramRef", self.binding(a, object, policies).await)
            }
            _ => return Ok(()),
        };
        let Some(detail) = why else {
            return Ok(());
        };
        let cause = Cause {
            kind: CauseKind::Forbidden,
            field: field.into(),
            value: None,
            detail,
        };
        Err(ApiError::invalid(&d.group, &d.kind, name(object), &[cause]))
    }
}
