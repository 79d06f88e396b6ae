//! Streams as WebSocket messages: logs and watches for clients that ask for an upgrade.
//! Upstream: k8s.io/streaming wsstream Reader, handlers/watch.go.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use http::StatusCode;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use machinery::ApiError;

use super::ConnectRequest;
use crate::body::{self, Body};
use crate::response::Answer;

/// Subprotocols of a byte stream; `""` is none at all.
const PROTOCOLS: &[&str] = &["", "binary.k8s.io", "base64.binary.k8s.io"];

/// How chunks become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    Binary,
    Text,
    Base64,
    /// Binary, without the length that frames a stream.
    Framed,
}

/// The answer to a WebSocket handshake. `protocol` is echoed where it is not empty.
pub fn handshake(headers: &HeaderMap, protocol: &str) -> Result<Answer, ApiError> {
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return Err(ApiError::bad_request("missing Sec-WebSocket-Key"));
    };
    let mut answer = Answer::new(body::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let h = answer.headers_mut();
    h.insert(UPGRADE, HeaderValue::from_static("websocket"));
    h.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept = accept_key(key.as_bytes());
    let accept = HeaderValue::from_str(&accept).map_err(ApiError::internal)?;
    h.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty()
        && let Ok(value) = HeaderValue::from_str(protocol)
    {
        h.insert("sec-websocket-protocol", value);
    }
    Ok(answer)
}

/// The answer to the handshake of a watch, or a refusal. Upstream: golang.org/x/net/websocket, whose refusals have
/// no headers of their own.
pub fn plain_handshake(headers: &HeaderMap) -> Result<Answer, Box<Answer>> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let refused = |code, why: &'static str| {
        let mut answer = Answer::new(body::full(why));
        *answer.status_mut() = code;
        answer
    };
    if text("sec-websocket-key").is_none_or(str::is_empty) {
        let why = "mismatch challenge/response";
        return Err(Box::new(refused(StatusCode::BAD_REQUEST, why)));
    }
    if text("sec-websocket-version") != Some("13") {
        let mut answer = refused(StatusCode::BAD_REQUEST, "missing or bad WebSocket Version");
        let known = HeaderValue::from_static("13");
        answer.headers_mut().insert("sec-websocket-version", known);
        return Err(Box::new(answer));
    }
    if text("origin").is_none_or(str::is_empty) {
        return Err(Box::new(refused(StatusCode::FORBIDDEN, "")));
    }
    let protocol = text("sec-websocket-protocol").unwrap_or("").trim();
    if protocol.contains(',') {
        return Err(Box::new(refused(StatusCode::BAD_REQUEST, "")));
    }
    handshake(headers, protocol).map_err(|_| Box::new(refused(StatusCode::BAD_REQUEST, "")))
}

/// RFC 6455: SHA-1 of the key and a fixed GUID.
fn accept_key(key: &[u8]) -> String {
    let mut sha = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    sha.update(key);
    sha.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(sha.finish())
}

/// The subprotocols a client offers.
pub fn offered(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all("sec-websocket-protocol").iter();
    values
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|p| p.trim().to_string())
        .filter(|p| !p.is_empty())
        .collect()
}

/// Whether a request's `Upgrade` header names WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok());
    upgrade.is_some_and(|u| u.eq_ignore_ascii_case("websocket"))
}

/// Answers a connect request with a byte stream as messages.
pub fn stream(mut r: ConnectRequest, data: Body) -> Result<Answer, ApiError> {
    let upgrade = r.upgrade.take();
    let (true, Some(upgrade)) = (is_websocket(&r.headers), upgrade) else {
        return Err(ApiError::bad_request("Upgrade request required"));
    };
    let offers = offered(&r.headers);
    let protocol = if offers.is_empty() {
        Some("")
    } else {
        let known = |p: &&str| offers.iter().any(|o| o == p);
        PROTOCOLS.iter().copied().find(known)
    };
    let Some(protocol) = protocol else {
        return Err(ApiError::new(
            403,
            "Forbidden",
            format!("requested protocol(s) are not supported: {offers:?}; supports {PROTOCOLS:?}"),
        ));
    };
    let answer = handshake(&r.headers, protocol)?;
    let messages = if protocol.starts_with("base64") {
        Messages::Base64
    } else {
        Messages::Binary
    };
    tokio::spawn(send(upgrade, data, messages));
    Ok(answer)
}

/// Sends every chunk of a body as one message, then closes. Ends when the client goes away.
pub async fn send(upgrade: OnUpgrade, mut data: Body, messages: Messages) {
    let connection = match upgrade.await {
        Ok(connection) => TokioIo::new(connection),
        Err(error) => {
            tracing::debug!(%error, "connection was not upgraded");
            return;
        }
    };
    let (read, write) = tokio::io::split(connection);
    let ws = WebSocket::after_handshake(tokio::io::join(read, write), Role::Server);
    let (mut incoming, mut outgoing) = ws.split(tokio::io::split);
    incoming.set_auto_close(false);
    incoming.set_auto_pong(false);
    let outgoing_data = async {
        while let Some(frame) = data.frame().await {
            let Ok(Ok(chunk)) = frame.map(http_body::Frame::into_data) else {
                break;
            };
            let frame = match messages {
                Messages::Binary => Frame::binary(Payload::Borrowed(&chunk)),
                Messages::Text => Frame::text(Payload::Borrowed(&chunk)),
                Messages::Framed => Frame::binary(Payload::Borrowed(chunk.get(4..).unwrap_or(&[]))),
                Messages::Base64 => {
                    let text = BASE64_STANDARD.encode(&chunk).into_bytes();
                    Frame::text(Payload::Owned(text))
                }
            };
            if outgoing.write_frame(frame).await.is_err() {
                return;
            }
        }
        // The client may be gone already.
        let _ = outgoing.write_frame(Frame::close(1000, b"")).await;
    };
    let client_gone = async {
        // Whatever the client says is ignored; its close or its absence ends the stream.
        let mut no_replies = |_: Frame<'_>| async { Ok::<(), std::convert::Infallible>(()) };
        while let Ok(frame) = incoming.read_frame(&mut no_replies).await {
            if frame.opcode == OpCode::Close {
                return;
            }
        }
    };
    tokio::select! {
        () = outgoing_data => {}
        () = client_gone => {}
    }
}
