//! Exec, attach and port-forward on the wire: WebSocket channels (`v4.channel.k8s.io`,
//! `v5.channel.k8s.io`), SPDY/3.1, and SPDY tunnelled through WebSocket (KEP-4006).
//! Servers (the kubelet) accept; clients (kubectl) connect. Bytes in between are the caller's.

#![forbid(unsafe_code)]

mod channel;
pub mod limits;
pub mod port_forward;
pub mod remote_command;
pub mod spdy;
#[doc(hidden)]
pub mod untrusted;
mod websocket;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::OnUpgrade;

const PROTOCOL_VERSION: &str = "x-stream-protocol-version";

/// Why an upgrade or a stream failed; the text is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// HTTP status of the answer, where it was not sent yet.
    pub status: http::StatusCode,
    pub message: String,
}

// === Error ===

impl Error {
    /// A request that cannot be upgraded.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: http::StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    /// A connection that broke.
    pub fn broken(message: impl Into<String>) -> Self {
        Self {
            status: http::StatusCode::INTERNAL_SERVER_ERROR,
            message: message.into(),
        }
    }
}

/// The client's first SPDY subprotocol that is known, `default` where it names none.
fn choose_spdy(
    headers: &HeaderMap,
    known: &[&'static str],
    default: Option<&'static str>,
) -> Result<&'static str, Error> {
    let upgrade = headers.get(header::UPGRADE).and_then(|v| v.to_str().ok());
    if !upgrade.is_some_and(|u| u.eq_ignore_ascii_case("SPDY/3.1")) {
        return Err(Error::bad_request("Upgrade request required"));
    }
    let asked: Vec<&str> = headers
        .get_all(PROTOCOL_VERSION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    if asked.is_empty() {
        return default.ok_or_else(|| Error::bad_request("unable to upgrade: no protocol named"));
    }
    let find = |p: &&str| known.iter().find(|k| *k == p).copied();
    asked.iter().find_map(find).ok_or_else(|| Error {
        status: StatusCode::FORBIDDEN,
        message: format!(
            "unable to negotiate protocol: client supports {asked:?}, server accepts {known:?}"
        ),
    })
}

/// Takes the SPDY upgrade out of a request: the 101 to answer and what comes after it.
fn upgrade_spdy<B>(
    request: &mut Request<B>,
    protocol: &'static str,
) -> Result<(Response<Empty<Bytes>>, OnUpgrade), Error> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade =
        upgrade.ok_or_else(|| Error::bad_request("this connection cannot be upgraded"))?;
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "SPDY/3.1"),
        (header::HeaderName::from_static(PROTOCOL_VERSION), protocol),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok((response, upgrade))
}
