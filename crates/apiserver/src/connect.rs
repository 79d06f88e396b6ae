//! Connect subresources whose answer is a stream or an upgraded connection: `pods/log`, `pods/exec`.
//! Each is a file below; `kubelet::CONNECTORS` lists them.

pub mod admission;
mod exec;
mod html;
pub mod kubelet;
mod log;
mod node_proxy;
mod options;
mod pod;
mod pod_proxy;
mod port_forward;
pub(crate) mod proxy;
mod service_proxy;
mod tls;
pub mod websocket;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::request::User;

use crate::query::Query;
use crate::response::Answer;

/// One connect request that has passed the filters and admission.
pub struct ConnectRequest {
    pub user: User,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    /// Path behind the subresource, without a leading slash.
    pub rest: String,
    /// The whole path, percent-decoded.
    pub path: String,
    pub method: http::Method,
    pub query: Query,
    pub raw_query: String,
    pub headers: http::HeaderMap,
    pub body: bytes::Bytes,
    /// Present where the client's connection can be upgraded.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
}

/// Serves one connect subresource.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Answers; a 101 comes with a task that the connector started on `upgrade`.
    async fn connect(&self, request: ConnectRequest) -> Result<Answer, ApiError>;
}

impl ConnectRequest {
    /// Whether the client asks for another protocol on this connection.
    pub fn wants_upgrade(&self) -> bool {
        proxy::wants_upgrade(&self.headers)
    }
}
