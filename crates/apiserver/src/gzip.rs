//! gzip of large answers. Upstream: responsewriters; api-semantics §3.2.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::body;
use crate::limits;
use crate::response::Answer;

/// Compresses an answer of known size above the limit where the client accepts exactly `gzip`.
pub async fn compressed(answer: Answer, headers: &HeaderMap) -> Answer {
    let accepts = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let wanted = accepts
        .flat_map(|v| v.split(','))
        .any(|t| t.trim() == "gzip");
    let large = answer
        .body()
        .size_hint()
        .exact()
        .is_some_and(|n| n > limits::GZIP_ABOVE as u64);
    if !wanted || !large {
        return answer;
    }
    let (mut parts, whole) = answer.into_parts();
    let Ok(whole) = whole.collect().await else {
        return crate::response::text(500, "the answer could not be read");
    };
    let plain = whole.to_bytes();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(&plain).and_then(|()| encoder.finish());
    match packed {
        Ok(packed) => {
            parts
                .headers
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts
                .headers
                .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            Answer::from_parts(parts, body::full(packed))
        }
        Err(_) => Answer::from_parts(parts, body::full(plain)),
    }
}
