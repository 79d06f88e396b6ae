//! Calls to a KMS plug-in: gRPC on a unix socket. Each has a deadline, each answer a bound, each its time counted.
//! A plug-in that is not there yet is waited for until the deadline, as gRPC's wait-for-ready does.
//! Upstream: storage/value/encrypt/envelope/kmsv2/grpc_service.go.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::proto::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, EncryptedObject,
    StatusRequest, StatusResponse,
};
use crate::encryption::metrics::Metrics;
use crate::limits;

/// Where a plug-in listens.
pub struct Service {
    name: String,
    socket: PathBuf,
    timeout: Duration,
    channel: OnceLock<Channel>,
    metrics: Arc<Metrics>,
}

/// A call that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Go's text.
    pub text: String,
    /// Whether nobody answered.
    pub deaf: bool,
}

/// The socket's path; one in Linux's abstract name space begins with a NUL.
pub fn socket(endpoint: &str) -> Result<PathBuf, String> {
    if endpoint.is_empty() {
        return Err("remote KMS provider can't use empty string as endpoint".into());
    }
    let (scheme, rest) = endpoint.split_once(':').unwrap_or(("", endpoint));
    if scheme != "unix" {
        return Err(format!(
            "unsupported scheme {} for remote KMS provider",
            machinery::causes::go_quote(scheme)
        ));
    }
    let path = match rest.strip_prefix("//") {
        // What stands before the path is a host, which nobody asks.
        Some(rest) => rest.find('/').map_or("", |at| &rest[at..]),
        None => rest,
    };
    Ok(match path.strip_prefix("/@") {
        Some(name) => format!("\0{name}").into(),
        None => path.into(),
    })
}

/// gRPC's name of a code.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

// === Service ===

impl Service {
    pub fn new(name: &str, socket: PathBuf, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            name: name.to_string(),
            socket,
            timeout,
            channel: OnceLock::new(),
            metrics,
        }
    }

    /// How the plug-in is, and which key it would seal with.
    pub async fn status(&self) -> Result<StatusResponse, Failed> {
        self.call("/v2.KeyManagementService/Status", StatusRequest {})
            .await
    }

    /// Seals a data key.
    pub async fn encrypt(&self, uid: &str, plaintext: Vec<u8>) -> Result<EncryptResponse, Failed> {
        let uid = uid.to_string();
        let request = EncryptRequest { plaintext, uid };
        self.call("/v2.KeyManagementService/Encrypt", request).await
    }

    /// Opens the data key of a stored object.
    pub async fn decrypt(&self, object: &EncryptedObject) -> Result<Vec<u8>, Failed> {
        let request = DecryptRequest {
            ciphertext: object.dek_source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let answer: DecryptResponse = self
            .call("/v2.KeyManagementService/Decrypt", request)
            .await?;
        Ok(answer.plaintext)
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Failed>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let begun = Instant::now();
        let work = self.ready_call(method, request);
        let answer = match tokio::time::timeout(self.timeout, work).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
        };
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        self.metrics
            .called(&self.name, method, code_name(code), begun.elapsed());
        answer.map_err(|status| failed(&status))
    }

    /// Calls until somebody is there to be called.
    async fn ready_call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        loop {
            match self.call_once(method, request.clone()).await {
                Err(status) if unreached(&status) => {
                    tokio::time::sleep(limits::KMS_CONNECT_EVERY).await;
                }
                other => return other,
            }
        }
    }

    async fn call_once<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel()?)
            .max_decoding_message_size(limits::KMS_ANSWER_BYTES)
            .max_encoding_message_size(limits::KMS_ANSWER_BYTES);
        let ready = grpc.ready().await;
        ready.map_err(|e| Status::from_error(e.into()))?;
        let path = PathAndQuery::from_static(method);
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }

    fn channel(&self) -> Result<Channel, Status> {
        if let Some(channel) = self.channel.get() {
            return Ok(channel.clone());
        }
        let socket = self.socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let made = Endpoint::from_static("http://localhost")
            .http2_max_header_list_size(limits::KMS_HEADER_BYTES)
            .initial_stream_window_size(Some(limits::KMS_WINDOW))
            .initial_connection_window_size(Some(limits::KMS_WINDOW))
            .connect_with_connector_lazy(connect);
        Ok(self.channel.get_or_init(|| made).clone())
    }
}

/// Whether a call never got as far as the plug-in.
fn unreached(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<std::io::Error>() && status.code() == Code::Unavailable {
            return true;
        }
        source = error.source();
    }
    false
}

fn failed(status: &Status) -> Failed {
    let code = status.code();
    let said = status.message();
    let end = said.floor_char_boundary(limits::KMS_ERROR_BYTES);
    Failed {
        text: format!(
            "rpc error: code = {} desc = {}",
            code_name(code),
            &said[..end]
        ),
        deaf: code == Code::DeadlineExceeded || code == Code::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_sockets_of_this_host() {
        for (endpoint, socket_or_why) in [
            ("unix:///var/run/kms.sock", Ok("/var/run/kms.sock")),
            ("unix:/var/run/kms.sock", Ok("/var/run/kms.sock")),
            ("unix:///@kms", Ok("\0kms")),
            (
                "",
                Err("remote KMS provider can't use empty string as endpoint"),
            ),
            (
                "tcp://localhost:1",
                Err("unsupported scheme \"tcp\" for remote KMS provider"),
            ),
        ] {
            let expected = socket_or_why.map(PathBuf::from).map_err(str::to_string);
            assert_eq!(socket(endpoint), expected, "{endpoint}");
        }
    }
}
