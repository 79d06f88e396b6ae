//! What can go wrong with a call, in the words of Go's HTTP client and of client-go.

use std::error::Error;

use machinery::causes::go_quote;
use serde_json::Value;

use crate::limits;

/// A call that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// Upstream's text.
    pub text: String,
    /// The answer's HTTP code, 0 where there was none.
    pub code: u16,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for CallError {}

impl CallError {
    /// A failure without an answer.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 0,
        }
    }

    /// A failure on the way to a URL.
    pub(crate) fn posting(url: &str, why: impl std::fmt::Display) -> Self {
        Self::new(format!("Post {}: {why}", go_quote(url)))
    }

    /// An answer whose code says that it is none: the Status that it may hold, else what client-go makes of it.
    pub(crate) fn answered(code: u16, is_text: bool, body: &[u8]) -> Self {
        let status: Option<Value> = serde_json::from_slice(body).ok();
        let status = status.filter(|s| s["kind"] == "Status" && s["status"] != "Success");
        let message = status.as_ref().and_then(|s| s["message"].as_str());
        let text = match message.filter(|m| !m.is_empty()) {
            Some(message) => message.to_string(),
            None => generic(code, is_text, body),
        };
        Self { text, code }
    }
}

/// client-go's message for an answer that explains nothing.
fn generic(code: u16, is_text: bool, body: &[u8]) -> String {
    let shown = &body[..body.len().min(limits::ERROR_TEXT)];
    let said = if is_text {
        String::from_utf8_lossy(shown).trim().to_string()
    } else {
        "unknown".to_string()
    };
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 | 415 => said,
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        406 if said.is_empty() || said == "unknown" => {
            "the server was unable to respond with a content type that the client supports".into()
        }
        406 => said,
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
        500.. => format!(
            "an error on the server ({}) has prevented the request from succeeding",
            go_quote(&said)
        ),
        other => format!(
            "the server responded with the status code {other} but did not return more information"
        ),
    }
}

/// The innermost cause of an error, in Go's words where they are known.
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let io = inner.downcast_ref::<std::io::Error>();
    // An I/O error that wraps another tells that one as its text, not as its source.
    let wrapped = io.and_then(|e| e.get_ref());
    if let Some(tls) = wrapped.and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return tls_text(tls);
    }
    if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
        return tls_text(tls);
    }
    if let Some(io) = io
        && io.kind() == std::io::ErrorKind::UnexpectedEof
    {
        return "EOF".into();
    }
    let text = inner.to_string();
    match text.as_str() {
        "connection closed before message completed" => "EOF".into(),
        _ => text,
    }
}

/// Go's words for a failed TLS handshake.
pub fn tls_text(error: &rustls::Error) -> String {
    use rustls::{CertificateError as C, Error as E};
    let refused = |why: String| format!("tls: failed to verify certificate: x509: {why}");
    match error {
        E::InvalidCertificate(why) => match why {
            C::UnknownIssuer => refused("certificate signed by unknown authority".into()),
            C::Expired | C::NotValidYet => {
                refused("certificate has expired or is not yet valid".into())
            }
            C::ExpiredContext { .. } | C::NotValidYetContext { .. } => refused(format!(
                "certificate has expired or is not yet valid: {why}"
            )),
            C::NotValidForNameContext {
                expected,
                presented,
            } => {
                let names: Vec<String> = presented.iter().map(|n| presented_name(n)).collect();
                let wanted = expected.to_str();
                if names.is_empty() {
                    refused(format!(
                        "certificate is not valid for any names, but wanted to match {wanted}"
                    ))
                } else {
                    refused(format!(
                        "certificate is valid for {}, not {wanted}",
                        names.join(", ")
                    ))
                }
            }
            other => refused(other.to_string()),
        },
        E::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        E::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".to_string(),
        other => format!("tls: {other}"),
    }
}

/// `DnsName("a.b")` as rustls shows a certificate's names, bare.
fn presented_name(shown: &str) -> String {
    let inner = shown.split_once("(\"").and_then(|(_, r)| r.split_once('"'));
    inner.map_or_else(|| shown.to_string(), |(name, _)| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_sense_are_told_as_client_go_tells_them() {
        for (code, is_text, body, expected) in [
            (
                404,
                true,
                "404 page not found",
                "the server could not find the requested resource",
            ),
            (
                500,
                true,
                "boom\n",
                "an error on the server (\"boom\") has prevented the request from succeeding",
            ),
            (
                302,
                true,
                "",
                "the server responded with the status code 302 but did not return more information",
            ),
            (
                500,
                false,
                "{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"no\"}",
                "no",
            ),
        ] {
            let e = CallError::answered(code, is_text, body.as_bytes());
            assert_eq!((e.text.as_str(), e.code), (expected, code));
        }
    }
}
