//! Plain JSON requests of the parts in this crate, for objects of any kind.

use client::{Client, is_already_exists, is_not_found};
use http::{Method, Request};
use serde_json::Value;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {}", shown(.source))]
pub struct Error {
    operation: String,
    pub source: kube::Error,
}

/// What the server said, without the whole Status around it.
fn shown(e: &kube::Error) -> String {
    match e {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// One object, `None` where there is none.
pub async fn get(client: &Client, path: &str) -> Result<Option<Value>, Error> {
    match send(client, Method::GET, path, None).await {
        Ok(v) => Ok(Some(v)),
        Err(e) if is_not_found(&e.source) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Creates an object; one that is there already is left as it is.
pub async fn create(client: &Client, path: &str, object: &Value) -> Result<(), Error> {
    match send(client, Method::POST, path, Some(object)).await {
        Ok(_) => Ok(()),
        Err(e) if is_already_exists(&e.source) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Applies a status as a field manager, whoever has its fields now.
pub async fn apply_status(
    client: &Client,
    path: &str,
    manager: &str,
    config: &Value,
) -> Result<(), Error> {
    let path = format!("{path}/status?fieldManager={manager}&force=true");
    let media = "application/apply-patch+yaml";
    let done = send_as(client, Method::PATCH, &path, media, Some(config)).await;
    done.map(drop)
}

/// Any request; PATCH is a merge patch.
pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Error> {
    let media = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    send_as(client, method, path, media, body).await
}

async fn send_as(
    client: &Client,
    method: Method,
    path: &str,
    media: &str,
    body: Option<&Value>,
) -> Result<Value, Error> {
    let operation = format!("{method} {path}");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .header("user-agent", "k0s")
        .body(body.map(|b| b.to_string().into_bytes()).unwrap_or_default())
        .map_err(kube::Error::HttpError);
    let done = match request {
        Ok(request) => client.kube().request(request).await,
        Err(e) => Err(e),
    };
    done.map_err(|source| Error { operation, source })
}
