//! grpc.health.v1.Health/Check. Upstream: pkg/probe/grpc. The two messages are small enough to be written
//! and read by hand: a request is field 1 (service), an answer is field 1 (status).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Outcome;
use crate::http_client::{dial, join};
use crate::restart::go_duration;

const SERVING: u8 = 1;

/// Asks the health service; SERVING is success.
pub async fn probe(host: &str, port: u16, service: &str, limit: Duration) -> Outcome {
    let address = join(host, port);
    let stream = match tokio::time::timeout(limit, dial(host, port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {}: context deadline exceeded: connection error: desc = \"transport: Error while dialing: {e}\"",
                go_duration(limit)
            ));
        }
        Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {}: context deadline exceeded",
                go_duration(limit)
            ));
        }
    };
    match tokio::time::timeout(limit, check(TokioIo::new(stream), &address, service)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "timeout: health rpc did not complete within {}",
            go_duration(limit)
        )),
    }
}

async fn check(io: TokioIo<tokio::net::TcpStream>, address: &str, service: &str) -> Outcome {
    let failed = |e: &dyn std::fmt::Display| {
        Outcome::Failure(format!("error: health rpc probe failed: {e}"))
    };
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut sender, connection) = match handshake {
        Ok(pair) => pair,
        Err(e) => return failed(&e),
    };
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(message(service)));
    let outcome = match request {
        Err(e) => failed(&e),
        Ok(request) => match sender.send_request(request).await {
            Err(e) => failed(&e),
            Ok(response) => read(response).await,
        },
    };
    driver.abort();
    outcome
}

/// A length-prefixed HealthCheckRequest.
fn message(service: &str) -> Bytes {
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a);
        let mut n = service.len();
        while n >= 0x80 {
            body.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        body.push(n as u8);
        body.extend_from_slice(service.as_bytes());
    }
    let mut out = BytesMut::with_capacity(5 + body.len());
    out.extend_from_slice(&[0]);
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&body);
    out.freeze()
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Outcome {
    let (parts, body) = response.into_parts();
    let collected = match body.collect().await {
        Ok(collected) => collected,
        Err(e) => return Outcome::Failure(format!("error: health rpc probe failed: {e}")),
    };
    let trailers = collected.trailers().cloned();
    let header = |name: &str| {
        let trailer = trailers.as_ref().and_then(|t| t.get(name));
        let value = trailer.or_else(|| parts.headers.get(name));
        value.and_then(|v| v.to_str().ok()).map(str::to_string)
    };
    let code = header("grpc-status").unwrap_or_else(|| "2".into());
    let text = header("grpc-message").unwrap_or_default();
    match code.as_str() {
        "0" => {}
        "12" => {
            return Outcome::Failure(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {text}"
            ));
        }
        _ => {
            return Outcome::Failure(format!(
                "error: health rpc probe failed: rpc error: code = {} desc = {text}",
                code_name(&code)
            ));
        }
    }
    let bytes = collected.to_bytes();
    // Prefix of 5 bytes, then field 1 as a varint; the default is UNKNOWN.
    let status = match bytes.get(5..7) {
        Some([0x08, status]) => *status,
        _ => 0,
    };
    if status == SERVING {
        return Outcome::Success;
    }
    let name = match status {
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    };
    Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
}

fn code_name(code: &str) -> &str {
    match code {
        "1" => "Canceled",
        "3" => "InvalidArgument",
        "4" => "DeadlineExceeded",
        "5" => "NotFound",
        "7" => "PermissionDenied",
        "8" => "ResourceExhausted",
        "13" => "Internal",
        "14" => "Unavailable",
        "16" => "Unauthenticated",
        _ => "Unknown",
    }
}
