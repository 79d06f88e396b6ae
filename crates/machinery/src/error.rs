//! `ApiError`: a Kubernetes `Status` of kind Failure, with a constructor for each reason.
//! Upstream: k8s.io/apimachinery/pkg/api/errors. Converted to HTTP in one place, in `apiserver`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::causes::Cause;

/// A failed request as the client will read it: HTTP code, machine-readable reason, message, details.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Upstream's `StatusReason`, such as `NotFound`; empty where upstream leaves it empty.
    pub reason: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// Goes into the Status' `metadata.continue`: where an expired list can go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_token: Option<String>,
}

/// `Status.details`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    #[serde(default, rename = "retryAfterSeconds", skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// One entry of `Status.details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusCause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

// === ApiError ===

impl ApiError {
    /// An error of any code and reason, without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    fn named(
        code: u16,
        reason: &str,
        message: String,
        group: &str,
        kind: &str,
        name: &str,
    ) -> Self {
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            ..Details::default()
        };
        Self {
            details: Some(Box::new(details)),
            ..Self::new(code, reason, message)
        }
    }

    /// 404 for an object: `pods "x" not found`. `resource` is the plural.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let text = format!("{} \"{name}\" not found", qualified(group, resource));
        Self::named(404, "NotFound", text, group, resource, name)
    }

    /// 404 for an unknown path or resource.
    pub fn path_not_found() -> Self {
        let mut e = Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        e.details = Some(Box::default());
        e
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let text = format!("{} \"{name}\" already exists", qualified(group, resource));
        Self::named(409, "AlreadyExists", text, group, resource, name)
    }

    /// 409: `Operation cannot be fulfilled on pods "x": <cause>`.
    pub fn conflict(group: &str, resource: &str, name: &str, cause: &str) -> Self {
        let what = qualified(group, resource);
        let text = format!("Operation cannot be fulfilled on {what} \"{name}\": {cause}");
        Self::named(409, "Conflict", text, group, resource, name)
    }

    /// 409 of an optimistic lock: upstream's `OptimisticLockErrorMsg`.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422: `Pod "x" is invalid: <field>: <text>`; `kind` is the Kind.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> = causes.iter().map(Cause::text).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => {
                let mut seen: Vec<&String> = Vec::new();
                for t in many {
                    if !seen.contains(&t) {
                        seen.push(t);
                    }
                }
                let all: Vec<&str> = seen.iter().map(|s| s.as_str()).collect();
                if all.len() == 1 {
                    all[0].to_string()
                } else {
                    format!("[{}]", all.join(", "))
                }
            }
        };
        let what = qualified_kind(group, kind);
        let text = if list.is_empty() || list == "[]" {
            format!("{what} \"{name}\" is invalid")
        } else {
            format!("{what} \"{name}\" is invalid: {list}")
        };
        let mut e = Self::named(422, "Invalid", text, group, kind, name);
        if let Some(d) = e.details.as_mut() {
            d.causes = causes
                .iter()
                .map(|c| StatusCause {
                    reason: c.kind.reason().into(),
                    message: c.detail_text(),
                    field: c.field.clone(),
                })
                .collect();
        }
        e
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 with upstream's `pods "x" is forbidden: <why>`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let text = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{what} is forbidden: {why}"),
            _ => format!("{what} \"{name}\" is forbidden: {why}"),
        };
        Self::named(403, "Forbidden", text, group, resource, name)
    }

    /// 405.
    pub fn method_not_allowed(group: &str, resource: &str, action: &str) -> Self {
        let what = qualified(group, resource);
        let text = format!("{action} is not supported on resources of kind \"{what}\"");
        Self::named(405, "MethodNotAllowed", text, group, resource, "")
    }

    /// 406.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {list}"),
        )
    }

    /// 410: the revision asked for is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {list}"
            ),
        )
    }

    /// 429 with Retry-After in seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after: i32) -> Self {
        let mut e = Self::new(429, "TooManyRequests", message);
        e.details = Some(Box::new(Details {
            retry_after_seconds: retry_after,
            ..Details::default()
        }));
        e
    }

    /// 500: `Internal error occurred: <why>`.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let why = why.to_string();
        let mut e = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {why}"),
        );
        let cause = StatusCause {
            message: why,
            ..StatusCause::default()
        };
        e.details = Some(Box::new(Details {
            causes: vec![cause],
            ..Details::default()
        }));
        e
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504 with Retry-After in seconds.
    pub fn timeout(message: impl Into<String>, retry_after: i32) -> Self {
        let mut e = Self::new(504, "Timeout", message);
        e.details = Some(Box::new(Details {
            retry_after_seconds: retry_after,
            ..Details::default()
        }));
        e
    }

    /// Whether this is a 404 with reason NotFound.
    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    /// Whether this is a 409 with reason Conflict.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// Whether this is a 409 with reason AlreadyExists.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// The `Status` object a client receives, as JSON.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if let Some(token) = &self.continue_token {
            status["metadata"] = json!({"continue": token});
        }
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = serde_json::to_value(details).unwrap_or(Value::Null);
        }
        status
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// Upstream's `GroupResource.String()`: `deployments.apps`, `pods`.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_string()
    } else {
        format!("{resource}.{group}")
    }
}

/// Upstream's `GroupKind.String()`: `Deployment.apps`, `Pod`.
pub fn qualified_kind(group: &str, kind: &str) -> String {
    qualified(group, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_equal_upstreams() {
        assert_eq!(
            ApiError::not_found("apps", "deployments", "web").message,
            "deployments.apps \"web\" not found"
        );
        assert_eq!(
            ApiError::forbidden("", "pods", "", "why").message,
            "pods is forbidden: why"
        );
        let mut causes = crate::Causes::new();
        causes.at("spec", |c| {
            c.at("replicas", |c| c.invalid(&json!(-1), "must be >= 0"))
        });
        let e = ApiError::invalid("apps", "Deployment", "web", causes.as_slice());
        assert_eq!(
            e.message,
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be >= 0"
        );
        assert_eq!(
            e.details.expect("details").causes[0].reason,
            "FieldValueInvalid"
        );
    }
}
