//! TokenReview, SelfSubjectReview and the SubjectAccessReview family: kinds that are asked, never stored.
//! Upstream: pkg/registry/authentication, pkg/registry/authorization.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::selector::LabelSelector;
use async_trait::async_trait;
use machinery::descriptor::Creator;
use machinery::object::{at, list_at, map_at, str_at};
use machinery::request::{
    Attributes, Authenticated, Authenticator, Authorizer, Credentials, Decision, User,
};
use machinery::{ApiError, Causes};
use serde_json::{Value, json};

use crate::limits;
use crate::service_account::ServiceAccounts;

/// Answers TokenReviews.
pub struct TokenReviews {
    pub accounts: Arc<ServiceAccounts>,
    /// The other token authenticators.
    pub others: Vec<Arc<dyn Authenticator>>,
}

/// Answers SelfSubjectReviews.
pub struct SelfSubjectReviews;

/// Answers the SubjectAccessReview family.
pub struct AccessReviews {
    pub authorizer: Arc<dyn Authorizer>,
    pub kind: AccessReview,
}

/// Which of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessReview {
    Subject,
    LocalSubject,
    SelfSubject,
}

/// Answers SelfSubjectRulesReviews.
pub struct RulesReviews {
    pub authorizer: Arc<dyn Authorizer>,
}

// === TokenReviews ===

impl TokenReviews {
    async fn ask(&self, token: &str, audiences: &[String]) -> (Option<Authenticated>, String) {
        let mut errors = vec!["invalid bearer token".to_string()];
        match self.accounts.check(token, audiences, pki::now()) {
            Ok(Some(found)) => return (Some(found), String::new()),
            Ok(None) => {}
            Err(e) => errors.push(e.message),
        }
        let headers = http::HeaderMap::new();
        let credentials = Credentials {
            certificates: &[],
            proxy_certificates: &[],
            bearer: Some(token),
            audiences,
            headers: &headers,
            path: "",
        };
        for other in &self.others {
            match other.authenticate(&credentials).await {
                Ok(Some(found)) if !found.audiences.is_empty() => {
                    return (Some(found), String::new());
                }
                // Upstream: authenticators that know no audiences answer for the server's own.
                Ok(Some(mut found)) => {
                    let own = self.accounts.audiences();
                    found.audiences = match audiences {
                        [] => own.to_vec(),
                        asked => asked.iter().filter(|a| own.contains(a)).cloned().collect(),
                    };
                    if !found.audiences.is_empty() {
                        return (Some(found), String::new());
                    }
                }
                Ok(None) => {}
                Err(e) => errors.push(e.message),
            }
        }
        errors.dedup();
        let text = match errors.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        (None, text)
    }
}

#[async_trait]
impl Creator for TokenReviews {
    async fn create(
        &self,
        _user: &User,
        _namespace: &str,
        _name: &str,
        mut body: Value,
        _dry_run: bool,
    ) -> Result<Value, ApiError> {
        let token = str_at(&body, "spec.token").to_string();
        if token.is_empty() {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let audiences = strings(list_at(&body, "spec.audiences"));
        if audiences.len() > limits::AUDIENCES_MAX {
            return Err(ApiError::bad_request("too many audiences"));
        }
        let (found, error) = self.ask(&token, &audiences).await;
        let mut status = json!({"user": {}});
        if let Some(found) = found {
            let mut user = found.user;
            if !user.in_group(crate::AUTHENTICATED) {
                user.groups.push(crate::AUTHENTICATED.into());
            }
            status = json!({
                "authenticated": true, "user": user_info(&user), "audiences": found.audiences,
            });
        }
        if !error.is_empty() {
            status["error"] = json!(error);
        }
        stamp(&mut body, "authentication.k8s.io/v1", "TokenReview");
        body["status"] = status;
        Ok(body)
    }
}

#[async_trait]
impl Creator for SelfSubjectReviews {
    async fn create(
        &self,
        user: &User,
        _namespace: &str,
        _name: &str,
        mut body: Value,
        _dry_run: bool,
    ) -> Result<Value, ApiError> {
        let now = crate::token_request::time(pki::now())?;
        stamp(&mut body, "authentication.k8s.io/v1", "SelfSubjectReview");
        machinery::object::set(&mut body, "metadata.creationTimestamp", json!(now));
        body["status"] = json!({"userInfo": user_info(user)});
        Ok(body)
    }
}

// === AccessReviews ===

impl AccessReview {
    fn kind(self) -> &'static str {
        match self {
            Self::Subject => "SubjectAccessReview",
            Self::LocalSubject => "LocalSubjectAccessReview",
            Self::SelfSubject => "SelfSubjectAccessReview",
        }
    }

    pub(crate) fn validate(self, body: &Value, causes: &mut Causes) {
        let (resource, other) = (
            at(body, "spec.resourceAttributes"),
            at(body, "spec.nonResourceAttributes"),
        );
        causes.at("spec", |c| {
            match (resource, other) {
                (Some(_), Some(n)) => c.at("nonResourceAttributes", |c| {
                    c.invalid(n, "cannot be specified in combination with resourceAttributes");
                }),
                (None, None) => c.at("resourceAttributes", |c| {
                    c.invalid(
                        &Value::Null,
                        "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                    );
                }),
                _ => {}
            }
            let nobody = str_at(body, "spec.user").is_empty() && list_at(body, "spec.groups").is_empty();
            if self != Self::SelfSubject && nobody {
                c.at("user", |c| {
                    c.invalid(&json!(""), "at least one of user or group must be specified");
                });
            }
            if let Some(r) = resource {
                c.at("resourceAttributes", |c| validate_selectors(r, c));
            }
        });
        self.validate_meta(body, causes);
    }

    fn validate_meta(self, body: &Value, causes: &mut Causes) {
        let local = self == Self::LocalSubject;
        let filled = map_at(body, "metadata")
            .into_iter()
            .flatten()
            .any(|(k, v)| {
                let ignored = k == "managedFields" || (local && k == "namespace");
                let empty = match v {
                    Value::Null => true,
                    Value::String(s) => s.is_empty(),
                    Value::Object(m) => m.is_empty(),
                    Value::Array(a) => a.is_empty(),
                    _ => false,
                };
                !ignored && !empty
            });
        if filled {
            let text = if local {
                "must be empty except for namespace"
            } else {
                "must be empty"
            };
            causes.at("metadata", |c| c.invalid(&body["metadata"], text));
        }
        if !local {
            return;
        }
        if let Some(r) = at(body, "spec.resourceAttributes") {
            let namespace = str_at(r, "namespace");
            if namespace != machinery::object::namespace(body) {
                causes.at("spec.resourceAttributes.namespace", |c| {
                    c.invalid(&json!(namespace), "must match metadata.namespace");
                });
            }
        }
        if let Some(n) = at(body, "spec.nonResourceAttributes") {
            causes.at("spec.nonResourceAttributes", |c| {
                c.invalid(n, "disallowed on this kind of request");
            });
        }
    }
}

fn validate_selectors(attributes: &Value, causes: &mut Causes) {
    for field in ["fieldSelector", "labelSelector"] {
        let Some(selector) = at(attributes, field) else {
            continue;
        };
        causes.at(field, |c| {
            let raw = str_at(selector, "rawSelector");
            match (raw.is_empty(), list_at(selector, "requirements").is_empty()) {
                (false, false) => c.at("rawSelector", |c| {
                    c.invalid(
                        &json!(raw),
                        "may not specified at the same time as requirements",
                    );
                }),
                (true, true) => {
                    let path = c.path().to_string();
                    c.at("requirements", |c| {
                        c.required(format!(
                            "when {path} is specified, requirements or rawSelector is required"
                        ));
                    });
                }
                _ => {}
            }
        });
    }
}

#[async_trait]
impl Creator for AccessReviews {
    async fn create(
        &self,
        user: &User,
        namespace: &str,
        _name: &str,
        mut body: Value,
        _dry_run: bool,
    ) -> Result<Value, ApiError> {
        if self.kind == AccessReview::LocalSubject {
            let given = machinery::object::namespace(&body);
            if !given.is_empty() && given != namespace {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            machinery::object::set(&mut body, "metadata.namespace", json!(namespace));
        }
        let mut causes = Causes::new();
        self.kind.validate(&body, &mut causes);
        if !causes.is_empty() {
            let kind = self.kind.kind();
            return Err(ApiError::invalid(
                "authorization.k8s.io",
                kind,
                "",
                causes.as_slice(),
            ));
        }
        let subject = if self.kind == AccessReview::SelfSubject {
            user.clone()
        } else {
            subject_of(&body)
        };
        let attributes = attributes_of(&body, subject);
        let mut status = json!({"allowed": false});
        let reason = match self.authorizer.authorize(&attributes).await {
            Decision::Allow(reason) => {
                status["allowed"] = json!(true);
                reason
            }
            Decision::Deny(reason) => {
                status["denied"] = json!(true);
                reason
            }
            Decision::NoOpinion(reason) => reason,
            Decision::Failed {
                denied,
                reason,
                error,
            } => {
                if denied {
                    status["denied"] = json!(true);
                }
                status["evaluationError"] = json!(error);
                reason
            }
        };
        if !reason.is_empty() {
            status["reason"] = json!(reason);
        }
        stamp(&mut body, "authorization.k8s.io/v1", self.kind.kind());
        body["status"] = status;
        Ok(body)
    }
}

#[async_trait]
impl Creator for RulesReviews {
    async fn create(
        &self,
        user: &User,
        _namespace: &str,
        _name: &str,
        mut body: Value,
        _dry_run: bool,
    ) -> Result<Value, ApiError> {
        let namespace = str_at(&body, "spec.namespace").to_string();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (resource, other, incomplete) = self.authorizer.rules(user, &namespace).await;
        let mut status = json!({
            "resourceRules": resource, "nonResourceRules": other, "incomplete": incomplete,
        });
        if let Some(problem) = self.authorizer.rules_problem(user) {
            status["evaluationError"] = json!(problem);
        }
        stamp(
            &mut body,
            "authorization.k8s.io/v1",
            "SelfSubjectRulesReview",
        );
        body["spec"] = json!({});
        body["status"] = status;
        Ok(body)
    }
}

pub(crate) fn subject_of(body: &Value) -> User {
    let extra: BTreeMap<String, Vec<String>> = map_at(body, "spec.extra")
        .into_iter()
        .flatten()
        .map(|(k, v)| {
            (
                k.to_lowercase(),
                strings(v.as_array().map_or(&[][..], |a| a)),
            )
        })
        .collect();
    User {
        name: str_at(body, "spec.user").into(),
        uid: str_at(body, "spec.uid").into(),
        groups: strings(list_at(body, "spec.groups")),
        extra,
    }
}

pub(crate) fn attributes_of(body: &Value, user: User) -> Attributes {
    if let Some(n) = at(body, "spec.nonResourceAttributes") {
        return Attributes {
            user,
            verb: str_at(n, "verb").into(),
            path: str_at(n, "path").into(),
            ..Attributes::default()
        };
    }
    let r = &body["spec"]["resourceAttributes"];
    let version = str_at(r, "version");
    Attributes {
        user,
        verb: str_at(r, "verb").into(),
        group: str_at(r, "group").into(),
        version: if version.is_empty() {
            "*".into()
        } else {
            version.into()
        },
        resource: str_at(r, "resource").into(),
        subresource: str_at(r, "subresource").into(),
        namespace: str_at(r, "namespace").into(),
        name: str_at(r, "name").into(),
        is_resource: true,
        field_selector: field_selector(r),
        label_selector: label_selector(r),
        ..Attributes::default()
    }
}

/// The field selector as text. Requirements that cannot be written so are left out, which only makes
/// the question broader, as upstream does with operators it does not know.
fn field_selector(r: &Value) -> Option<String> {
    let raw = str_at(r, "fieldSelector.rawSelector");
    if !raw.is_empty() {
        return Some(raw.into());
    }
    let terms: Vec<String> = list_at(r, "fieldSelector.requirements")
        .iter()
        .filter_map(|q| {
            let sign = match str_at(q, "operator") {
                "In" => "=",
                "NotIn" => "!=",
                _ => return None,
            };
            match list_at(q, "values") {
                [one] => {
                    let value = one.as_str()?.replace('\\', "\\\\");
                    let value = value.replace(',', "\\,").replace('=', "\\=");
                    Some(format!("{}{sign}{value}", str_at(q, "key")))
                }
                _ => None,
            }
        })
        .collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

/// The label selector as text, requirements as they are written in queries.
fn label_selector(r: &Value) -> Option<String> {
    let raw = str_at(r, "labelSelector.rawSelector");
    if !raw.is_empty() {
        return Some(raw.into());
    }
    let terms: Vec<String> = list_at(r, "labelSelector.requirements")
        .iter()
        .filter_map(|q| {
            let (key, values) = (str_at(q, "key"), strings(list_at(q, "values")));
            match (str_at(q, "operator"), values.as_slice()) {
                ("In", [_, ..]) => Some(format!("{key} in ({})", values.join(","))),
                ("NotIn", [_, ..]) => Some(format!("{key} notin ({})", values.join(","))),
                ("Exists", []) => Some(key.to_string()),
                ("DoesNotExist", []) => Some(format!("!{key}")),
                _ => None,
            }
        })
        .filter(|term| LabelSelector::parse(term).is_ok())
        .collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

/// A user as `UserInfo`.
pub fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn strings(list: &[Value]) -> Vec<String> {
    list.iter()
        .filter_map(Value::as_str)
        .map(String::from)
        .collect()
}

/// Puts version and kind on an answer, which clients may leave out of the question.
fn stamp(body: &mut Value, version: &str, kind: &str) {
    if !body.is_object() {
        *body = json!({});
    }
    body["apiVersion"] = json!(version);
    body["kind"] = json!(kind);
    let meta = body.get("metadata").cloned().unwrap_or(Value::Null);
    if !meta.is_object() {
        body["metadata"] = json!({});
    }
}
