//! The status socket: HTTP on a unix socket that only root may use. `GET /status` as in k0s
//! (pkg/component/status); `POST /ctr` runs a `k0s ctr images` command on the running node's store;
//! `POST /encryption/rotate` makes a new key for encryption at rest.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::ctr::{self, Command};
use crate::encryption::Keeper;
use crate::limits;

/// What the socket gives access to.
#[derive(Clone)]
pub struct Node {
    pub describe: Arc<dyn Fn() -> Value + Send + Sync>,
    /// The images of this node, where it runs workloads.
    pub images: Option<oci::ImageStore>,
    /// How the node's objects are sealed, where it has a store.
    pub keys: Option<Arc<Keeper>>,
}

/// Serves until the task is dropped.
pub async fn serve(socket: &Path, node: Node) -> std::io::Result<()> {
    match std::fs::remove_file(socket) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let slots = Arc::new(Semaphore::new(limits::STATUS_CONNECTIONS));
    loop {
        let (stream, _) = listener.accept().await?;
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::warn!("too many connections to the status socket");
            continue;
        };
        let node = node.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|r| answer(&node, r));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::STATUS_HEADERS)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "status request failed");
            }
            drop(slot);
        });
    }
}

async fn answer(
    node: &Node,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => (StatusCode::OK, (node.describe)()),
        (&Method::POST, "/ctr") => match run_ctr(node, request).await {
            Ok(text) => (StatusCode::OK, json!({"output": text})),
            Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, json!({"error": why})),
        },
        (&Method::POST, "/encryption/rotate") => match rotate(node).await {
            Ok(done) => (StatusCode::OK, done),
            Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, json!({"error": why})),
        },
        _ => (StatusCode::NOT_FOUND, json!({"error": "unknown path"})),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

async fn run_ctr(node: &Node, request: Request<Incoming>) -> Result<String, String> {
    let Some(images) = &node.images else {
        return Err("this node runs no workloads, so it has no images".into());
    };
    let body = Limited::new(request.into_body(), limits::STATUS_REQUEST_BYTES);
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    let command: Command = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
    ctr::run(images, &command).await
}

async fn rotate(node: &Node) -> Result<Value, String> {
    match &node.keys {
        Some(keys) => keys.rotate().await,
        None => Err("this node has no store".into()),
    }
}

/// Has a running node seal its objects with a new key; gives what it did.
pub async fn rotate_key(socket: &Path) -> std::io::Result<Result<Value, String>> {
    let path = "/encryption/rotate";
    let (status, body) = request(socket, Method::POST, path, Value::Null).await?;
    Ok(match status {
        StatusCode::OK => Ok(body),
        _ => Err(body["error"].as_str().unwrap_or_default().to_string()),
    })
}

/// Asks a running node for its status.
pub async fn ask(socket: &Path) -> std::io::Result<Value> {
    let (status, body) = request(socket, Method::GET, "/status", Value::Null).await?;
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(std::io::Error::other(format!("status answered {status}")))
    }
}

/// Runs a `ctr` command on a running node; an error of kind `NotFound` or `ConnectionRefused` says that
/// none runs.
pub async fn ask_ctr(socket: &Path, command: &Command) -> std::io::Result<Result<String, String>> {
    let body = serde_json::to_value(command)?;
    let (status, body) = request(socket, Method::POST, "/ctr", body).await?;
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_string();
    Ok(if status == StatusCode::OK {
        Ok(text("output"))
    } else {
        Err(text("error"))
    })
}

async fn request(
    socket: &Path,
    method: Method,
    path: &str,
    body: Value,
) -> std::io::Result<(StatusCode, Value)> {
    let other = std::io::Error::other::<Box<dyn std::error::Error + Send + Sync>>;
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| other(e.into()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| other(e.into()))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>((status, body))
    };
    let (status, body) = tokio::select! {
        done = exchange => done.map_err(|e| other(e.into()))?,
        end = connection => {
            let why = end.err().map_or("closed".to_string(), |e| e.to_string());
            return Err(std::io::Error::other(format!("the status socket: {why}")));
        }
    };
    Ok((status, serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_answers_on_its_socket() {
        let socket = std::env::temp_dir().join(format!("k0s-status-{}.sock", std::process::id()));
        let path = socket.clone();
        let node = Node {
            describe: Arc::new(|| json!({"Pid": 7})),
            images: None,
            keys: None,
        };
        let server = tokio::spawn(async move { serve(&path, node).await });
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        let found = loop {
            match ask(&socket).await {
                Ok(v) => break v,
                Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e}"),
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(found["Pid"], 7);
        let command = Command::List { quiet: true };
        let refused = ask_ctr(&socket, &command).await.expect("an answer");
        assert_eq!(
            refused.expect_err("no images"),
            "this node runs no workloads, so it has no images"
        );
        server.abort();
        std::fs::remove_file(&socket).expect("the socket is there");
    }
}
