//! The status socket: HTTP on a unix socket, `GET /status`. k0s: pkg/component/status.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::limits;

/// Serves the document that `describe` gives until the task is dropped.
pub async fn serve(
    socket: &Path,
    describe: impl Fn() -> Value + Send + Sync + 'static,
) -> std::io::Result<()> {
    match std::fs::remove_file(socket) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let (stream, _) = listener.accept().await?;
        if let Err(error) = answer(stream, &describe).await {
            tracing::debug!(%error, "status request failed");
        }
    }
}

async fn answer(mut stream: UnixStream, describe: &impl Fn() -> Value) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0u8; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut piece).await?;
        if n == 0 || request.len() + n > limits::STATUS_REQUEST_BYTES {
            return Ok(());
        }
        request.extend_from_slice(&piece[..n]);
    }
    let (code, body) = if request.starts_with(b"GET /status") {
        ("200 OK", describe())
    } else {
        ("404 Not Found", json!({"error": "unknown path"}))
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Asks a running node for its status.
pub async fn ask(socket: &Path) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut all = Vec::new();
    stream.take(1 << 20).read_to_end(&mut all).await?;
    let text = String::from_utf8_lossy(&all);
    let body = text.split_once("\r\n\r\n").map(|(_, b)| b).unwrap_or("");
    serde_json::from_str(body).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_answers_on_its_socket() {
        let socket = std::env::temp_dir().join(format!("k0s-status-{}.sock", std::process::id()));
        let path = socket.clone();
        let server = tokio::spawn(async move { serve(&path, || json!({"Pid": 7})).await });
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        let found = loop {
            match ask(&socket).await {
                Ok(v) => break v,
                Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e}"),
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(found["Pid"], 7);
        server.abort();
        std::fs::remove_file(&socket).expect("the socket is there");
    }
}
