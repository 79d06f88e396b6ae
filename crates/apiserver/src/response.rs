//! Writing answers: objects, Statuses and plain texts in the format that was negotiated.

use std::sync::Arc;

use api::cbor::Order;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use machinery::ApiError;
use serde_json::Value;

use crate::body::{self, Body};
use crate::negotiate::{Format, Media, Transform};

/// Every answer of the server.
pub type Answer = Response<Body>;

/// Where no format was negotiated.
pub const PLAIN: Format = Format {
    media: Media::Json,
    transform: Transform::None,
    pretty: false,
};

/// Encodes a JSON value in a format.
pub fn encode(value: &Value, media: Media, pretty: bool) -> Result<Bytes, ApiError> {
    match media {
        Media::Json if pretty => Ok(serde_json::to_vec_pretty(value)
            .map_err(ApiError::internal)?
            .into()),
        Media::Json => {
            let mut out = serde_json::to_vec(value).map_err(ApiError::internal)?;
            out.push(b'\n');
            Ok(out.into())
        }
        Media::Yaml => Ok(api::yaml::to_string(value).into_bytes().into()),
        Media::Cbor => Ok(api::cbor::encode(value, Order::Any).into()),
        Media::Protobuf => {
            let data = api::protobuf::encode(value).map_err(|e| no_protobuf(&e))?;
            Ok(data.into())
        }
    }
}

/// 406 of an object that has no protobuf form.
pub fn no_protobuf(error: &api::protobuf::ProtobufError) -> ApiError {
    tracing::debug!(%error, "no protobuf form");
    ApiError::not_acceptable(&[Media::Json.text(), Media::Yaml.text()])
}

/// An answer with a body of one buffer.
pub fn bytes(code: u16, content_type: &'static str, data: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(body::full(data));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// An object's stored bytes, which end without a newline.
pub fn stored(code: u16, data: Bytes) -> Answer {
    let mut answer = bytes(code, Media::Json.text(), Bytes::new());
    *answer.body_mut() = body::line(data);
    answer
}

/// An object that takes no transform.
pub fn value(code: u16, object: &Value, format: &Format) -> Answer {
    match encode(object, format.media, format.pretty) {
        Ok(data) => bytes(code, format.media.text(), data),
        Err(e) => error(&e, &PLAIN),
    }
}

/// The Status of a failure, beside the answer that shows it.
#[derive(Clone)]
pub struct Failure(pub Arc<Value>);

/// A Status of a failure.
pub fn error(e: &ApiError, format: &Format) -> Answer {
    let media = format.media;
    let status = e.to_status();
    let data = encode(&status, media, format.pretty).unwrap_or_else(|_| Bytes::from_static(b"{}"));
    let mut answer = bytes(e.code, media.text(), data);
    answer.extensions_mut().insert(Failure(Arc::new(status)));
    let retry = e.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0
        && let Ok(v) = HeaderValue::from_str(&retry.to_string())
    {
        answer.headers_mut().insert(http::header::RETRY_AFTER, v);
    }
    answer
}

/// A plain text, ending in a newline, as Go's `http.Error` writes it.
pub fn text(code: u16, message: &str) -> Answer {
    let mut answer = bytes(code, "text/plain; charset=utf-8", format!("{message}\n"));
    answer.headers_mut().insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    answer
}

/// Plain JSON that is never transformed (discovery, version).
pub fn json(code: u16, object: &Value) -> Answer {
    let mut data = serde_json::to_vec(object).unwrap_or_default();
    data.push(b'\n');
    bytes(code, Media::Json.text(), data)
}

/// Most characters of all warnings before each is cut, and to how many (upstream's warning recorder).
const WARNINGS_LENGTH: usize = 4_096;
const CUT_LENGTH: usize = 256;

/// Adds `Warning` headers, each text once; one with control characters makes none.
pub fn warn(answer: &mut Answer, texts: &[String]) {
    let mut seen: Vec<String> = Vec::new();
    for text in texts {
        let is_shown = !text.is_empty() && !text.contains(char::is_control);
        if is_shown && !seen.contains(text) {
            seen.push(text.clone());
        }
    }
    let total: usize = seen.iter().map(|t| t.chars().count()).sum();
    for text in &mut seen {
        if total > WARNINGS_LENGTH {
            *text = text.chars().take(CUT_LENGTH).collect();
        }
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(v) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(http::header::WARNING, v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_once_and_not_with_control_characters() {
        let mut answer = bytes(200, "text/plain", "");
        let texts = ["a \"b\"", "c\td", "a \"b\"", "", "e\u{85}"].map(String::from);
        warn(&mut answer, &texts);
        let told: Vec<_> = answer
            .headers()
            .get_all(http::header::WARNING)
            .iter()
            .collect();
        assert_eq!(told, ["299 - \"a \\\"b\\\"\""]);
    }
}
