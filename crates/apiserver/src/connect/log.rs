//! `pods/log`: the kubelet's `/containerLogs`, streamed, also as WebSocket messages.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use machinery::ApiError;
use machinery::object::str_at;

use super::kubelet::KubeletClient;
use super::options::PodLogOptions;
use super::proxy::{self, Outgoing};
use super::{ConnectRequest, Connector, pod, websocket};
use crate::limits;
use crate::response::{self, Answer};

struct Log(KubeletClient);

/// The connector of `pods/log`.
pub fn new(client: KubeletClient) -> Arc<dyn Connector> {
    Arc::new(Log(client))
}

#[async_trait]
impl Connector for Log {
    async fn connect(&self, r: ConnectRequest) -> Result<Answer, ApiError> {
        let options = PodLogOptions::parse(&r.query)?;
        options.validate(&r.name)?;
        let pod = pod::find(&*self.0.reads, "pods", &r.namespace, &r.name)?;
        let container = pod::container(&pod, &options.container)?;
        let node = str_at(&pod, "spec.nodeName");
        if node.is_empty() {
            // Nothing runs yet: an empty log.
            let mut answer = response::bytes(204, "text/plain", bytes::Bytes::new());
            answer.headers_mut().remove(CONTENT_TYPE);
            return Ok(answer);
        }
        let backend = self.0.kubelet(node, !options.insecure_backend)?;
        let path = format!("/containerLogs/{}/{}/{container}", r.namespace, r.name);
        let outgoing = Outgoing::get(&path, &options.kubelet_query());
        let url = backend.url(&outgoing.target);
        let answer = proxy::send(&backend, outgoing)
            .await
            .map_err(|e| ApiError::new(500, "", format!("Get \"{url}\": {e}")))?;
        let answer = checked(answer, &r.name).await?;
        if r.wants_upgrade() {
            return websocket::stream(r, answer.into_body());
        }
        let mut out = response::bytes(200, "text/plain", bytes::Bytes::new());
        out.headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        *out.body_mut() = answer.into_body();
        Ok(out)
    }
}

/// An answer of the kubelet that is fine, or the Status that its failure becomes.
async fn checked(answer: Answer, pod: &str) -> Result<Answer, ApiError> {
    let code = answer.status().as_u16();
    if (200..=206).contains(&code) {
        return Ok(answer);
    }
    let limited = http_body_util::Limited::new(answer.into_body(), limits::KUBELET_ERROR_BYTES);
    let text = match limited.collect().await {
        Ok(all) => String::from_utf8_lossy(&all.to_bytes()).into_owned(),
        Err(e) => e.to_string(),
    };
    Err(match code {
        500 => ApiError::internal(text),
        400 => ApiError::bad_request(text),
        other => generic(other, pod, &text),
    })
}

/// Upstream's generic texts for an HTTP code of a server behind.
fn generic(code: u16, name: &str, body: &str) -> ApiError {
    let (reason, text) = match code {
        401 => (
            "Unauthorized",
            "the server has asked for the client to provide credentials".to_string(),
        ),
        403 => ("Forbidden", body.to_string()),
        404 => (
            "NotFound",
            "the server could not find the requested resource".to_string(),
        ),
        405 => (
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource".to_string(),
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request".to_string(),
        ),
        c if c > 500 => (
            "InternalError",
            format!("an error on the server ({body:?}) has prevented the request from succeeding"),
        ),
        c => (
            "Unknown",
            format!(
                "the server responded with the status code {c} but did not return more information"
            ),
        ),
    };
    let mut e = ApiError::new(code, reason, format!("{text} ( pods/log {name})"));
    let details = e.details.get_or_insert_default();
    details.name = name.to_string();
    details.kind = "pods/log".to_string();
    e
}
