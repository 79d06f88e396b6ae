//! Writes of APIServices by this server itself.

use http::{Method, Request};
use machinery::ApiError;
use machinery::object::str_at;
use serde_json::{Value, json};

use super::BASE;
use super::availability::{self, Condition};

/// Puts the condition in place, where it is another. Tells whether something was written.
pub async fn put(
    client: &client::Client,
    object: &Value,
    condition: &Condition,
) -> Result<bool, ApiError> {
    let now = jiff::Timestamp::now();
    let Some(all) = availability::with(object, condition, now) else {
        return Ok(false);
    };
    let mut out = object.clone();
    machinery::object::set(&mut out, "status.conditions", json!(all));
    let path = format!("{BASE}/{}/status", machinery::object::name(object));
    match send(client, Method::PUT, &path, Some(&out)).await {
        Ok(()) => Ok(true),
        // Somebody else changed it, which brings the check back here.
        Err(e) if e.is_conflict() || e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}

/// Any write.
pub async fn send(
    client: &client::Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(), ApiError> {
    let data = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(data))
        .map_err(ApiError::internal)?;
    let answer = client.kube().send(request).await;
    let (parts, body) = answer.map_err(ApiError::internal)?.into_parts();
    if parts.status.is_success() {
        return Ok(());
    }
    let data = body.collect_bytes().await.map_err(ApiError::internal)?;
    let status: Value = serde_json::from_slice(&data).unwrap_or_default();
    let (reason, message) = (str_at(&status, "reason"), str_at(&status, "message"));
    Err(ApiError::new(parts.status.as_u16(), reason, message))
}
