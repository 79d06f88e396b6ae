//! Creates that are answered by doing something else: bindings of the old kind, evictions.

use std::sync::Arc;

use async_trait::async_trait;
use client::Client;
use http::{Method, Request};
use machinery::ApiError;
use machinery::descriptor::Creator;
use machinery::error::{Details, StatusCause};
use machinery::object::str_at;
use machinery::request::User;
use serde_json::{Value, json};

use crate::core::pod::eviction::Evictions;

/// One answerer and where it is served.
pub struct Entry {
    pub group: &'static str,
    pub resource: &'static str,
    /// `""` for the resource itself.
    pub subresource: &'static str,
    pub creator: Arc<dyn Creator>,
}

/// All of them. `client` writes what they do; who asks was let through before.
pub fn creators(client: &Client) -> Vec<Entry> {
    let entry = |resource, subresource, creator| Entry {
        group: "",
        resource,
        subresource,
        creator,
    };
    vec![
        entry("bindings", "", Arc::new(Bindings(client.clone()))),
        entry("pods", "eviction", Arc::new(Evictions(client.clone()))),
    ]
}

/// A Binding outside its pod is the same as one inside. Upstream: LegacyBindingREST.
struct Bindings(Client);

#[async_trait]
impl Creator for Bindings {
    async fn create(
        &self,
        _user: &User,
        namespace: &str,
        _name: &str,
        body: Value,
        dry_run: bool,
    ) -> Result<Value, ApiError> {
        let pod = str_at(&body, "metadata.name");
        if pod.is_empty() {
            return Err(ApiError::bad_request("name is required"));
        }
        let dry = if dry_run { "?dryRun=All" } else { "" };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding{dry}");
        send(&self.0, Method::POST, &path, &body).await
    }
}

/// The Status of a create that made nothing.
pub fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

/// Sends a request of this process to its own server.
pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, ApiError> {
    let content = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(body.to_string().into_bytes())
        .map_err(ApiError::internal)?;
    client.kube().request(request).await.map_err(refusal)
}

/// What the server answered, as an error of this server.
fn refusal(e: client::Error) -> ApiError {
    let client::Error::Api(status) = e else {
        return ApiError::internal(e);
    };
    let mut out = ApiError::new(status.code, &status.reason, status.message.clone());
    out.details = status.details.as_ref().map(|d| {
        let causes = d.causes.iter().map(|c| StatusCause {
            reason: c.reason.clone(),
            message: c.message.clone(),
            field: c.field.clone(),
        });
        Box::new(Details {
            name: d.name.clone(),
            group: d.group.clone(),
            kind: d.kind.clone(),
            uid: d.uid.clone(),
            causes: causes.collect(),
            retry_after_seconds: i32::try_from(d.retry_after_seconds).unwrap_or(i32::MAX),
        })
    });
    out
}
